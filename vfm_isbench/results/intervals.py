"""How certain a mean over objects is: intervals from variance components.

A score varies for two reasons, and an interval that ignores either one is too narrow.

*Objects.* Other photographs would have given other scores. Objects in one image share its difficulty, so their errors
are summed per image before they are squared. If images hold different numbers of objects, there are fewer degrees of
freedom than images.

*Training seeds.* Another seed would have given another probe. Three or five seeds say little about their spread, so
they enter with Student's t. A single seed cannot show it: the error is then missing, and the interval covers only the
choice of objects, for the probe that was trained.

*Together.* What differs from seed to seed *and* from object to object shows in the spread of objects and in the spread
of seeds. It is estimated separately, so that it counts once. :mod:`vfm_isbench.results.variance` has the formulas and
their sources. Nothing is drawn at random: the same data give the same interval, whatever the order of objects and seeds
(up to rounding).

*Limits.* If the limits of the score are given, an interval ends there: no mean lies outside, so cutting costs no
coverage.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vfm_isbench.errors import VfmIsbenchWarning
from vfm_isbench.results.variance import Images, MeanSquares, mean_squares, mean_squares_of_difference
from vfm_isbench.types import Array

CONFIDENCE = 0.95
"""Of two-sided intervals. Each end alone is a one-sided bound with confidence (1 + confidence) / 2."""

UNLIMITED = (-math.inf, math.inf)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its uncertainty, in the unit of the scores. All NaN if a score is missing.

    Attributes:
        value: Mean over seeds and objects, or the difference of two such means.
        low: Lower end of the confidence interval; NaN if all objects lie in one image, which gives no interval.
        high: Upper end, likewise.
        objects_error: Standard error from the choice of objects, clustered by image, with what differs from object to
            object and seed to seed; NaN for a single image.
        seeds_error: Standard error that the training seeds add to it; None if every side has a single seed.
    """

    value: float
    low: float
    high: float
    objects_error: float
    seeds_error: float | None

    @property
    def error(self) -> float:
        """Standard error of both parts together."""
        return math.hypot(self.objects_error, self.seeds_error or 0.0)

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval excludes zero; False if there is no interval."""
        return self.low > 0 or self.high < 0


def estimate_mean(
    scores: Array,
    images: Sequence[str],
    *,
    confidence: float = CONFIDENCE,
    limits: tuple[float, float] = UNLIMITED,
) -> Estimate:
    """Mean over objects and training seeds, with a confidence interval.

    Args:
        scores: S×N: one row per training seed, one column per object. NaN: a missing score.
        images: Image of each of the N objects.
        confidence: Confidence of the two-sided interval, in (0, 1).
        limits: Lowest and highest value of a score, where the interval ends.

    Raises:
        ValueError: if the shapes do not match, there are no objects, or the confidence is out of range.

    >>> import numpy as np
    >>> estimate = estimate_mean(np.array([[2.0, 4.0, 9.0]]), ["a", "b", "b"])
    >>> estimate.value, estimate.seeds_error
    (5.0, None)
    """
    scores = _checked(scores, images)
    grouped = Images.of(images)
    spread = None
    if len(grouped.counts) == 1 and len(scores) > 1:
        spread = float(scores.mean(axis=1).std(ddof=1)) / math.sqrt(len(scores))
    found = mean_squares(scores, grouped) if len(grouped.counts) > 1 else None
    return _estimate(float(scores.mean()), found, spread, confidence, limits)


def estimate_difference(
    first: Array,
    second: Array,
    images: Sequence[str],
    *,
    paired_seeds: bool = False,
    confidence: float = CONFIDENCE,
    limits: tuple[float, float] = UNLIMITED,
) -> Estimate:
    """Difference of two means, second − first, paired by object.

    With ``paired_seeds``, row s of both belongs to the same training seed, and differences are taken seed by seed: a
    seed's effect on both sides cancels, and equal sides differ by exactly zero. Otherwise the seeds of the two sides
    are independent draws. Their variance is then pooled over both sides (S₁ + S₂ − 2 degrees of freedom), which assumes
    that training varies equally on both; a side with a single seed therefore borrows the spread of the other.

    Args:
        first: S₁×N scores.
        second: S₂×N scores of the same objects in the same order.
        images: Image of each of the N objects.
        paired_seeds: Whether rows are paired; requires S₁ = S₂.
        confidence: Confidence of the two-sided interval, in (0, 1).
        limits: Lowest and highest value of a score of one side; the interval ends where differences end.

    Raises:
        ValueError: if the shapes do not match, there are no objects, or the confidence is out of range.
    """
    first, second = _checked(first, images), _checked(second, images)
    widest = limits[1] - limits[0]
    if paired_seeds:
        if len(first) != len(second):
            raise ValueError(f"seeds cannot be paired: {len(first)} and {len(second)} rows")
        return estimate_mean(second - first, images, confidence=confidence, limits=(-widest, widest))
    grouped = Images.of(images)
    spread = None
    if len(grouped.counts) == 1 and (freedom := len(first) + len(second) - 2):
        squares = sum(float(np.square(side - side.mean()).sum()) for side in (first.mean(axis=1), second.mean(axis=1)))
        spread = math.sqrt(squares / freedom * (1 / len(first) + 1 / len(second)))
    found = mean_squares_of_difference(first, second, grouped) if len(grouped.counts) > 1 else None
    value = float((second.mean(axis=0) - first.mean(axis=0)).mean())
    return _estimate(value, found, spread, confidence, (-widest, widest))


def _checked(scores: Array, images: Sequence[str]) -> Array:
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 2 or 0 in scores.shape or scores.shape[1] != len(images):
        raise ValueError(
            f"expected scores of shape (seeds, objects) for {len(images)} objects, both at least 1; got {scores.shape}"
        )
    return scores


def _estimate(
    value: float,
    found: MeanSquares | None,
    spread: float | None,
    confidence: float,
    limits: tuple[float, float],
) -> Estimate:
    """The estimate from its mean squares; without them (a single image), from the spread of the seeds."""
    if not 0 < confidence < 1:
        raise ValueError(f"expected a confidence in (0, 1); got {confidence}")
    if found is None:
        return Estimate(value, math.nan, math.nan, math.nan, spread)
    seeds_error = None if found.seeds is None else math.sqrt(found.seeds_alone)
    if math.isnan(value):
        return Estimate(math.nan, math.nan, math.nan, math.nan, None if seeds_error is None else math.nan)
    quantile = (1 + confidence) / 2
    reach, shift = float(found.reach(quantile)), float(found.shift(quantile))
    low, high = max(value + shift - reach, min(limits[0], value)), min(value + shift + reach, max(limits[1], value))
    return Estimate(value, low, high, math.sqrt(found.objects), seeds_error)


def warn_without_effect(**given: int | None) -> None:
    """Warn about options that once governed draws, if given: intervals are computed now, and nothing is drawn.

    The only place that says so; ``compare``, ``regress`` and ``iou_curves`` still accept them.
    """
    if names := [f"`{name}`" for name, value in given.items() if value is not None]:
        verb = "has" if len(names) == 1 else "have"
        warnings.warn(
            f"{' and '.join(names)} {verb} no effect any more, because intervals are computed, not drawn; later "
            "versions will refuse this",
            VfmIsbenchWarning,
            stacklevel=3,
        )
