"""The grid of a backbone."""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor

from vfm_isbench.backbones import Backbone
from vfm_isbench.errors import ProtocolError, VfmIsbenchWarning
from vfm_isbench.testing.fakes import FakeBackbone


def test_the_grid_has_a_cell_per_patch() -> None:
    assert FakeBackbone(patch_size=14).grid(224) == 16


def test_a_size_between_two_grids_is_refused_with_both_neighbours() -> None:
    with pytest.raises(ProtocolError, match="image_size 225 is not a multiple of 14.*'fake'; use 224 or 238"):
        FakeBackbone(patch_size=14).grid(225)


class Plain(Backbone):
    """What a plugin writes."""

    def __init__(self, **options: Any) -> None:
        super().__init__("plain", patch_size=7, takes_click_tokens=False, **options)

    def forward(self, image: Tensor, click_tokens: Tensor | None = None) -> Tensor:
        return image


def test_the_old_name_of_channels_still_works_with_a_warning() -> None:
    with pytest.warns(VfmIsbenchWarning, match="'plain' passes `width`.*now called `channels`") as caught:
        backbone = Plain(width=5)
    assert caught[0].filename == __file__
    assert (backbone.channels, backbone.width) == (5, 5)
    assert Plain(channels=6).width == 6


def test_a_backbone_may_have_a_width_of_its_own() -> None:
    backbone = Plain(channels=6)
    backbone.width = 2.5
    assert (backbone.channels, backbone.width) == (6, 2.5)
    assert not hasattr(backbone, "height")


def test_channels_are_declared_exactly_once() -> None:
    with pytest.raises(TypeError, match="feature channels, once"):
        Plain()
    with pytest.warns(VfmIsbenchWarning), pytest.raises(TypeError, match="feature channels, once"):
        Plain(channels=6, width=6)
