"""Whether two tasks order upsamplers alike: intervals of mIoU, and rank correlation with one of NoC.

Images and seeds are drawn with replacement (bootstrap), because mIoU is no mean over images: its pixels are added up
over them first. With three seeds, the part of the interval that is due to seeds is too narrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vfm_isbench.semantic.confusion import mean_iou
from vfm_isbench.types import Array

DRAWS = 1000

_ENDS = (2.5, 97.5)
"""Percentiles of a 95 % interval."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, value: float, drawn: Sequence[float]) -> Interval:
        """From bootstrap samples; those that are not finite do not count."""
        finite = [one for one in drawn if np.isfinite(one)]
        low, high = np.percentile(finite, _ENDS) if finite else (np.nan, np.nan)
        return cls(value, float(low), float(high))


def mean_iou_interval(counts: Array, draws: int = DRAWS, seed: int = 0) -> Interval:
    """Mean mIoU over seeds.

    Args:
        counts: Confusion counts, seeds×images×K×K.
        draws: Bootstrap samples.
        seed: Of the random draws.
    """
    return Interval.of(_mean(counts), [_mean(counts, *drawn) for drawn in _draws(counts.shape, draws, seed)])


def mean_iou_difference(first: Array, second: Array, draws: int = DRAWS, seed: int = 0) -> Interval:
    """Second minus first, paired by image and seed; see :func:`mean_iou_interval`."""
    drawn = [_mean(second, *one) - _mean(first, *one) for one in _draws(first.shape, draws, seed)]
    return Interval.of(_mean(second) - _mean(first), drawn)


def rank_correlation(
    counts: Array,
    counted_images: Sequence[str],
    scores: Array,
    scored_images: Sequence[str],
    *,
    fewer_is_better: bool = True,
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval:
    """Kendall's τ-b between the orders of upsamplers by mIoU and by a score of their objects, such as NoC90.

    1 means that both tasks order them alike, −1 that the orders are reversed. Images that both tasks have are drawn
    together, seeds of each task by themselves.

    Args:
        counts: Confusion counts, upsamplers×seeds×images×K×K.
        counted_images: Id of each of those images.
        scores: Upsamplers×seeds×objects.
        scored_images: Image of each object.
        fewer_is_better: Whether a low score is a good one.
        draws: Bootstrap samples.
        seed: Of the random draws.
    """
    from scipy.stats import kendalltau

    sign = -1.0 if fewer_is_better else 1.0
    names = sorted({*counted_images, *scored_images})
    place = {name: number for number, name in enumerate(names)}
    counted = np.array([place[name] for name in counted_images])
    scored = np.array([place[name] for name in scored_images])
    value = float(kendalltau([_mean(one) for one in counts], sign * scores.mean(axis=(1, 2))).statistic)
    rng = np.random.default_rng([seed, 1])
    drawn = []
    for _ in range(draws):
        times = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))
        weights = times[counted]
        seeds: Array = rng.integers(counts.shape[1], size=(counts.shape[1],))
        ious = [_mean(one, seeds, weights) for one in counts]
        of_objects = times[scored].astype(float)
        other: Array = rng.integers(scores.shape[1], size=(scores.shape[1],))
        means = scores[:, other].mean(axis=1) @ of_objects / max(of_objects.sum(), 1)
        drawn.append(float(kendalltau(ious, sign * means).statistic))
    return Interval.of(value, drawn)


def _mean(counts: Array, seeds: Array | None = None, weights: Array | None = None) -> float:
    """Mean over seeds of the mIoU, with the counts of each image weighted."""
    chosen = counts if seeds is None else counts[seeds]
    total = chosen.sum(axis=1) if weights is None else np.tensordot(chosen, weights, axes=([1], [0]))
    return float(mean_iou(total).mean())


def _draws(shape: tuple[int, ...], draws: int, seed: int) -> list[tuple[Array, Array]]:
    """Indices of seeds, and how often each image was drawn."""
    rng = np.random.default_rng([seed, 0])
    seeds, images = shape[:2]
    return [
        (rng.integers(seeds, size=seeds), np.bincount(rng.integers(images, size=images), minlength=images))
        for _ in range(draws)
    ]
