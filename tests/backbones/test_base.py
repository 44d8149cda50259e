"""The grid of a backbone."""

from __future__ import annotations

import pytest

from vfm_isbench.errors import ProtocolError
from vfm_isbench.testing.fakes import FakeBackbone


def test_the_grid_has_a_cell_per_patch() -> None:
    assert FakeBackbone(patch_size=14).grid(224) == 16


def test_a_size_between_two_grids_is_refused_with_both_neighbours() -> None:
    with pytest.raises(ProtocolError, match="image_size 225 is not a multiple of 14.*'fake'; use 224 or 238"):
        FakeBackbone(patch_size=14).grid(225)
