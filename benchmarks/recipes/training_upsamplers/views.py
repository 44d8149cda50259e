"""Views of an image, cut out of it and mirrored, and how each is turned back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_SMALLEST = 0.7
"""Share of the image's side that a view has at least."""


@dataclass(frozen=True, slots=True)
class View:
    """A square window of a square image, perhaps mirrored. It moves pixels and never mixes them.

    A view has the scale of the image, and its left and right unless ``mirrored``. FeatUp's views are also zoomed. A
    convolutional network at stride 8 gives other features for a zoomed or mirrored image than the same features moved,
    so that such views would teach the upsampler to blur.

    Attributes:
        top: First row of the window.
        left: First column of the window.
        side: Side of the window, in pixels.
        mirrored: Whether left and right are exchanged.
    """

    top: int
    left: int
    side: int
    mirrored: bool = False

    def of(self, maps: Tensor) -> Tensor:
        """The view of ``maps`` …×S×S: …×side×side."""
        window = maps[..., self.top : self.top + self.side, self.left : self.left + self.side]
        return window.flip(-1) if self.mirrored else window

    def put_back(self, view: Tensor, onto: Tensor) -> Tensor:
        """``onto`` …×S×S with the view …×side×side where it was cut out."""
        result = onto.clone()
        window = view.flip(-1) if self.mirrored else view
        result[..., self.top : self.top + self.side, self.left : self.left + self.side] = window
        return result


def draw_view(size: int, patch_size: int, mirror_probability: float, generator: torch.Generator) -> View:
    """A view of an image of ``size``, of whole patches, whose position need not be a multiple of the patch size."""
    draws = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
    most = size // patch_size
    least = min(round(_SMALLEST * most), most - 1)
    side = patch_size * (least + int(draws[0] * (most - least)))
    top, left = (int(draw * (size - side + 1)) for draw in draws[1:3])
    return View(top, left, side, draws[3] < mirror_probability)
