"""IoU against a count of pixels one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vfm_isbench.metrics import intersection_over_union
from vfm_isbench.types import Array

shapes = hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)


@st.composite
def masks(draw: st.DrawFn) -> tuple[Array, Array]:
    """A ground truth with ignored pixels, and a prediction of the same shape."""
    shape = draw(shapes)
    truth = draw(hnp.arrays(np.int8, shape, elements=st.sampled_from([-1, 0, 1])))
    return truth, draw(hnp.arrays(np.bool_, shape))


def counted_one_by_one(truth: Array, prediction: Array) -> float:
    shared = union = 0
    for wanted, got in zip(truth.ravel().tolist(), prediction.ravel().tolist(), strict=True):
        if wanted == -1:
            continue
        shared += wanted == 1 and got
        union += wanted == 1 or got
    return shared / union if union else 1.0


@given(masks())
def test_equals_a_count_of_pixels(both: tuple[Array, Array]) -> None:
    truth, prediction = both
    value = intersection_over_union(truth, prediction)
    assert value == counted_one_by_one(truth, prediction)
    assert 0 <= value <= 1


@given(masks())
def test_ignored_pixels_do_not_matter(both: tuple[Array, Array]) -> None:
    truth, prediction = both
    turned = np.where(truth == -1, ~prediction, prediction)
    assert intersection_over_union(truth, turned) == intersection_over_union(truth, prediction)


@given(masks())
def test_is_one_only_for_a_perfect_prediction(both: tuple[Array, Array]) -> None:
    truth, prediction = both
    perfect = bool(((truth == 1) == prediction)[truth != -1].all())
    assert (intersection_over_union(truth, prediction) == 1) == perfect


def test_refuses_different_shapes() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(3, 2\)"):
        intersection_over_union(np.zeros((2, 3), np.int8), np.zeros((3, 2), bool))
