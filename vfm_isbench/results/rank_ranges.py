"""Ranks with ranges: which ranks of an entry the evidence leaves open, for all entries of a board at once.

Entries are ordered by their score. The *range* of an entry goes from 1 + the number of entries shown to be better, to
N − the number of entries shown to be worse. With the given confidence, the true ranks of *all* entries lie in their
ranges at the same time (Mogstad, Romano, Shaikh and Wilhelm 2024, "Inference for ranks"; Klein, Wright and Wieczorek
2020, "A joint confidence region for an overall ranking of populations"). Entries of equal true score may take any of
the ranks that they share; the range covers them all.

A pair is told apart if its paired difference is significant after correction for looking at all pairs:

1. *Errors.* The objects' part of a difference is its variance over images, with all objects of an image together. The
   seeds' part is pooled over all entries, because three seeds of one entry say little: how much more the means of seeds
   vary than what differs from seed to seed *and* object to object explains, as a factor that all entries share. (The
   objects' part already holds the rest.) If all entries have the same training seeds, what a seed does to all of them
   alike cancels in differences, and is left out; otherwise all seeds are independent draws.
2. *Correction.* Normal draws with the estimated covariance of all scores give the distribution of the largest
   standardised difference over all pairs (max-T; the multiplier bootstrap of Chernozhukov, Chetverikov and Kato 2013,
   in which all pairs share the objects). Its quantile says how rare a single difference must be. Entries that move
   together need less correction than independent ones.
3. *Test.* A difference that is so rare under Student's t, with the degrees of freedom of both parts, tells a pair
   apart.

Over several test sets the score is the mean of the scores on each, and its errors are those of the mean of the
differences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from vfm_isbench.results.dataset_result import DatasetResult
from vfm_isbench.results.intervals import CONFIDENCE
from vfm_isbench.results.object_scores import Metric, object_scores
from vfm_isbench.results.variance import Images
from vfm_isbench.types import Array

DRAWS = 10_000
"""Draws of all scores for the correction."""

_CHUNK = 1000
"""Draws at a time: the largest of some thousand pairs of them stays in the processor's cache."""
_DIGITS = 9
"""Scores that agree to this many digits are equal: NoC and IoU are means of few numbers."""


@dataclass(frozen=True, slots=True)
class Place:
    """The place of an entry on a board.

    Attributes:
        value: Score: mean over seeds and objects, then over test sets. NaN: missing; the entry then has no rank.
        rank: 1 + number of entries with a better score; 0 without a score.
        low: Best rank that the evidence leaves open: 1 + number of entries shown to be better.
        high: Worst rank that it leaves open: number of entries − number of those shown to be worse.
        better: Indices of the entries shown to be better.
        worse: Indices of the entries shown to be worse.
    """

    value: float
    rank: int
    low: int
    high: int
    better: tuple[int, ...] = ()
    worse: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.rank} ({self.low}–{self.high})" if self.rank else "–"


@dataclass(frozen=True, eq=False)
class BoardScores:
    """Scores of all entries on one test set.

    Attributes:
        scores: For each entry, S×N: one row per training seed, one column per object.
        images: Image of each of the N objects.
    """

    scores: tuple[Array, ...]
    images: Sequence[str]

    @classmethod
    def of(cls, entries: Sequence[Sequence[DatasetResult]], metric: Metric) -> BoardScores:
        """Scores of entries with the same objects, in any order; each entry has a result per training seed."""
        order = entries[0][0].object_ids

        def scores_of(found: DatasetResult) -> Array:
            scores = object_scores(found, metric)
            if found.object_ids == order:
                return scores
            rows = {object_id: row for row, object_id in enumerate(found.object_ids)}
            in_order: Array = scores[[rows[object_id] for object_id in order]]
            return in_order

        scores = tuple(np.stack([scores_of(found) for found in entry]) for entry in entries)
        return cls(scores, [object_id.image for object_id in order])


