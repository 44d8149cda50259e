"""Scores of single objects, which comparisons pair, and from which intervals are computed."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from vfm_isbench.errors import ComparisonError
from vfm_isbench.metrics import iou_auc
from vfm_isbench.results.dataset_result import DatasetResult
from vfm_isbench.types import Array

_NOC = re.compile(r"noc([1-9]\d?)")
_OVER_ALL = {"mean_iou": "mean IoU", "iou_auc": "IoU-AUC"}
"""Scores over all clicks, with their names in tables."""
_IOU_AT = re.compile(r"iou(?:_at_|@)([1-9]\d*)")


@dataclass(frozen=True, slots=True)
class Metric:
    """A score that is a mean over objects.

    Attributes:
        name: Its name in a result's frame: "noc90", "iou_at_1", "mean_iou", "iou_auc".
        threshold: For NoC: the IoU to reach, in percent.
        clicks: For IoU@k: k.
    """

    name: str
    threshold: int | None = None
    clicks: int | None = None

    @classmethod
    def named(cls, name: str) -> Metric:
        """The metric with this name; "iou@5" is another spelling of "iou_at_5".

        >>> Metric.named("iou@5").name
        'iou_at_5'

        Raises:
            ComparisonError: if there is no such metric.
        """
        if found := _NOC.fullmatch(name):
            return cls(name, threshold=int(found[1]))
        if found := _IOU_AT.fullmatch(name):
            return cls(f"iou_at_{found[1]}", clicks=int(found[1]))
        if name in _OVER_ALL:
            return cls(name)
        raise ComparisonError(
            f"unknown metric {name!r}; expected noc80, noc85, noc90 (or another IoU in percent), iou_at_1 or iou@1 "
            "(or another number of clicks), mean_iou or iou_auc"
        )

    @property
    def is_noc(self) -> bool:
        """Whether it counts clicks: fewer is better, and values are censored at the cap."""
        return self.threshold is not None

    @property
    def label(self) -> str:
        """Name in tables."""
        if self.threshold is not None:
            return f"NoC{self.threshold}"
        return _OVER_ALL[self.name] if self.clicks is None else f"IoU@{self.clicks}"

    def limits(self, cap: int) -> tuple[float, float]:
        """Lowest and highest possible value with this many clicks per object.

        >>> Metric.named("noc90").limits(20), Metric.named("mean_iou").limits(20)
        ((1.0, 20.0), (0.0, 1.0))
        """
        return (1.0, float(cap)) if self.is_noc else (0.0, 1.0)

    @property
    def unit(self) -> str:
        """Unit of the values: clicks, or IoU in [0, 1]."""
        return "clicks" if self.is_noc else "IoU"


def object_scores(found: DatasetResult, metric: Metric) -> Array:
    """The metric of each object: N float64. Their mean is the score of the data set.

    NaN if early stopping left out clicks that the metric needs: click k for IoU@k, any click for mean IoU and IoU-AUC;
    NoC is NaN for all objects if its IoU lies above those that the evaluation waited for.

    Raises:
        ComparisonError: if k is larger than the click cap.
    """
    if metric.threshold is not None:
        counts = found.clicks_to(metric.threshold)
        return np.full(len(found.objects), np.nan) if counts is None else counts.astype(np.float64)
    ious = found.ious
    if metric.clicks is None:
        means: Array = iou_auc(ious) if metric.name == "iou_auc" else ious.mean(axis=1)
        return means
    if metric.clicks > found.max_clicks:
        raise ComparisonError(f"{metric.name} asked for, but {found.name} has {found.max_clicks} clicks per object")
    at_click: Array = ious[:, metric.clicks - 1]
    return at_click
