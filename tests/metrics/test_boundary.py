"""Boundary IoU against repeated erosions as published, in plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vfm_isbench.metrics import BoundaryIou, intersection_over_union
from vfm_isbench.metrics.boundary import boundary_of, boundary_width
from vfm_isbench.types import IGNORE, Array

masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=14))


def eroded(mask: list[list[bool]]) -> list[list[bool]]:
    """One erosion with a 3×3 square; background lies around the image."""
    height, width = len(mask), len(mask[0])

    def is_set(row: int, col: int) -> bool:
        return 0 <= row < height and 0 <= col < width and mask[row][col]

    around = [(row, col) for row in (-1, 0, 1) for col in (-1, 0, 1)]
    return [[all(is_set(r + dr, c + dc) for dr, dc in around) for c in range(width)] for r in range(height)]


def published(truth: Array, prediction: Array, width: int) -> float:
    """Boundary IoU of two masks without pixels to ignore, as in the paper: erode, subtract, compare."""
    boundaries = []
    for mask in (truth.tolist(), prediction.tolist()):
        inner = mask
        for _ in range(width):
            inner = eroded(inner)
        boundaries.append(
            {(r, c) for r, row in enumerate(mask) for c, is_set in enumerate(row) if is_set and not inner[r][c]}
        )
    one, other = boundaries
    return len(one & other) / len(one | other) if one | other else 1.0


@settings(max_examples=60)
@given(masks, st.integers(1, 4))
def test_the_boundary_is_what_repeated_erosions_take_away(mask: Array, width: int) -> None:
    inner = mask.tolist()
    for _ in range(width):
        inner = eroded(inner)
    assert (boundary_of(mask, width) == (mask & ~np.array(inner))).all()


@settings(max_examples=60)
@given(st.data())
def test_equals_the_published_definition(data: st.DataObject) -> None:
    # Nine times as wide as high, so that a small image has a boundary of several pixels.
    height, width = data.draw(st.integers(1, 6)), data.draw(st.integers(70, 180))
    blocks = hnp.arrays(np.bool_, (height, 9))
    truth, prediction = (
        np.repeat(data.draw(blocks), -(-width // 9), axis=1)[:, :width],
        np.repeat(data.draw(blocks), -(-width // 9), axis=1)[:, :width],
    )
    wide = max(1, round(0.02 * math.sqrt(height**2 + width**2)))
    found = BoundaryIou(truth.astype(np.int8)).of(prediction)
    assert found == pytest.approx(published(truth, prediction, wide))


@settings(max_examples=60)
@given(st.data())
def test_a_prediction_on_pixels_to_ignore_changes_nothing(data: st.DataObject) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=12))
    truth = data.draw(hnp.arrays(np.int8, shape, elements=st.sampled_from([IGNORE, 0, 1])))
    one, other = (data.draw(hnp.arrays(np.bool_, shape)) for _ in range(2))
    other = np.where(truth == IGNORE, other, one)
    score = BoundaryIou(truth)
    assert score.of(one) == score.of(other)
    assert 0 <= score.of(one) <= 1
    assert score.of(np.where(truth == IGNORE, other, truth == 1)) == 1


def test_a_thin_error_costs_a_large_object_more_than_in_iou() -> None:
    truth = np.zeros((200, 200), np.int8)
    truth[20:180, 20:180] = 1
    prediction = np.zeros((200, 200), bool)
    prediction[22:178, 22:178] = True
    assert intersection_over_union(truth, prediction) > 0.95
    assert BoundaryIou(truth).of(prediction) < 0.6


@pytest.mark.parametrize(
    ("size", "width"), [((480, 854), 20), ((321, 481), 12), ((30, 40), 1), ((1, 1), 1), ((75, 100), 2)]
)
def test_the_width_is_two_percent_of_the_diagonal(size: tuple[int, int], width: int) -> None:
    assert boundary_width(*size) == width


def test_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="ground truth is"):
        BoundaryIou(np.ones((2, 3), np.int8)).of(np.ones((3, 2), bool))