def places(
    sets: Sequence[BoardScores],
    seeds: Sequence[Sequence[int]],
    *,
    fewer_is_better: bool = True,
    confidence: float = CONFIDENCE,
    draws: int = DRAWS,
    seed: int = 0,
) -> list[Place]:
    """Rank and range of each entry.

    Args:
        sets: Scores of the same entries on one or several test sets, which weigh the same.
        seeds: Training seeds of each entry, in the order of the rows of its scores.
        fewer_is_better: Whether the lowest score has rank 1.
        confidence: Confidence of all ranges together, in (0, 1).
        draws: Number of draws for the correction.
        seed: Seed of these draws.

    >>> import numpy as np
    >>> difficulty = np.arange(12) % 5
    >>> entries = tuple(np.stack([difficulty + shift + 0.1 * (np.arange(12) % 3)] * 2) for shift in (9.0, 2.0, 2.0))
    >>> [str(place) for place in places([BoardScores(entries, [f"{n}" for n in range(12)])], [(0, 1)] * 3)]
    ['3 (3–3)', '1 (1–2)', '1 (1–2)']
    """
    n_entries = len(seeds)
    missing = [any(np.isnan(found.scores[entry]).any() for found in sets) for entry in range(n_entries)]
    here = [entry for entry in range(n_entries) if not missing[entry]]
    result = [Place(float("nan"), 0, 0, 0)] * n_entries
    if not here:
        return result
    usable = [BoardScores(tuple(found.scores[entry] for entry in here), found.images) for found in sets]
    errors = _errors(usable, [tuple(seeds[entry]) for entry in here])
    sign = 1.0 if fewer_is_better else -1.0
    # [i, j]: how much worse entry j is than entry i.
    worse_by = np.round(sign * (errors.values[None, :] - errors.values[:, None]), _DIGITS)
    shown = (worse_by > 0) & _told_apart(errors, confidence, draws, seed)
    for row, entry in enumerate(here):
        better, worse = np.flatnonzero(shown[:, row]), np.flatnonzero(shown[row])
        result[entry] = Place(
            value=float(errors.values[row]),
            rank=1 + int((worse_by[:, row] > 0).sum()),
            low=1 + len(better),
            high=len(here) - len(worse),
            better=tuple(here[other] for other in better),
            worse=tuple(here[other] for other in worse),
        )
    return result


@dataclass(frozen=True, eq=False)
class _Errors:
    """Scores of N entries, and how far their differences can be trusted.

    Attributes:
        values: N scores.
        objects: N×N, objects' part of the variances of the differences.
        objects_freedom: N×N, its degrees of freedom.
        seeds: N×N, seeds' part.
        seeds_freedom: Its degrees of freedom.
        covariance: N×N, of the scores, regularised; for the correction.
    """

    values: Array
    objects: Array
    objects_freedom: Array
    seeds: Array
    seeds_freedom: float
    covariance: Array

    @property
    def variances(self) -> Array:
        """N×N, of the differences."""
        return self.objects + self.seeds

    def thresholds(self, level: float) -> Array:
        """N×N: standardised differences that are significant at this two-sided level.

        Between the quantiles of Student's t of both parts, by their share of the variance. Satterthwaite's degrees of
        freedom would be too many if the few seeds agree by chance, which makes their part look small.
        """
        from scipy import stats  # here, because importing it takes a second

        objects = stats.t.isf(level / 2, self.objects_freedom)
        seeds = stats.t.isf(level / 2, self.seeds_freedom)
        with np.errstate(divide="ignore", invalid="ignore"):
            squares = (self.objects * objects**2 + self.seeds * seeds**2) / self.variances
        thresholds: Array = np.sqrt(squares)
        return thresholds


