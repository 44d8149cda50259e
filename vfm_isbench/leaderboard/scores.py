"""Scores of an entry over its training seeds, with confidence intervals. Missing scores stay missing."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from vfm_isbench.leaderboard.entry import Entry
from vfm_isbench.results.intervals import Estimate, estimate_mean
from vfm_isbench.results.object_scores import Metric, object_scores
from vfm_isbench.types import Array

METRICS = ("noc80", "noc85", "noc90", "iou_at_1")
"""Scores that the leaderboard shows with an interval: mean clicks, and IoU in [0, 1]."""

FURTHER = ("noc95", "nof90", "iou_auc", "boundary_iou_at_5")
"""Scores that it shows without, in the details of an entry."""


def per_object(entry: Entry, dataset: str, metric: str) -> Array:
    """S×N float64: a score of N objects for each of S training seeds; NaN if it needs a missing IoU."""
    return np.stack([object_scores(run.datasets[dataset], Metric.named(metric)) for run in entry.runs])


def images_of(entry: Entry, dataset: str) -> list[str]:
    """Image of each object, in the order of the columns of :func:`per_object`."""
    return [object_id.image for object_id in entry.datasets[dataset].object_ids]


# Cached: the table, the page and the ranks all need it.
@lru_cache(maxsize=4096)
def _estimate(scores: bytes, shape: tuple[int, int], images: tuple[str, ...], limits: tuple[float, float]) -> Estimate:
    return estimate_mean(np.frombuffer(scores).reshape(shape), images, limits=limits)


def score(entry: Entry, dataset: str, metric: str) -> Estimate | None:
    """A score over objects and seeds with its interval; None if it is missing."""
    scores = np.ascontiguousarray(per_object(entry, dataset, metric), dtype=np.float64)
    limits = Metric.named(metric).limits(entry.protocol.max_clicks)
    images = tuple(images_of(entry, dataset))
    estimate = _estimate(scores.tobytes(), (scores.shape[0], scores.shape[1]), images, limits)
    return None if math.isnan(estimate.value) else estimate


def at_the_cap(entry: Entry, dataset: str, metric: str = "noc90") -> float | None:
    """Number of objects whose clicks equal the cap, averaged over seeds; None if the score is missing."""
    counts = per_object(entry, dataset, metric)
    if np.isnan(counts).any():
        return None
    return float((counts == entry.protocol.max_clicks).sum(axis=1).mean())


def further_scores(entry: Entry, dataset: str) -> dict[str, float | None]:
    """Scores that the leaderboard shows without an interval, averaged over seeds; None if one is missing."""
    found = [run.datasets[dataset].scores() for run in entry.runs]
    means = {name: float(np.mean([scores.get(name, math.nan) for scores in found])) for name in FURTHER}
    return {name: None if math.isnan(mean) else mean for name, mean in means.items()}


def curve(entry: Entry, dataset: str) -> list[float | None]:
    """Mean IoU after click 1 … K; None if an IoU is missing."""
    means = np.stack([run.datasets[dataset].ious for run in entry.runs]).mean(axis=(0, 1))
    return [None if math.isnan(mean) else float(mean) for mean in means]
