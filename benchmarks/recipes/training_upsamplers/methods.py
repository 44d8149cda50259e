"""The methods by name, with the settings for 20 minutes on one CPU core each."""

from __future__ import annotations

from typing import TypedDict

from training_upsamplers.lift import TrainLiFT
from training_upsamplers.method import Method


class Defaults(TypedDict):
    """Settings of a method, see :class:`training_upsamplers.loop.Settings`."""

    steps: int
    batch_size: int
    learning_rate: float


METHODS: dict[str, type[Method]] = {"lift": TrainLiFT}
DEFAULTS: dict[str, Defaults] = {"lift": {"steps": 1500, "batch_size": 8, "learning_rate": 1e-3}}
