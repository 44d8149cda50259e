"""Keyword arguments that are passed on, so that editors complete them and type checkers know them."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypedDict

import torch

from vfm_isbench.acceleration.speed import Speed
from vfm_isbench.errors import WeightsError
from vfm_isbench.protocol import Protocol
from vfm_isbench.results.display import shortened
from vfm_isbench.upsamplers import LoadOptions, Upsampler


class BenchmarkOptions(TypedDict, total=False):
    """Keyword arguments of :class:`vfm_isbench.Benchmark` and :func:`vfm_isbench.evaluate`, all optional.

    A test keeps names and types equal to those of :class:`vfm_isbench.Benchmark`, which describes them.
    """

    device: str | torch.device
    data_root: str | Path | None
    output_dir: str | Path | None
    backbone_weights: str | Path | None
    workers: int
    progress: bool
    overwrite: bool
    load_options: LoadOptions | None
    speed: Speed | None
    checkpoint_minutes: float
    random_weights: bool
    boundary_iou: bool


class LoadingOptions(TypedDict, total=False):
    """Keyword arguments of :func:`vfm_isbench.runs.load_trained`, which describes them, all optional."""

    upsampler: Upsampler | str | None
    backbone_weights: str | Path | None
    load_options: LoadOptions | None
    device: str | torch.device
    random_weights: bool


def check_random(random_weights: bool, backbone_weights: Path | None) -> bool:
    """Return ``random_weights``, if it does not contradict weights that were given.

    Raises:
        WeightsError: if it does.
    """
    if random_weights and backbone_weights is not None:
        raise WeightsError(
            f"random weights were asked for, and also those at {backbone_weights}; leave out random_weights=True "
            "(command line: --random-weights) or backbone_weights=… (--backbone-weights)"
        )
    return random_weights


def check_options(function: str, given: Mapping[str, Any], more: Iterable[str], protocol: Protocol | str) -> None:
    """Refuse keyword arguments of names that do not exist, and say which one was meant.

    Args:
        function: The function that they were given to, as the user calls it.
        given: What belongs into :class:`BenchmarkOptions`.
        more: Names of the keyword arguments that the function takes besides.
        protocol: The protocol; its fields are often taken for keyword arguments.

    Raises:
        TypeError: for the first name that does not exist.
    """
    known = [*more, *BenchmarkOptions.__annotations__]
    fields = [field.name for field in dataclasses.fields(Protocol)]
    for name, value in given.items():
        if name in known:
            continue
        if name in fields:
            start = f"Protocol.preset({protocol!r})" if isinstance(protocol, str) else "protocol"
            raise TypeError(
                f"{function}() has no argument {name!r}, because that is a field of the protocol: give "
                f"{start}.replace({name}={shortened(repr(value))}) as protocol"
            )
        nearest = difflib.get_close_matches(name, known, n=1)
        meant = f". Did you mean {nearest[0]!r}?" if nearest else "."
        raise TypeError(f"{function}() has no argument {name!r}{meant} It takes {', '.join(known)}")
