"""Confusion counts and mIoU, against sets of pixels."""

from __future__ import annotations

import numpy as np
import pytest

from vfm_isbench.semantic import class_ious, confusion, mean_iou
from vfm_isbench.types import Array


def ious_of_sets(truth: Array, predicted: Array, classes: int) -> list[float]:
    """IoU per class by its definition, from sets of pixel positions."""
    counted = {position for position in np.ndindex(*truth.shape) if truth[position] != 255}
    found = []
    for number in range(classes):
        there = {position for position in counted if truth[position] == number}
        said = {position for position in counted if predicted[position] == number}
        found.append(len(there & said) / len(there | said) if there | said else float("nan"))
    return found


@pytest.mark.parametrize("seed", range(4))
def test_ious_are_those_of_sets_of_pixels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, predicted = rng.integers(0, 4, (2, 3, 9, 7)).astype(np.uint8)  # classes 4 and 5 are never there
    truth[rng.random(truth.shape) < 0.2] = 255
    counts = confusion(truth, predicted, 6)
    expected = ious_of_sets(truth, predicted, 6)
    np.testing.assert_allclose(class_ious(counts), expected)
    assert mean_iou(counts) == pytest.approx(np.nanmean(expected))
    assert counts.sum() == (truth != 255).sum()


def test_a_predicted_class_that_is_not_there_counts_as_zero() -> None:
    counts = confusion(np.zeros(4, np.uint8), np.array([0, 0, 0, 1], np.uint8), 3)
    assert mean_iou(counts) == pytest.approx((0.75 + 0) / 2)


def test_several_sets_of_counts_at_once() -> None:
    counts = np.random.default_rng(0).integers(0, 9, (2, 3, 4, 4))
    np.testing.assert_allclose(mean_iou(counts), [[mean_iou(one) for one in row] for row in counts])


def test_nothing_counted_is_zero_not_nan() -> None:
    assert mean_iou(np.zeros((3, 3), int)) == 0
