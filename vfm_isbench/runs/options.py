"""Keyword arguments that are passed on, so that editors complete them and type checkers know them."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

import torch

from vfm_isbench.acceleration.speed import Speed
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


class LoadingOptions(TypedDict, total=False):
    """Keyword arguments of :func:`vfm_isbench.runs.load_trained`, which describes them, all optional."""

    upsampler: Upsampler | str | None
    backbone_weights: str | Path | None
    load_options: LoadOptions | None
    device: str | torch.device
