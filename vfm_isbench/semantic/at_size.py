"""Asks an upsampler for another output size, by resizing the image that guides it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from vfm_isbench.errors import ContractError
from vfm_isbench.upsamplers import LoadedUpsampler, find_module, freeze, load_upsampler


class AtSize(nn.Module):
    """An upsampler that is given the image at another size.

    It is an upsampler itself, so everything that takes upsamplers takes it, such as
    ``vfm-isbench run vfm_isbench.semantic.at_size:AtSize?upsampler=jbu&size=48``. The probe resizes its output to the
    network's input, as it does with every other one.

    Args:
        upsampler: Name of the upsampler.
        size: Side of the image that it gets, in pixels; it must not be less than that of the features.

    Raises:
        ContractError: if the size is no positive whole number, or the upsampler keeps the patch grid, needs gradients
            or needs the backbone.
    """

    def __init__(self, upsampler: str, size: int) -> None:
        super().__init__()
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise ContractError(f"size={size!r} of an output; expected a whole number of pixels from 1")
        self.inner = LoadedUpsampler.of(load_upsampler(upsampler))
        able = self.inner.capabilities
        if able.keeps_patch_resolution or able.needs_gradients or able.bind_backbone is not None:
            raise ContractError(
                f"upsampler {upsampler!r} cannot be asked for an output size: it keeps the patch grid, needs gradients "
                "or needs the backbone"
            )
        self.size = size
        self.module = find_module(self.inner)
        self.upsampler_name = f"{self.inner.name}@{size}px"
        freeze(self)

    def forward(self, features: Tensor, image: Tensor) -> Tensor:
        """Upsample ``features`` B×C×h×w to the size, guided by ``image`` B×3×H×W."""
        if self.size < max(features.shape[-2:]):
            raise ContractError(
                f"size={self.size} is less than the {max(features.shape[-2:])} patches per side; choose a larger one"
            )
        small = self.size < image.shape[-1]
        guidance = functional.interpolate(
            image, (self.size, self.size), mode="bilinear", align_corners=False, antialias=small
        )
        with torch.no_grad():
            return self.inner(features, guidance)
