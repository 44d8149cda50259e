"""Ranks with ranges: which ranks of an entry the evidence leaves open, for all entries of a board at once.

Entries are ordered by their score. The *range* of an entry goes from 1 + the number of entries shown to be better, to
N − the number of entries shown to be worse. With the given confidence, the true ranks of *all* entries lie in their
ranges at the same time (Mogstad, Romano, Shaikh and Wilhelm 2024, "Inference for ranks"; Klein, Wright and Wieczorek
2020, "A joint confidence region for an overall ranking of populations"). Entries of equal true score may take any of the
ranks that they share; the range covers them all.

A pair is told apart if its paired difference is significant after correction for looking at all pairs:

1. *Errors.* The objects' part of a difference is its variance over images, with all objects of an image together. The
   seeds' part is pooled over all entries, because three seeds of one entry say little: it is the variance of a seed's
   mean, less the part that the objects' part already holds (what differs from seed to seed *and* object to object). If
   all entries have the same training seeds, what a seed does to all of them alike cancels in differences, and is left
   out; otherwise all seeds are independent draws.
2. *Correction.* Normal draws with the estimated covariance of all scores give the distribution of the largest
   standardised difference over all pairs (max-T; the multiplier bootstrap of Chernozhukov, Chetverikov and Kato 2013,
   in which all pairs share the resampled objects). Its quantile says how small a single p-value must be. Pairs that
   hardly differ need little correction, because they move together.
3. *Test.* The p-value of each pair is that of Student's t with Satterthwaite's degrees of freedom of both parts.

Over several test sets the score is the mean of the scores on each, and its errors are those of the mean of the
differences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from vfm_isbench.results.bootstrap import DEFAULT_RESAMPLING, Resampling
from vfm_isbench.types import Array

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


def places(
    sets: Sequence[BoardScores],
    seeds: Sequence[Sequence[int]],
    *,
    fewer_is_better: bool = True,
    resampling: Resampling = DEFAULT_RESAMPLING,
) -> list[Place]:
    """Rank and range of each entry.

    Args:
        sets: Scores of the same entries on one or several test sets, which weigh the same.
        seeds: Training seeds of each entry, in the order of the rows of its scores.
        fewer_is_better: Whether the lowest score has rank 1.
        resampling: Confidence of all ranges together, number of draws, and their seed.

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
    shown = (worse_by > 0) & _told_apart(errors, resampling)
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
        covariance: N×N, of the scores: objects' and seeds' part.
        freedom: N×N degrees of freedom of the differences.
    """

    values: Array
    covariance: Array
    freedom: Array

    @property
    def variances(self) -> Array:
        """N×N variances of the differences."""
        own = np.diag(self.covariance)
        return np.maximum(own[:, None] + own[None, :] - 2 * self.covariance, 0.0)


def _errors(sets: Sequence[BoardScores], seeds: Sequence[tuple[int, ...]]) -> _Errors:
    n_entries = len(seeds)
    values, covariance = np.zeros(n_entries), np.zeros((n_entries, n_entries))
    squares = np.zeros((n_entries, n_entries))
    for found in sets:
        means = np.stack([scores.mean(axis=0) for scores in found.scores])
        values += means.mean(axis=1) / len(sets)
        part = _clustered(means, found.images) / len(sets) ** 2
        covariance += part
        own = np.diag(part)
        if (n_images := len(set(found.images))) > 1:
            squares += (own[:, None] + own[None, :] - 2 * part) ** 2 / (n_images - 1)
    pool = _seeds_part(sets, seeds)
    counts = np.array([len(own) for own in seeds], dtype=float)
    covariance += np.diag(pool.net / counts)
    seeds_total = pool.total * (1 / counts[:, None] + 1 / counts[None, :])
    if pool.freedom:
        squares += seeds_total**2 / pool.freedom
    errors = _Errors(values, covariance, np.ones((n_entries, n_entries)))
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = np.where(squares > 0, errors.variances**2 / squares, 1e6)
    return _Errors(values, covariance, np.clip(freedom, 1.0, 1e6))


def _clustered(scores: Array, images: Sequence[str]) -> Array:
    """Covariance of the means of the rows over N objects, by image; NaN for a single image."""
    sums = _by_image(scores - scores.mean(axis=-1, keepdims=True), images)
    n_images = sums.shape[-1]
    if n_images == 1:
        return np.full((len(scores), len(scores)), np.nan)
    covariance: Array = sums @ sums.T * (n_images / (n_images - 1) / scores.shape[-1] ** 2)
    return covariance


def _by_image(scores: Array, images: Sequence[str]) -> Array:
    """Sums over the objects of each image: …×N to …×M."""
    order = np.argsort(np.asarray(images, dtype=str), kind="stable")
    _, starts = np.unique(np.asarray(images, dtype=str)[order], return_index=True)
    sums: Array = np.add.reduceat(scores[..., order], starts, axis=-1)
    return sums


@dataclass(frozen=True, slots=True)
class _SeedsPart:
    """Variance of the mean of one training seed, pooled over entries.

    Attributes:
        total: As observed, with the part that comes from the choice of objects.
        net: Without that part.
        freedom: Degrees of freedom of ``total``; 0 if every entry has a single seed.
    """

    total: float
    net: float
    freedom: int


def _seeds_part(sets: Sequence[BoardScores], seeds: Sequence[tuple[int, ...]]) -> _SeedsPart:
    n_entries = len(seeds)
    is_common = n_entries > 1 and len(set(seeds)) == 1
    freedom = (n_entries - 1) * (len(seeds[0]) - 1) if is_common else sum(len(own) - 1 for own in seeds)
    if not freedom:
        return _SeedsPart(0.0, 0.0, 0)
    means: Any = 0.0  # of each seed of each entry, over all sets
    inner = 0.0
    for found in sets:
        rest = [scores - scores.mean(axis=0) for scores in found.scores if len(scores) > 1]
        if is_common:
            shared = np.mean(rest, axis=0)
            rest = [own - shared for own in rest]
        stacked = np.concatenate(rest)
        means = means + stacked.mean(axis=1) / len(sets)
        sums = _by_image(stacked - stacked.mean(axis=1, keepdims=True), found.images)
        n_images = sums.shape[1]
        if n_images > 1:
            inner += float(np.square(sums).sum()) * n_images / (n_images - 1) / (stacked.shape[1] * len(sets)) ** 2
    total = float(np.square(means).sum()) / freedom
    return _SeedsPart(total, max(0.0, total - inner / freedom), freedom)


def _told_apart(errors: _Errors, resampling: Resampling) -> Array:
    """N×N booleans: whether two entries differ significantly, corrected for all pairs."""
    variances = errors.variances
    if not np.isfinite(variances).all():
        return np.zeros(variances.shape, dtype=bool)
    differences = errors.values[None, :] - errors.values[:, None]
    # What rounding leaves of equal terms is no variance.
    exact = variances <= 1e-12 * np.diag(errors.covariance).max()
    scale = 1 / np.sqrt(np.where(exact, np.inf, variances))
    largest = _largest_of_all_pairs(errors.covariance, scale, resampling)
    alone = 2 * stats.norm.sf(np.quantile(largest, resampling.confidence))
    p_values = 2 * stats.t.sf(np.abs(differences) * scale, errors.freedom)
    told_apart: Array = np.where(exact, differences != 0, p_values <= alone)
    return told_apart


def _largest_of_all_pairs(covariance: Array, scale: Array, resampling: Resampling) -> Array:
    """The largest standardised difference of all pairs in each of many normal draws of all scores."""
    rng = np.random.default_rng(resampling.seed)
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))).astype(np.float32)
    weights = scale.astype(np.float32)
    largest = np.zeros(resampling.resamples, dtype=np.float32)
    for start in range(0, resampling.resamples, _CHUNK):
        part = largest[start : start + _CHUNK]
        draws = root @ rng.standard_normal((len(root), len(part)), dtype=np.float32)
        for row in range(len(root) - 1):
            apart = draws[row + 1 :] - draws[row]
            np.abs(apart, out=apart)
            apart *= weights[row, row + 1 :, None]
            np.maximum(part, apart.max(axis=0), out=part)
    return largest.astype(np.float64)
