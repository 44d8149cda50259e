"""LoftUp, trained by regression on features of higher resolution, in the way of Huang et al. (ICCV 2025)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from training_upsamplers.features import FrozenFeatures, guidance
from training_upsamplers.finer import finer_features
from training_upsamplers.method import Examples, Method, distance, on_grid
from training_upsamplers.pictures import resized
from vfm_isbench.upsamplers.published.loftup import LoftUp, LoftUpGuidance

_FINER = 2
"""The wanted map has this many times the cells of the enlarged image's own grid, by shifting the image."""

_AT_HALF_SIZE = 0.75
"""Share of the steps that use the image at half its size."""


class TrainLoftUp(Method):
    """Upsampled features should equal those of the image enlarged twice, on a grid four times as fine.

    The authors average such features within the masks of a segmentation network first, and then distil the upsampler
    into itself. There are no such masks here, and this is only the regression.
    """

    spec_kind = "loftup"

    def __init__(self, features: FrozenFeatures, image_size: int, enlarged: int = 2) -> None:
        super().__init__(features, image_size)
        self.upsampler: LoftUp = LoftUp(features.channels)
        # Random phases serve as well as trained ones. Without gradients for them, the first convolution, which takes
        # most of the time, needs none for its input either.
        self.upsampler.fourier_feat.requires_grad_(False)
        self.upsampler.first_conv[0].requires_grad_(False)
        self.crop_size = enlarged * image_size

    def prepare(self, crops: Tensor, generator: torch.Generator) -> Examples:
        """See :class:`Method`."""
        image = resized(crops, self.image_size)
        wanted = finer_features(self.features, crops, _FINER)
        return {"image": guidance(image), "features": self.features(image), "wanted": wanted}

    def loss(self, examples: Examples, done: float) -> Tensor:
        """See :class:`Method`.

        What takes long to learn is where each pixel has to look, and that does not depend on the size of the image. So
        most steps use the image at half its size, in a quarter of the time. The others use a random quarter of the
        pixels, because attention takes time for each.
        """
        features, image, wanted = examples["features"], examples["image"], examples["wanted"]
        if done < _AT_HALF_SIZE:
            small = functional.interpolate(image, scale_factor=0.5, mode="bilinear", antialias=True)
            return distance(on_grid(self.upsampler(features, small), wanted.shape[-1]), wanted)
        patch, cells = self.features.patch_size, self.image_size // self.features.patch_size
        finer, half = wanted.shape[-1] // cells, max(cells // 2, 1)
        top, left = torch.randint(cells - half + 1, (2,)).tolist()
        window = _window(self.upsampler.encode_guidance(image), patch * top, patch * left, patch * half)
        upsampled = self.upsampler.upsample(features, window)
        wanted = wanted[..., finer * top : finer * (top + half), finer * left : finer * (left + half)]
        return distance(on_grid(upsampled, finer * half), wanted)


def _window(guidance: LoftUpGuidance, top: int, left: int, side: int) -> LoftUpGuidance:
    """A square window of an image's guidance."""

    def cut(tokens: Tensor) -> Tensor:
        grid = tokens.unflatten(1, guidance.size)
        return grid[:, top : top + side, left : left + side].flatten(1, 2)

    return LoftUpGuidance(cut(guidance.pixels), cut(guidance.queries), (side, side))
