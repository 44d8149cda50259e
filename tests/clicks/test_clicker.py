"""The evaluation clicker against a search for the deepest error pixel."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vfm_isbench.clicks import next_click
from vfm_isbench.types import Array, Click

SHAPE = (9, 11)


@st.composite
def situations(draw: st.DrawFn) -> tuple[Array, Array, Array]:
    """Ground truth of blocks, a prediction of blocks, and some clicked pixels."""
    truth = np.zeros(SHAPE, np.int8)
    prediction = np.zeros(SHAPE, bool)
    for value in draw(st.lists(st.sampled_from([1, -1, 0]), min_size=1, max_size=3)):
        truth[draw(blocks)] = value
    for marked in draw(st.lists(st.booleans(), max_size=3)):
        prediction[draw(blocks)] = marked
    clicked = draw(hnp.arrays(np.bool_, SHAPE, fill=st.just(False)))
    return truth, prediction, clicked


def _slices(rows: tuple[int, int], cols: tuple[int, int]) -> tuple[slice, slice]:
    return slice(min(rows), max(rows) + 1), slice(min(cols), max(cols) + 1)


_row, _col = st.integers(0, SHAPE[0] - 1), st.integers(0, SHAPE[1] - 1)
blocks = st.builds(_slices, st.tuples(_row, _row), st.tuples(_col, _col))


def squared_depth(error: Array, row: int, col: int) -> Fraction:
    """Squared distance to the nearest pixel without this error; the frame around the image is without error."""
    if not error[row, col]:
        return Fraction(0)
    height, width = error.shape
    return min(
        Fraction((row - r) ** 2 + (col - c) ** 2)
        for r in range(-1, height + 1)
        for c in range(-1, width + 1)
        if not (0 <= r < height and 0 <= c < width and error[r, c])
    )


def expected_click(truth: Array, prediction: Array, clicked: Array) -> Click:
    best: tuple[Fraction, Click] | None = None
    # False positives first, so that a tie between the two kinds is a negative click.
    for is_positive, error in (
        (False, (truth == 0) & prediction),
        (True, (truth == 1) & ~prediction),
    ):
        for row, col in np.ndindex(*SHAPE):
            depth = Fraction(0) if clicked[row, col] else squared_depth(error, row, col)
            if best is None or depth > best[0]:
                best = depth, Click(row, col, is_positive)
    assert best is not None
    return best[1]


@settings(deadline=None, max_examples=60)
@given(situations())
def test_clicks_the_first_of_the_deepest_error_pixels(situation: tuple[Array, Array, Array]) -> None:
    assert next_click(*situation) == expected_click(*situation)


@settings(deadline=None)
@given(situations())
def test_hits_an_error_of_its_sign_and_never_a_clicked_pixel(situation: tuple[Array, Array, Array]) -> None:
    truth, prediction, clicked = situation
    click = next_click(truth, prediction, clicked)
    at = int(click.row), int(click.col)
    errors = (truth != -1) & ((truth == 1) != prediction) & ~clicked
    if errors.any():
        assert errors[at]
        assert click.is_positive == (truth[at] == 1)
    else:
        assert click == Click(0, 0, False)


def test_the_first_click_is_the_middle_of_the_object() -> None:
    truth = np.zeros((20, 30), np.int8)
    truth[5:12, 8:15] = 1
    nothing = np.zeros(truth.shape, bool)
    assert next_click(truth, nothing, nothing) == Click(8, 11, True)


def test_equally_deep_errors_of_both_kinds_give_a_negative_click() -> None:
    truth = np.zeros((7, 14), np.int8)
    truth[1:6, 1:6] = 1
    prediction = np.zeros(truth.shape, bool)
    prediction[1:6, 8:13] = True
    assert next_click(truth, prediction, np.zeros(truth.shape, bool)) == Click(3, 10, False)
