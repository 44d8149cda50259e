"""The scores of results with their intervals, as every format needs them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from vfm_isbench.errors import ComparisonError, IncomparableError
from vfm_isbench.results.comparability import why_incomparable
from vfm_isbench.results.dataset_result import DatasetResult
from vfm_isbench.results.intervals import CONFIDENCE, Estimate, estimate_mean
from vfm_isbench.results.object_scores import Metric, object_scores
from vfm_isbench.results.sides import Side
from vfm_isbench.types import Array, ObjectId

STANDARD = ("noc80", "noc85", "noc90", "iou_at_1", "iou_at_5", "mean_iou")
"""Scores of formats that list a few; those beyond the click cap are left out."""


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """A score of one upsampler on one data set: the mean over objects and training seeds.

    Attributes:
        side: The upsampler with its results.
        dataset: Data set.
        metric: The score.
        estimate: Value, interval and standard errors.
        objects: Number of objects.
        images: Number of images.
        deviation: Standard deviation from object to object, with the mean over seeds of each.
        cap: Clicks per object.
    """

    side: Side
    dataset: str
    metric: Metric
    estimate: Estimate
    objects: int
    images: int
    deviation: float
    cap: int

    @property
    def value(self) -> float:
        """The score: clicks, or IoU in [0, 1]."""
        return self.estimate.value

    @property
    def has_interval(self) -> bool:
        """Whether there is an interval; objects of a single image give none."""
        return math.isfinite(self.estimate.low) and math.isfinite(self.estimate.high)

    @property
    def description(self) -> str:
        """What the score is, in a sentence without a full stop."""
        if self.metric.threshold is not None:
            return (
                f"mean number of simulated clicks to reach an IoU of {self.metric.threshold} %, at most {self.cap}; "
                "fewer is better"
            )
        if self.metric.name == "iou_auc":
            return (
                "normalised area under the curve of the mean intersection over union of mask and object over clicks "
                f"1 to {self.cap}, where the first and the last click count half; more is better"
            )
        clicks = f"over clicks 1 to {self.cap}" if self.metric.clicks is None else f"after click {self.metric.clicks}"
        return f"mean intersection over union of mask and object {clicks}; more is better"

    def shown(self, value: float, *, digits: int = 2) -> str:
        """A value of this score as tables show it: clicks, or IoU in percent.

        Args:
            value: A value in the unit of the score.
            digits: Decimal places.
        """
        return f"{value if self.metric.is_noc else 100 * value:.{digits}f}"


def scores_of(side: Side, metrics: Sequence[str] | None = None, confidence: float = CONFIDENCE) -> list[Score]:
    """The scores of one upsampler on all its data sets, in their order.

    Args:
        side: The upsampler, with one result per training seed.
        metrics: Names of scores; None for :data:`STANDARD` as far as the clicks go.
        confidence: Confidence of the intervals.

    Returns:
        The scores that are known; early stopping may leave some unknown.

    Raises:
        ComparisonError: if a metric does not exist, or the seeds do not have the same data sets.
        IncomparableError: if seeds were measured under different protocols or on different data.
    """
    check_seeds(side)
    found = []
    for name, dataset in side.results[0].datasets.items():
        wanted = [metric for metric in map(Metric.named, STANDARD) if (metric.clicks or 0) <= dataset.max_clicks]
        named = wanted if metrics is None else [Metric.named(metric) for metric in metrics]
        found += [
            score for metric in named if not math.isnan((score := score_of(side, name, metric, confidence)).value)
        ]
    return found


def score_of(side: Side, dataset: str, metric: Metric, confidence: float = CONFIDENCE) -> Score:
    """One score on one data set; its value is NaN if it is unknown."""
    scores, images = _scores(side, dataset, metric)
    first = side.results[0].datasets[dataset]
    estimate = estimate_mean(scores, images, confidence=confidence, limits=metric.limits(first.max_clicks))
    return Score(
        side=side,
        dataset=dataset,
        metric=metric,
        estimate=estimate,
        objects=len(images),
        images=len(set(images)),
        deviation=float(scores.mean(axis=0).std()),
        cap=first.max_clicks,
    )


def check_seeds(side: Side) -> None:
    """Check that the results of one upsampler have the same data sets, and may be combined on each of them.

    Raises:
        ComparisonError, IncomparableError: if not.
    """
    for first, other in combinations(side.results, 2):
        seeds = f"{side.label}, seeds {first.protocol.seed} and {other.protocol.seed}"
        if list(first.datasets) != list(other.datasets):
            raise ComparisonError(
                f"{seeds} have different data sets ({', '.join(first.datasets)}; {', '.join(other.datasets)}); "
                "export them one by one"
            )
        reasons = [reason for name in first.datasets for reason in why_incomparable(first, other, name)]
        if reasons:
            raise IncomparableError(f"{seeds} are incomparable: {'; '.join(dict.fromkeys(reasons))}")


def _scores(side: Side, dataset: str, metric: Metric) -> tuple[Array, list[str]]:
    """S×N scores with the objects in the order of the first seed, and the image of each object."""
    order = side.results[0].datasets[dataset].object_ids
    rows = [_in_order(result.datasets[dataset], metric, order) for result in side.results]
    return np.stack(rows), [object_id.image for object_id in order]


def _in_order(found: DatasetResult, metric: Metric, order: Sequence[ObjectId]) -> Array:
    places = {object_id: place for place, object_id in enumerate(found.object_ids)}
    in_order: Array = object_scores(found, metric)[[places[object_id] for object_id in order]]
    return in_order
