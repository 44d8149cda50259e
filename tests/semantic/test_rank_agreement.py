"""Intervals of mIoU and rank correlation between two tasks."""

from __future__ import annotations

import numpy as np
import pytest

from vfm_isbench.semantic.confusion import mean_iou
from vfm_isbench.semantic.rank_agreement import (
    mean_iou_difference,
    mean_iou_interval,
    rank_correlation,
)
from vfm_isbench.types import Array

IMAGES = [f"image {number}" for number in range(30)]


def counts_of(skill: float, rng: np.random.Generator, seeds: int = 2) -> Array:
    """Two classes of 100 pixels per image, of which about the share ``skill`` is right."""
    right = rng.binomial(100, skill, (seeds, len(IMAGES), 2))
    counts = np.empty((seeds, len(IMAGES), 2, 2), int)
    counts[..., 0, 0], counts[..., 1, 1] = right[..., 0], right[..., 1]
    counts[..., 0, 1], counts[..., 1, 0] = 100 - right[..., 0], 100 - right[..., 1]
    return counts


def test_tau_of_ties_only_is_unknown() -> None:
    counts = np.stack([counts_of(0.8, np.random.default_rng(0))] * 3)
    scores = np.arange(3.0)[:, None, None] + np.zeros((3, 2, len(IMAGES)))
    assert np.isnan(rank_correlation(counts, IMAGES, scores, IMAGES, draws=3).value)


def test_an_interval_surrounds_the_mean_over_seeds() -> None:
    counts = counts_of(0.8, np.random.default_rng(0))
    found = mean_iou_interval(counts, draws=200)
    assert found.value == pytest.approx(np.mean([mean_iou(one.sum(axis=0)) for one in counts]))
    assert found.low < found.value < found.high < found.low + 0.05


def test_a_difference_is_paired() -> None:
    first = counts_of(0.8, np.random.default_rng(0))
    second = first.copy()
    second[..., 0, 0] += 1
    second[..., 0, 1] -= 1
    found = mean_iou_difference(first, second, draws=200)
    assert 0 < found.low <= found.value <= found.high
    alone = mean_iou_interval(first, draws=200)
    assert found.high - found.low < 0.1 * (alone.high - alone.low)
    nothing = mean_iou_difference(first, first, draws=50)
    assert (nothing.value, nothing.low, nothing.high) == (0, 0, 0)


def test_tasks_that_agree_and_tasks_that_do_not() -> None:
    rng = np.random.default_rng(1)
    counts = np.stack([counts_of(skill, rng) for skill in (0.6, 0.7, 0.8, 0.9)])
    objects = [name for name in IMAGES for _ in range(2)]
    noc = np.stack([rng.normal(clicks, 0.5, (3, len(objects))) for clicks in (9, 7, 5, 3)])
    agree = rank_correlation(counts, IMAGES, noc, objects, draws=100)
    assert (agree.value, agree.low, agree.high) == (1, 1, 1)
    reverse = rank_correlation(counts, IMAGES, noc[::-1], objects, draws=100)
    assert (reverse.value, reverse.low, reverse.high) == (-1, -1, -1)
    as_scores = rank_correlation(counts, IMAGES, noc, objects, fewer_is_better=False, draws=20)
    assert as_scores.value == -1


def test_close_upsamplers_give_a_wide_interval() -> None:
    rng = np.random.default_rng(2)
    counts = np.stack([counts_of(0.8, rng) for _ in range(4)])
    noc = rng.normal(5, 2, (4, 3, len(IMAGES)))
    found = rank_correlation(counts, IMAGES, noc, [f"other {number}" for number in range(len(IMAGES))], draws=200)
    assert found.high - found.low > 0.5
    assert found == rank_correlation(
        counts, IMAGES, noc, [f"other {number}" for number in range(len(IMAGES))], draws=200
    )