def _errors(sets: Sequence[BoardScores], seeds: Sequence[tuple[int, ...]]) -> _Errors:
    n_entries = len(seeds)
    values = np.zeros(n_entries)
    covariance, objects, squares = (np.zeros((n_entries, n_entries)) for _ in range(3))
    for found in sets:
        means = np.stack([scores.mean(axis=0) for scores in found.scores])
        values += means.mean(axis=1) / len(sets)
        deviations = _deviations(means, found.images) / len(sets)
        covariance += _regularised(deviations)
        own = _of_differences(deviations @ deviations.T)
        objects += own
        squares += own**2 / max(deviations.shape[1] - 1, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = np.where(squares > 0, objects**2 / squares, 1.0)
    pool = _seeds_part(sets, seeds)
    parts = pool.variances / np.array([len(own) for own in seeds])
    return _Errors(values, objects, freedom, _sums(parts), pool.freedom, covariance + np.diag(parts))


def _sums(parts: Array) -> Array:
    sums: Array = parts[:, None] + parts[None, :]
    return sums


def _of_differences(covariance: Array) -> Array:
    """N×N variances of the differences of N correlated scores."""
    variances: Array = np.maximum(_sums(np.diag(covariance)) - 2 * covariance, 0.0)
    return variances


def _deviations(scores: Array, images: Sequence[str]) -> Array:
    """…×M: what each image adds to the mean of …×N scores, scaled so that the squares add up to its variance."""
    deviations: Array = scores - scores.mean(axis=-1, keepdims=True)
    grouped = Images.of(images)
    n_images = len(grouped.counts)
    if n_images == 1:
        return np.full((*scores.shape[:-1], 1), np.nan)
    sums: Array = grouped.sums(deviations) * (np.sqrt(n_images / (n_images - 1)) / scores.shape[-1])
    return sums


def _regularised(deviations: Array) -> Array:
    """Covariance of N scores, less what all have in common, shrunk towards independent scores.

    With fewer images than entries, the plain estimate has fewer dimensions than there are entries, and the correction
    would count too few comparisons. The amount is that of Schäfer and Strimmer 2005, "A shrinkage approach to
    large-scale covariance matrix estimation", for variances as they are (target D).
    """
    own = deviations - deviations.mean(axis=0)
    covariance: Array = own @ own.T
    n_images = own.shape[1]
    if n_images == 1:
        return covariance
    noise = (np.square(own) @ np.square(own).T - np.square(covariance) / n_images) * n_images / (n_images - 1)
    off = ~np.eye(len(own), dtype=bool)
    signal = np.square(covariance[off]).sum()
    amount = 1.0 if signal == 0 else min(1.0, float(noise[off].sum() / signal))
    covariance[off] *= 1 - amount
    return covariance


@dataclass(frozen=True, eq=False)
class _SeedsPart:
    """What seeds add to the variance of the mean of one seed, without what the objects' part holds, for N entries.

    Attributes:
        variances: N variances.
        freedom: Degrees of freedom of their common estimate.
    """

    variances: Array
    freedom: float


def _seeds_part(sets: Sequence[BoardScores], seeds: Sequence[tuple[int, ...]]) -> _SeedsPart:
    n_entries = len(seeds)
    is_common = n_entries > 1 and len(set(seeds)) == 1
    freedom = np.array([len(own) - 1.0 for own in seeds])
    if is_common:
        freedom *= (n_entries - 1) / n_entries
    means: list[Any] = [0.0] * n_entries
    inner = np.zeros(n_entries)
    for found in sets:
        rest = [scores - scores.mean(axis=0) for scores in found.scores]
        shared = np.mean(rest, axis=0) if is_common else 0.0
        for entry, own in enumerate(rest):
            left = own - shared
            means[entry] = means[entry] + left.mean(axis=1) / len(sets)
            inner[entry] += float(np.square(_deviations(left, found.images)).sum()) / len(sets) ** 2
    outer = np.array([float(np.square(mean).sum()) for mean in means])
    usable = (freedom > 0) & (inner > 0)
    if not usable.any():
        return _SeedsPart(np.zeros(n_entries), 1.0)
    ratios = outer[usable] / inner[usable]
    ratio = _at_least_one(float(np.average(ratios, weights=freedom[usable])), float(freedom[usable].sum()))
    typical = float(np.average(inner[usable] / freedom[usable]))
    inner = np.where(freedom > 0, inner / np.maximum(freedom, 1e-9), typical)
    return _SeedsPart((ratio - 1) * inner, float(freedom[usable].sum()))


def _at_least_one(ratio: float, freedom: float) -> float:
    """Estimate of a ratio of variances, observed with these degrees of freedom, that is known to be at least 1.

    With few degrees of freedom a ratio near or below 1 is often chance, and to conclude that seeds add nothing would be
    rash. 1 / ratio has a gamma distribution (posterior of a variance under the prior 1 / variance), cut off at 1; this
    is the inverse of its mean.

    >>> [round(_at_least_one(ratio, freedom), 2) for ratio, freedom in ((0.5, 4), (1.0, 400), (9.0, 4))]
    [1.65, 1.06, 9.0]
    """
    half = freedom / 2
    bound = half * ratio
    if bound == 0:
        return 1 + 1 / half
    return float(ratio * special.gammainc(half, bound) / special.gammainc(half + 1, bound))


def _told_apart(errors: _Errors, confidence: float, draws: int, seed: int) -> Array:
    """N×N booleans: whether two entries differ significantly, corrected for all pairs."""
    from scipy import stats

    if not np.isfinite(errors.variances).all():  # all objects lie in one image
        return np.zeros(errors.variances.shape, dtype=bool)
    differences = errors.values[None, :] - errors.values[:, None]
    # What rounding leaves of equal terms is no variance.
    exact = errors.variances <= 1e-12 * max(errors.variances.max(), 1e-12)
    scale = 1 / np.sqrt(np.where(exact, np.inf, errors.variances))
    drawn = _of_differences(errors.covariance)
    drawn_scale = 1 / np.sqrt(np.where(exact | (drawn <= 0), np.inf, drawn))
    largest = _largest_of_all_pairs(errors.covariance, drawn_scale, draws, seed)
    alone = 2 * stats.norm.sf(np.quantile(largest, confidence))
    is_significant = np.abs(differences) * scale >= errors.thresholds(float(alone))
    told_apart: Array = np.where(exact, differences != 0, is_significant)
    return told_apart


def _largest_of_all_pairs(covariance: Array, scale: Array, draws: int, seed: int) -> Array:
    """The largest standardised difference of all pairs in each of many normal draws of all scores."""
    rng = np.random.default_rng(seed)
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))).astype(np.float32)
    weights = scale.astype(np.float32)
    largest = np.zeros(draws, dtype=np.float32)
    for start in range(0, draws, _CHUNK):
        part = largest[start : start + _CHUNK]
        scores = root @ rng.standard_normal((len(root), len(part)), dtype=np.float32)
        for row in range(len(root) - 1):
            apart = scores[row + 1 :] - scores[row]
            np.abs(apart, out=apart)
            apart *= weights[row, row + 1 :, None]
            np.maximum(part, apart.max(axis=0), out=part)
    return largest.astype(np.float64)
