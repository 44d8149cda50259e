"""NoC and IoU@k against a plain loop, and the rules of the click cap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vfm_isbench.metrics import failure_curve, failures, iou_auc, mean_iou_at, not_reached, number_of_clicks
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


@given(iou_tables, levels)
def test_failures_after_each_click_equal_a_plain_loop(ious: Array, threshold: float) -> None:
    rows = ious.tolist()
    expected = [sum(max(row[:k]) < threshold for row in rows) for k in range(1, ious.shape[1] + 1)]
    assert failure_curve(ious, threshold).tolist() == expected
    assert failures(ious, threshold) == expected[-1] <= not_reached(ious, threshold)


@given(iou_tables, levels)
def test_the_failure_curve_adds_up_to_noc(ious: Array, threshold: float) -> None:
    """An object costs its first click, and one more for every click after which it has not got there."""
    total = len(ious) + failure_curve(ious, threshold)[:-1].sum()
    assert total == number_of_clicks(ious, threshold).sum()


@given(iou_tables)
def test_iou_auc_is_the_area_of_trapezoids(ious: Array) -> None:
    for row, found in zip(ious.tolist(), iou_auc(ious), strict=True):
        area = sum((left + right) / 2 for left, right in zip(row, row[1:], strict=False))
        assert found == pytest.approx(area / (len(row) - 1) if len(row) > 1 else row[0])
        assert 0 <= found <= 1 + 1e-12
    assert iou_auc(ious).mean() == pytest.approx(iou_auc(ious.mean(axis=0, keepdims=True))[0])


def test_a_missing_iou_has_no_area_and_reaches_nothing() -> None:
    ious = np.array([[0.5, np.nan], [0.9, 0.9]])
    assert np.isnan(iou_auc(ious)).tolist() == [True, False]
    assert failure_curve(ious, 0.8).tolist() == [1, 1]
