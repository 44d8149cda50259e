"""The frozen backbone handed to an upsampler that computes features itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from vfm_isbench.backbones.base import IMAGENET_MEAN, IMAGENET_STD, Backbone
from vfm_isbench.upsamplers import BackboneAccess, LoadedUpsampler, Upsampler, freeze
from vfm_isbench.upsamplers.violations import check_callable


@dataclass(frozen=True, eq=False)
class _Features:
    """Features of images as upsamplers get them. A class, not a closure, so that copies of a probe use their own.

    Attributes:
        backbone: Frozen.
    """

    backbone: Backbone

    def __call__(self, image: Tensor, gradients: bool) -> Tensor:
        """See :class:`vfm_isbench.upsamplers.BackboneAccess`."""
        mean, std, guidance_mean, guidance_std = (
            image.new_tensor(values).view(1, 3, 1, 1)
            for values in (self.backbone.mean, self.backbone.std, IMAGENET_MEAN, IMAGENET_STD)
        )
        with torch.set_grad_enabled(gradients):
            return cast(Tensor, self.backbone((image * guidance_std + guidance_mean - mean) / std))


def with_backbone(upsampler: Upsampler | LoadedUpsampler, backbone: Backbone) -> LoadedUpsampler:
    """Hand an upsampler the backbone of its run; one that needs none stays as it is.

    Raises:
        ContractError: if it cannot be called, or declares ``needs_backbone`` without the method for it.
    """
    check_callable(upsampler)
    upsampler = LoadedUpsampler.of(upsampler)
    if upsampler.capabilities.bind_backbone is None:
        return upsampler
    return upsampler.with_backbone(BackboneAccess(_Features(freeze(backbone))))
