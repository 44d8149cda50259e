"""The columns that a table of scores may have: their names, headings, cells and meanings."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vfm_isbench.registry.registry import unknown_name
from vfm_isbench.results.dataset_result import THRESHOLDS, DatasetResult
from vfm_isbench.types import is_number

STANDARD = (
    "objects", "noc80", "noc85", "noc90", "iou_at_1", "iou_at_5", "not_reached90", "seconds_per_click",
)  # fmt: skip
"""Columns of the standard table."""

OF_SIZES = ("objects", "noc80", "noc85", "noc90", "nof90", "iou_at_1", "iou_at_5", "iou_auc")
"""Columns of a table by object size, unless others are asked for."""

MISSING = "–"

_OVER_CLICKS = re.compile(r"(iou|boundary_iou)(?:_at_|@)([1-9]\d{0,3})")
_AT_IOU = re.compile(r"(noc|nof|not_reached)([1-9]\d?)")


@dataclass(frozen=True, slots=True)
class RunFigures:
    """What a table may say of a whole run.

    Attributes:
        upsampler: What the result records about its upsampler.
        peak_memory: Bytes by part of the run.
        trained_parameters: Trained parameters by part of the network.
    """

    upsampler: Mapping[str, Any] = field(default_factory=dict)
    peak_memory: Mapping[str, float] = field(default_factory=dict)
    trained_parameters: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Attributes:
        heading: What stands above it.
        cell: Its text for a data set.
        meaning: What it means, for the line below the table; columns of equal meaning share it. May be empty.
    """

    heading: str
    cell: Callable[[DatasetResult, RunFigures], str]
    meaning: str = ""


def columns_named(names: Sequence[str], cap: int) -> list[Column]:
    """The columns with these names, such as "noc95" or "iou@5".

    Args:
        names: Names.
        cap: The protocol's clicks per object.

    Raises:
        UnknownNameError: if there is no column of a name; the message lists all of them.
    """
    return [_column(name, cap) for name in names]


def column_names() -> list[str]:
    """Names of the columns; each number may be another one."""
    at_ious = [f"{kind}{percent}" for kind in ("noc", "nof", "not_reached") for percent in THRESHOLDS]
    return [*at_ious, "iou_at_1", "iou_at_5", "boundary_iou_at_5", *_PLAIN]


def _column(name: str, cap: int) -> Column:
    if found := _AT_IOU.fullmatch(name):
        return _AT_IOU_COLUMNS[found[1]](int(found[2]), cap)
    if found := _OVER_CLICKS.fullmatch(name):
        kind, click = found[1], int(found[2])
        label, meaning = _LABELS[kind]
        return Column(f"{label}@{click}", lambda result, _: _percent(_after(result, kind, click)), meaning)
    if name in _PLAIN:
        return _PLAIN[name]
    raise unknown_name("column", name, column_names())


def _noc(percent: int, cap: int) -> Column:
    meaning = f"NoC: mean clicks to reach an IoU in % (fewer is better, {cap} at most)"
    return Column(f"NoC{percent}", lambda result, _: _number(result.noc(percent)), meaning)


def _nof(percent: int, cap: int) -> Column:
    def cell(result: DatasetResult, _: RunFigures) -> str:
        after = result.failures_after(percent)
        return MISSING if after is None else str(after[-1])

    return Column(f"NoF{percent}", cell, f"NoF: objects that do not reach an IoU in % within {cap} clicks")


def _at_cap(percent: int, cap: int) -> Column:
    def cell(result: DatasetResult, _: RunFigures) -> str:
        counts = result.clicks_to(percent)
        return MISSING if counts is None else str(int((counts == result.max_clicks).sum()))

    heading = f"≥{cap}@{percent}"
    return Column(heading, cell, f"{heading}: objects that need all {cap} clicks for {percent} %")


_AT_IOU_COLUMNS = {"noc": _noc, "nof": _nof, "not_reached": _at_cap}
_LABELS = {
    "iou": ("IoU", "IoU@k: mean IoU in % at click k (IoU@5 is also called 5-mIoU)"),
    "boundary_iou": ("bIoU", "bIoU@k: mean boundary IoU in % at click k"),
}


def _after(result: DatasetResult, kind: str, click: int) -> float:
    values = result.ious if kind == "iou" else result.boundary_ious
    return math.nan if values is None or click > values.shape[1] else float(values[:, click - 1].mean())


def _score(name: str) -> Callable[[DatasetResult, RunFigures], str]:
    return lambda result, _: _percent(result.scores().get(name, math.nan))


def _of_upsampler(key: str, scale: float, digits: int) -> Callable[[DatasetResult, RunFigures], str]:
    return lambda _, run: _recorded(run.upsampler.get(key), scale, digits)


def _of_memory(part: str) -> Callable[[DatasetResult, RunFigures], str]:
    return lambda _, run: _recorded(run.peak_memory.get(part), 2**30, 2)


def _of_trained(part: str) -> Callable[[DatasetResult, RunFigures], str]:
    return lambda _, run: _recorded(run.trained_parameters.get(part), 1e6, 3)


def _recorded(value: Any, scale: float, digits: int) -> str:
    return _number(value / scale, digits) if is_number(value) else MISSING


_TRAINED = "M params clicks, head: trained parameters of click encoder and head, in millions"

_PLAIN: Mapping[str, Column] = {
    "objects": Column("objects", lambda result, _: str(len(result.objects))),
    "iou_auc": Column("IoU-AUC", _score("iou_auc"), "IoU-AUC: area under the IoU over clicks in %"),
    "mean_iou": Column("mean IoU", _score("mean_iou"), "mean IoU: over all clicks, in %"),
    "mean_boundary_iou": Column("mean bIoU", _score("mean_boundary_iou"), "bIoU: boundary IoU in %"),
    "seconds_per_click": Column("s/click", lambda result, _: _recorded(result.seconds_per_click, 1, 3)),
    "parameters": Column("M params", _of_upsampler("n_parameters", 1e6, 2), "M params: the upsampler's, in millions"),
    "click_encoder_parameters": Column("M params clicks", _of_trained("click_encoder"), _TRAINED),
    "head_parameters": Column("M params head", _of_trained("head"), _TRAINED),
    "gflops": Column(
        "GFLOPs", _of_upsampler("flops_per_image", 1e9, 2), "GFLOPs: of the upsampler for one image, in billions"
    ),
    "ms_per_image": Column("ms/image", _of_upsampler("ms_per_image", 1, 1), "ms/image: of the upsampler"),
    "upsampler_memory": Column(
        "GiB upsampler", _of_upsampler("peak_bytes", 2**30, 2), "GiB upsampler: its memory for a batch of training"
    ),
    "training_memory": Column("GiB training", _of_memory("training"), "GiB: peak memory"),
    "evaluation_memory": Column("GiB evaluation", _of_memory("evaluation"), "GiB: peak memory"),
}


def _percent(value: float) -> str:
    return _number(100 * value)


def _number(value: float, digits: int = 2) -> str:
    return MISSING if math.isnan(value) else f"{value:.{digits}f}"
