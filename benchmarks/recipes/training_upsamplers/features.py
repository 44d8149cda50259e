"""A frozen backbone, and the two ways in which images are normalised."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vfm_isbench.backbones.base import IMAGENET_MEAN, IMAGENET_STD, Backbone


class FrozenFeatures:
    """Features of a backbone that is not trained.

    Args:
        load: Makes the backbone for images of a size, in pixels; transformers have position embeddings for one size.
        image_size: The size of the benchmark.
    """

    def __init__(self, load: Callable[[int], Backbone], image_size: int) -> None:
        self._load = load
        self._by_size: dict[int, Backbone] = {}
        self.backbone = self._of_size(image_size)
        self.channels = self.backbone.channels
        self.patch_size = self.backbone.patch_size

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Features B×C×h×w of ``images`` B×3×S×S in [0, 1]."""
        backbone = self._of_size(images.shape[-1])
        features: Tensor = backbone(_normalised(images, backbone.mean, backbone.std))
        return features

    def _of_size(self, size: int) -> Backbone:
        if size not in self._by_size:
            self._by_size[size] = self._load(size).eval().requires_grad_(False)
        return self._by_size[size]


def guidance(images: Tensor) -> Tensor:
    """``images`` B×3×H×W in [0, 1] as upsamplers receive them: ImageNet-normalised."""
    return _normalised(images, IMAGENET_MEAN, IMAGENET_STD)


def _normalised(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    return (images - images.new_tensor(mean).view(3, 1, 1)) / images.new_tensor(std).view(3, 1, 1)
