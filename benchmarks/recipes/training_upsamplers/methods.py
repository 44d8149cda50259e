"""The methods by name, with settings for a few minutes on one CPU core each."""

from __future__ import annotations

from typing import TypedDict

from training_upsamplers.jbu import TrainFeatUpJBU
from training_upsamplers.lift import TrainLiFT
from training_upsamplers.loftup import TrainLoftUp
from training_upsamplers.method import Method


class Defaults(TypedDict):
    """Settings of a method, see :class:`training_upsamplers.loop.Settings`."""

    crops: int
    steps: int
    batch_size: int
    learning_rate: float


METHODS: dict[str, type[Method]] = {"lift": TrainLiFT, "jbu": TrainFeatUpJBU, "loftup": TrainLoftUp}
DEFAULTS: dict[str, Defaults] = {
    "lift": {"crops": 1200, "steps": 3000, "batch_size": 8, "learning_rate": 2e-3},
    "jbu": {"crops": 400, "steps": 600, "batch_size": 2, "learning_rate": 5e-3},
    "loftup": {"crops": 800, "steps": 1600, "batch_size": 3, "learning_rate": 2e-3},
}
