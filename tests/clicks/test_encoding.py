"""Clicks as tensors: the slots, and disks against a test of every pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vfm_isbench.clicks import click_maps, disk_maps, points_tensor
from vfm_isbench.types import Click

# Quarter pixels are exact in float32, so that "on the circle" means the same in both implementations.
coordinates = st.integers(-40, 120).map(lambda quarters: quarters / 4)
clicks = st.builds(Click, coordinates, coordinates, st.booleans())


@settings(deadline=None)
@given(st.lists(st.lists(clicks, max_size=4), min_size=1, max_size=3), st.sampled_from([0.5, 2.0, 5.0, 7.25]))
def test_disks_hold_the_pixels_within_the_radius(batch: list[list[Click]], radius: float) -> None:
    height, width = 17, 23
    expected = np.zeros((len(batch), 2, height, width))
    for index, image in enumerate(batch):
        for click in image:
            if click.row < 0 and click.col < 0:
                continue  # beyond the upper left corner: counts as an unused slot
            for row, col in np.ndindex(height, width):
                if (row - click.row) ** 2 + (col - click.col) ** 2 <= radius**2:
                    expected[index, 0 if click.is_positive else 1, row, col] = 1
    np.testing.assert_array_equal(disk_maps(points_tensor(batch), height, width, radius).numpy(), expected)


@given(st.lists(st.lists(clicks, max_size=4), min_size=1, max_size=3))
def test_positive_slots_come_first_and_keep_their_order(batch: list[list[Click]]) -> None:
    points = points_tensor(batch, slots=4)
    assert points.shape == (len(batch), 8, 2)
    for image, rows in zip(batch, points.tolist(), strict=True):
        for sign, slots in ((True, rows[:4]), (False, rows[4:])):
            wanted = [[click.row, click.col] for click in image if click.is_positive is sign]
            assert slots == wanted + [[-1.0, -1.0]] * (4 - len(wanted))


def test_slots_fit_the_fullest_image() -> None:
    three = [Click(1, 2, False)] * 3
    assert points_tensor([[], three]).shape == (2, 6, 2)
    assert points_tensor([[], []]).shape == (2, 2, 2)


def test_too_many_clicks_for_the_slots_are_refused() -> None:
    with pytest.raises(ValueError, match="3 clicks .* 2 slots"):
        points_tensor([[Click(0, 0, True)] * 3], slots=2)


def test_no_clicks_give_empty_maps() -> None:
    assert disk_maps(points_tensor([[], []]), 5, 6).tolist() == torch.zeros(2, 2, 5, 6).tolist()


def test_the_click_map_is_previous_mask_then_positive_then_negative_disks() -> None:
    previous = torch.rand(1, 1, 8, 9, generator=torch.Generator().manual_seed(0))
    maps = click_maps(points_tensor([[Click(1, 1, True), Click(6, 7, False)]]), previous, radius=1.0)
    torch.testing.assert_close(maps[:, :1], previous, rtol=0, atol=0)
    assert maps[0, 1].nonzero().tolist() == [[0, 1], [1, 0], [1, 1], [1, 2], [2, 1]]
    assert maps[0, 2].nonzero().tolist() == [[5, 7], [6, 6], [6, 7], [6, 8], [7, 7]]
