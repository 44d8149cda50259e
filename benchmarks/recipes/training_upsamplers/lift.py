"""LiFT, trained by its multi-scale feature loss (Suri et al., ECCV 2024)."""

from __future__ import annotations

import torch
from torch import Tensor

from training_upsamplers.features import FrozenFeatures, guidance
from training_upsamplers.method import Examples, Method, distance
from training_upsamplers.pictures import resized
from vfm_isbench.upsamplers.published.lift import LiFT


class TrainLiFT(Method):
    """Features of the half-size image, upsampled twice, should equal those of the full-size image.

    The half-size image has the size that the benchmark uses, because the upsampler is used at that scale.
    """

    spec_kind = "lift"

    def __init__(self, features: FrozenFeatures, image_size: int) -> None:
        super().__init__(features, image_size)
        self.upsampler = LiFT(features.channels)
        self.crop_size = 2 * image_size

    def prepare(self, crops: Tensor, generator: torch.Generator) -> Examples:
        """See :class:`Method`."""
        half = resized(crops, self.image_size)
        return {"image": guidance(half), "features": self.features(half), "wanted": self.features(crops)}

    def loss(self, examples: Examples, done: float) -> Tensor:
        """See :class:`Method`."""
        return distance(self.upsampler(examples["features"], examples["image"]), examples["wanted"])
