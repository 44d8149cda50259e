"""NoC and IoU@k against a plain loop, and the rules of the click cap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vfm_isbench.metrics import mean_iou_at, not_reached, number_of_clicks
from vfm_isbench.types import Array

# A coarse grid of values, so that IoUs often equal the threshold exactly.
levels = st.integers(0, 10).map(lambda tenths: tenths / 10)
iou_tables = hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=8), elements=levels)


def clicks_by_loop(row: list[float], threshold: float) -> int:
    for number, iou in enumerate(row, start=1):
        if iou >= threshold:
            return number
    return len(row)


@given(iou_tables, levels)
def test_equals_a_plain_loop(ious: Array, threshold: float) -> None:
    assert number_of_clicks(ious, threshold).tolist() == [clicks_by_loop(row, threshold) for row in ious.tolist()]


@given(iou_tables, levels, levels)
def test_a_higher_threshold_never_takes_fewer_clicks(ious: Array, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert (number_of_clicks(ious, low) <= number_of_clicks(ious, high)).all()


@given(iou_tables, levels)
def test_stays_within_one_and_the_cap(ious: Array, threshold: float) -> None:
    counts = number_of_clicks(ious, threshold)
    assert counts.min() >= 1
    assert counts.max() <= ious.shape[1]


@given(iou_tables, levels)
def test_clicks_after_the_threshold_is_reached_change_nothing(ious: Array, threshold: float) -> None:
    """Stopping once the threshold is reached would give the same count."""
    stopped = ious.copy()
    for row, count in zip(stopped, number_of_clicks(ious, threshold), strict=True):
        row[count:] = 0
    assert (number_of_clicks(stopped, threshold) == number_of_clicks(ious, threshold)).all()


def test_the_cap_counts_as_not_reached_even_if_reached_there() -> None:
    ious = np.array([[0.1, 0.2, 0.95], [0.1, 0.2, 0.3], [0.1, 0.9, 0.1]])
    assert number_of_clicks(ious, 0.9).tolist() == [3, 3, 2]
    assert not_reached(ious, 0.9) == 2


@given(iou_tables, st.data())
def test_mean_iou_is_that_of_one_column(ious: Array, data: st.DataObject) -> None:
    clicks = data.draw(st.integers(1, ious.shape[1]))
    assert mean_iou_at(ious, clicks) == pytest.approx(sum(row[clicks - 1] for row in ious.tolist()) / len(ious))


@pytest.mark.parametrize("clicks", [0, 4, -1])
def test_iou_at_a_click_that_was_not_placed_is_refused(clicks: int) -> None:
    with pytest.raises(ValueError, match=f"IoU@{clicks}.* 3 clicks"):
        mean_iou_at(np.zeros((2, 3)), clicks)


@pytest.mark.parametrize("shape", [(3,), (0, 3), (3, 0), (2, 2, 2)])
def test_a_table_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="objects, clicks"):
        number_of_clicks(np.zeros(shape), 0.9)
