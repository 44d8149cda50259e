"""How certain a mean over objects is: a bootstrap clustered by image, plus the spread between training seeds.

A score varies for two reasons, and an interval that ignores either one is too narrow.

*Objects.* Other photographs would have given other scores. Objects in one image share its difficulty, so whole images
are resampled, with all their objects (Field and Welsh 2007, "Bootstrapping clustered data"). The bootstrap resamples
each object's mean over seeds. With few images, percentiles of the resampled means are too narrow, so deviations are
widened by sqrt(m / (m − 1)) and by the ratio of the quantiles of Student's t with m − 1 degrees of freedom and of the
normal distribution, for m images (Hesterberg 2015, "What teachers should know about the bootstrap").

*Training seeds.* Another seed would have given another probe. Three or five seeds are too few to resample: every ninth
resample of three is one seed three times, and the resampled variance is on average 2/3 of the true one. Instead, the
seeds' error is the standard deviation of the seeds' means (divided by S − 1) over sqrt(S). It enters the interval with
Student's t of S − 1 degrees of freedom, whose 97.5 % quantile is 12.7 for two seeds, 4.3 for three and 2.8 for five,
instead of 1.96. A single seed cannot show this spread: the error is then missing, and the interval covers only the
choice of objects, for the probe that was trained.

*Together.* Every resampled mean is shifted by a draw of the seeds' part, and the interval is cut from the sums. The two
variances add up to slightly too much: both contain what differs from seed to seed *and* from object to object
(σ² / (S·N)). So the interval is slightly too wide, less so the more objects there are.

The same ``seed`` and data give the same interval. Images are resampled in the order of their ids, so the order of
objects and seeds matters only by rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from vfm_isbench.types import Array

RESAMPLES = 10_000
CONFIDENCE = 0.95
_CHUNK = 2_000_000
"""Images drawn at a time: keeps memory to some tens of megabytes."""


@dataclass(frozen=True, slots=True)
class Resampling:
    """How to compute an interval.

    Attributes:
        confidence: Confidence of the two-sided interval, in (0, 1). Each end alone is a one-sided bound with confidence
            (1 + confidence) / 2.
        resamples: Number of resamples of the images.
        seed: Seed of the resampling.

    Raises:
        ValueError: if a number is out of range.
    """

    confidence: float = CONFIDENCE
    resamples: int = RESAMPLES
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1 or self.resamples < 1:
            raise ValueError(
                f"expected a confidence in (0, 1) and resamples ≥ 1; got {self.confidence} and {self.resamples}"
            )


DEFAULT_RESAMPLING = Resampling()


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its uncertainty, in the unit of the scores. All NaN if a score is missing.

    Attributes:
        value: Mean over seeds and objects, or the difference of two such means.
        low: Lower end of the confidence interval; NaN if all objects lie in one image, which gives no interval.
        high: Upper end, likewise.
        objects_error: Standard error from the choice of objects, clustered by image; NaN for a single image.
        seeds_error: Standard error from the training seeds; None if every side has a single seed.
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


def estimate_mean(scores: Array, images: Sequence[str], resampling: Resampling = DEFAULT_RESAMPLING) -> Estimate:
    """Mean over objects and training seeds, with a confidence interval.

    Args:
        scores: S×N: one row per training seed, one column per object. NaN: a missing score.
        images: Image of each of the N objects.
        resampling: How to compute the interval.

    Raises:
        ValueError: if the shapes do not match or there are no objects.

    >>> import numpy as np
    >>> estimate = estimate_mean(np.array([[2.0, 4.0, 9.0]]), ["a", "b", "b"])
    >>> estimate.value, estimate.seeds_error
    (5.0, None)
    """
    scores = _checked(scores, images)
    spread = float(scores.mean(axis=1).std(ddof=1)) if len(scores) > 1 else None
    error = None if spread is None else spread / math.sqrt(len(scores))
    return _estimate(scores.mean(axis=0), images, error, len(scores) - 1, resampling)


def estimate_difference(
    first: Array,
    second: Array,
    images: Sequence[str],
    *,
    paired_seeds: bool = False,
    resampling: Resampling = DEFAULT_RESAMPLING,
) -> Estimate:
    """Difference of two means, second − first, paired by object.

    With ``paired_seeds``, row s of both belongs to the same training seed, and the seeds' error is that of the
    differences, seed by seed: a seed's effect on both sides cancels, and equal sides differ by exactly zero. Otherwise
    the seeds of the two sides are independent draws. Their standard deviation is then pooled over both sides
    (S₁ + S₂ − 2 degrees of freedom), which assumes that training varies equally on both; a side with a single seed
    therefore borrows the spread of the other.

    Args:
        first: S₁×N scores.
        second: S₂×N scores of the same objects in the same order.
        images: Image of each of the N objects.
        paired_seeds: Whether rows are paired; requires S₁ = S₂.
        resampling: How to compute the interval.

    Raises:
        ValueError: if the shapes do not match or there are no objects.
    """
    first, second = _checked(first, images), _checked(second, images)
    if paired_seeds:
        if len(first) != len(second):
            raise ValueError(f"seeds cannot be paired: {len(first)} and {len(second)} rows")
        return estimate_mean(second - first, images, resampling)
    freedom = len(first) + len(second) - 2
    error = None
    if freedom:
        squares = sum(float(np.square(side - side.mean()).sum()) for side in (first.mean(axis=1), second.mean(axis=1)))
        error = math.sqrt(squares / freedom * (1 / len(first) + 1 / len(second)))
    return _estimate(second.mean(axis=0) - first.mean(axis=0), images, error, freedom, resampling)


def _checked(scores: Array, images: Sequence[str]) -> Array:
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 2 or 0 in scores.shape or scores.shape[1] != len(images):
        raise ValueError(
            f"expected scores of shape (seeds, objects) for {len(images)} objects, both at least 1; got {scores.shape}"
        )
    return scores


def _estimate(
    scores: Array, images: Sequence[str], seeds_error: float | None, freedom: int, resampling: Resampling
) -> Estimate:
    """Interval of the mean of N scores, whose seeds' error has the given degrees of freedom."""
    value = float(scores.mean())
    if math.isnan(value):
        return Estimate(math.nan, math.nan, math.nan, math.nan, None if seeds_error is None else math.nan)
    _, groups, counts = np.unique(np.asarray(images, dtype=str), return_inverse=True, return_counts=True)
    n_images = len(counts)
    if n_images == 1:
        return Estimate(value, math.nan, math.nan, math.nan, seeds_error)
    resamples = resampling.resamples
    objects_rng, seeds_rng = (np.random.default_rng(part) for part in np.random.SeedSequence(resampling.seed).spawn(2))
    sums = np.bincount(groups.ravel(), weights=scores - value)
    # Widened as the module's docstring says.
    deviations = _resampled(sums, counts, resamples, objects_rng) * math.sqrt(n_images / (n_images - 1))
    objects_error = float(np.sqrt(np.square(deviations).mean()))
    quantile = (1 + resampling.confidence) / 2
    deviations *= stats.t.ppf(quantile, n_images - 1) / stats.norm.ppf(quantile)
    if seeds_error:
        # One draw from each of ``resamples`` equally probable slices of t: less noise than free draws, the same law.
        slices = (np.arange(resamples) + 0.5) / resamples
        deviations += seeds_error * seeds_rng.permutation(stats.t.ppf(slices, freedom))
    low, high = np.quantile(deviations, [1 - quantile, quantile])
    return Estimate(value, value + float(low), value + float(high), objects_error, seeds_error)


def _resampled(sums: Array, counts: Array, resamples: int, rng: np.random.Generator) -> Array:
    """Means over the objects of resampled images, from the sum of scores and the count of objects of each image."""
    n_images = len(sums)
    means = np.empty(resamples)
    step = max(1, _CHUNK // n_images)
    for start in range(0, resamples, step):
        drawn = rng.integers(n_images, size=(min(step, resamples - start), n_images))
        means[start : start + len(drawn)] = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return means
