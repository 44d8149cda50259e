"""A frozen backbone, and the two ways in which images are normalised."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vfm_isbench.backbones.base import IMAGENET_MEAN, IMAGENET_STD, Backbone


class FrozenFeatures:
    """Features of a backbone that is not trained.

    Args:
        backbone: The backbone; it is frozen in place.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone.eval().requires_grad_(False)
        self.channels = backbone.channels
        self.patch_size = backbone.patch_size

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Features B×C×h×w of ``images`` B×3×H×W in [0, 1]."""
        features: Tensor = self.backbone(_normalised(images, self.backbone.mean, self.backbone.std))
        return features


def guidance(images: Tensor) -> Tensor:
    """``images`` B×3×H×W in [0, 1] as upsamplers receive them: ImageNet-normalised."""
    return _normalised(images, IMAGENET_MEAN, IMAGENET_STD)


def _normalised(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    return (images - images.new_tensor(mean).view(3, 1, 1)) / images.new_tensor(std).view(3, 1, 1)
