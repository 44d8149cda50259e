"""Rows taken from strips equal those of the whole map, and each strip is computed once, when it is needed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vfm_isbench.kernels.row_strips import RowsOfStrips, rows_of


def whole(height: int) -> torch.Tensor:
    return torch.arange(2 * height * 3 * 4, dtype=torch.float32).view(2, height, 3, 4)


def cut(cells: torch.Tensor, heights: list[int]) -> Iterator[tuple[int, torch.Tensor]]:
    top = 0
    for height in heights:
        yield top, cells[:, top : top + height]
        top += height


@given(heights=st.lists(st.integers(1, 7), min_size=1, max_size=8), step=st.integers(1, 9), halo=st.integers(0, 3))
def test_overlapping_rows_from_the_top_down(heights: list[int], step: int, halo: int) -> None:
    cells = whole(sum(heights))
    rows = RowsOfStrips(cut(cells, heights))
    for top in range(0, sum(heights), step):
        first, last = max(top - halo, 0), min(top + step + halo, sum(heights))
        torch.testing.assert_close(rows(first, last), cells[:, first:last], rtol=0, atol=0)


def test_strips_are_computed_as_late_as_possible() -> None:
    made = []

    def strips() -> Iterator[tuple[int, torch.Tensor]]:
        for top, strip in cut(whole(12), [4, 4, 4]):
            made.append(top)
            yield top, strip

    rows = RowsOfStrips(strips())
    assert made == []
    rows(0, 4)
    assert made == [0]
    rows(3, 9)
    assert made == [0, 4, 8]


def test_dropped_or_missing_rows_are_refused() -> None:
    rows = RowsOfStrips(cut(whole(8), [4, 4]))
    rows(4, 8)
    with pytest.raises(ValueError, match="were dropped"):
        rows(2, 6)
    with pytest.raises(ValueError, match="beyond the end of the map"):
        rows(6, 9)


def test_rows_of_a_map_in_memory_are_views_of_it() -> None:
    maps = whole(5).permute(0, 3, 1, 2)
    found = rows_of(maps)(1, 3)
    assert found.shape == (2, 2, 3, 4)
    assert found.data_ptr() == maps[:, :, 1:].data_ptr()
