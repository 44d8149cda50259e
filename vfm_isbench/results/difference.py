"""The difference between two sides in one score on one data set."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from vfm_isbench.errors import ComparisonError
from vfm_isbench.results.intervals import Estimate
from vfm_isbench.results.object_scores import Metric
from vfm_isbench.results.sides import Pair

_SAME = 1e-9
"""An object's scores that differ by less count as equal, because means over seeds are rounded."""


@dataclass(frozen=True)
class Difference:
    """Two sides compared by one score on one data set.

    Attributes:
        dataset: Data set.
        metric: Name of the score.
        first: Label of the first side.
        second: Label of the second side.
        first_seeds: Training seeds of the first side that are compared.
        second_seeds: Training seeds of the second side.
        paired_seeds: Whether differences are taken seed by seed.
        objects: Number of objects.
        images: Number of images that contain them.
        first_value: Score of the first side, mean over seeds: clicks, or IoU in [0, 1].
        second_value: Score of the second side.
        difference: Second minus first, with its interval. All NaN if early stopping left a score missing.
        better: Share of objects that are better on the second side (mean over seeds): fewer clicks, or higher IoU.
        equal: Share of objects that are equal.
        worse: Share of objects that are worse.
        first_at_cap: NoC: number of objects whose clicks equal the cap, mean over seeds; NaN for IoU.
        second_at_cap: The same for the second side.
    """

    dataset: str
    metric: str
    first: str
    second: str
    first_seeds: tuple[int, ...]
    second_seeds: tuple[int, ...]
    paired_seeds: bool
    objects: int
    images: int
    first_value: float
    second_value: float
    difference: Estimate
    better: float
    equal: float
    worse: float
    first_at_cap: float
    second_at_cap: float

    @property
    def is_separable(self) -> bool:
        """Whether the interval excludes zero: the two sides do differ in this score."""
        return self.difference.excludes_zero

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: null for what is missing."""
        content: dict[str, Any] = json_ready(dataclasses.asdict(self))
        return content


def difference_of(pair: Pair, metric: Metric, confidence: float) -> Difference:
    """Compare a pair by one score; NaN if the score is missing."""
    first, second = (scores.mean(axis=0) for scores in pair.scores(metric))
    gain = first - second if metric.is_noc else second - first
    is_known = not np.isnan(gain).any()
    better, worse = (float((sign * gain > _SAME).mean()) if is_known else math.nan for sign in (1, -1))
    first_at_cap, second_at_cap = pair.at_cap(metric) if is_known else (math.nan, math.nan)
    return Difference(
        dataset=pair.dataset,
        metric=metric.name,
        first=pair.first.label,
        second=pair.second.label,
        first_seeds=pair.first.seeds,
        second_seeds=pair.second.seeds,
        paired_seeds=pair.paired_seeds,
        objects=len(pair.images),
        images=len(set(pair.images)),
        first_value=float(first.mean()),
        second_value=float(second.mean()),
        difference=pair.difference(metric, confidence),
        better=better,
        equal=float((np.abs(gain) <= _SAME).mean()) if is_known else math.nan,
        worse=worse,
        first_at_cap=first_at_cap,
        second_at_cap=second_at_cap,
    )


def check_confidence(confidence: float, least: float = 0.0) -> None:
    """Refuse a confidence that gives no interval.

    Raises:
        ComparisonError: if it does not lie between ``least`` and 1.
    """
    if not least < confidence < 1:
        raise ComparisonError(f"expected a confidence between {least:g} and 1; got {confidence}")


def json_ready(value: Any) -> Any:
    """A value that JSON can hold: null for NaN and infinity, lists for tuples."""
    if isinstance(value, dict):
        return {key: json_ready(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [json_ready(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
