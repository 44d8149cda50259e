"""The distance transform against a search over all pixels outside the mask."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vfm_isbench.clicks import distance
from vfm_isbench.clicks.distance import inner_distance, squared_inner_distance
from vfm_isbench.types import Array

batches = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=3, max_dims=3, max_side=10))
masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=10))
# Mostly filled masks, in which distances above 1 occur.
filled_masks = hnp.arrays(
    np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=4, max_side=12), fill=st.just(True)
)


def squared_distances(mask: Array) -> Array:
    padded = np.pad(mask, 1)
    outside = np.argwhere(~padded)
    squared = np.zeros(mask.shape, int)
    for row, col in np.argwhere(mask):
        squared[row, col] = ((outside - (row + 1, col + 1)) ** 2).sum(axis=1).min()
    return squared


@settings(deadline=None)
@given(masks | filled_masks)
def test_equals_a_search_over_all_pixels(mask: Array) -> None:
    np.testing.assert_array_equal(inner_distance(mask), np.sqrt(squared_distances(mask)))


def test_beyond_the_array_is_outside() -> None:
    np.testing.assert_array_equal(inner_distance(np.ones((3, 5), bool))[1], [1, 2, 2, 2, 1])


@settings(deadline=None)
@given(batches)
def test_batches_equal_one_by_one(masks: Array) -> None:
    squared = squared_inner_distance(torch.from_numpy(masks))
    assert squared.dtype == torch.int32
    np.testing.assert_array_equal(squared, [np.round(inner_distance(mask) ** 2) for mask in masks])


def test_a_large_batch_is_compared_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distance, "_VALUES_AT_ONCE", 1)
    rows, cols = np.ogrid[:37, :53]
    masks = np.stack([(rows - 20) ** 2 + (cols - 9) ** 2 < radius**2 for radius in (3, 15, 60)])
    squared = squared_inner_distance(torch.from_numpy(masks))
    np.testing.assert_array_equal(squared, [np.round(inner_distance(mask) ** 2) for mask in masks])
