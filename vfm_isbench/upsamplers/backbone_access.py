"""The backbone as an upsampler may see it: a function from images to features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional


class ComputesFeatures(Protocol):
    """What the benchmark hands in: the frozen backbone with its normalisation."""

    def __call__(self, image: Tensor, gradients: bool) -> Tensor:
        """Features B×C×h×w of images B×3×H×W."""
        ...


class BackboneAccess:
    """The run's frozen backbone, for an upsampler that declares ``needs_backbone = True``.

    It shows neither weights nor settings of the backbone: the upsampler's parameters and fingerprint are its own, and
    results keep the backbone's beside them.

    Args:
        compute: The function behind it.
    """

    __slots__ = ("_compute",)

    def __init__(self, compute: ComputesFeatures) -> None:
        self._compute = compute

    def __call__(self, image: Tensor, gradients: bool = False) -> Tensor:
        """Compute features.

        Args:
            image: B×3×H×W RGB, normalised as the image that upsamplers get (ImageNet), of the size of the run's images
                unless the backbone takes others.
            gradients: Whether gradients flow from the features to the image; the weights never get any.

        Returns:
            B×C×h×w, without clicks.
        """
        return self._compute(image, gradients)


def stand_in(
    channels: int,
    grid: tuple[int, int],
    image_size: tuple[int, int],
    backbone: Callable[[Tensor], Tensor] | None = None,
) -> BackboneAccess:
    """A backbone for checks outside a run: ``backbone``, or mean colours of patches, repeated over the channels."""

    def compute(image: Tensor, gradients: bool) -> Tensor:
        with torch.set_grad_enabled(gradients):
            if backbone is not None:
                return backbone(image)
            rows, cols = (
                max(1, side * patches // whole)
                for side, patches, whole in zip(image.shape[-2:], grid, image_size, strict=True)
            )
            colours = functional.adaptive_avg_pool2d(image, (rows, cols))
            return colours.repeat(1, -(-channels // 3), 1, 1)[:, :channels]

    return BackboneAccess(compute)
