"""LiFT: a small convolutional network that doubles the patch grid, guided by the image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from vfm_isbench.errors import ContractError
from vfm_isbench.upsamplers.published.checkpoint_keys import (
    PROBE_PARTS,
    load_exactly,
    tensors_below,
    without_module_prefix,
)

_IMAGE_WIDTH = 32
"""Channels of the convolved image; fixed by the published weights."""

_LAYOUTS = "image_convs_1.*, image_convs_2.*, up1.*, outc.* alone, behind module., or behind upsampler.lift."
_BESIDE = ("model.0.", *PROBE_PARTS)
"""Ignored keys: the backbone of a training file, and the other parts of iSegProbe's models."""


@dataclass(frozen=True, eq=False)
class LiFTGuidance:
    """An image prepared for :class:`LiFT`.

    Attributes:
        convolved: B×32×⌈H/4⌉×⌈W/4⌉.
        levels: Cached guidance at twice the patch grid, B×32×2h×2w, and at the grid itself, B×32×h×w, by patch grid
            (h, w), which is known only once features arrive.
    """

    convolved: Tensor
    levels: dict[tuple[int, int], tuple[Tensor, Tensor]] = field(default_factory=dict)


class LiFT(nn.Module):
    """LiFT of Suri et al., "LiFT: A Surprisingly Simple Lightweight Feature Transform", ECCV 2024: ×2.

    The original scales the image depending on the patch size: adaptive max pooling to twice the patch grid for patches
    of 14 pixels (in iSegProbe for all), max pooling by 2 for 16, nothing for 8. For images of whole patches these are
    the same operation, so this class needs no patch size. Weights belong to one backbone, layer and facet.

    Args:
        width: Channels C of the features, 2 or more.
    """

    upsampler_name = "lift"

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        half, joined = width // 2, width + _IMAGE_WIDTH
        self.image_convs_1 = nn.Sequential(*_halving(3), *_halving(_IMAGE_WIDTH))
        self.image_convs_2 = nn.Sequential(*_halving(_IMAGE_WIDTH))
        convs = nn.Sequential(*_convolution(joined // 2 + _IMAGE_WIDTH, half), *_convolution(half, half))
        self.up1 = nn.ModuleDict(
            {
                "up": nn.ConvTranspose2d(joined, joined // 2, kernel_size=2, stride=2),
                "conv_1": nn.ModuleDict({"double_conv": convs}),
            }
        )
        self.outc = nn.Conv2d(half, width, kernel_size=1)

    def forward(self, features: Tensor, image: Tensor) -> Tensor:
        """Upsample ``features`` B×C×h×w, guided by ``image`` B×3×H×W (ImageNet-normalised), to B×C×2h×2w."""
        return self.upsample(features, self.encode_guidance(image))

    def encode_guidance(self, image: Tensor) -> LiFTGuidance:
        """Convolve ``image`` B×3×H×W (ImageNet-normalised); it is pooled once features arrive."""
        return LiFTGuidance(self.image_convs_1(image))

    def upsample(self, features: Tensor, guidance: LiFTGuidance) -> Tensor:
        """Upsample ``features`` B×C×h×w to B×C×2h×2w.

        Raises:
            ContractError: if the batch sizes of features and guidance differ, or C is not the width.
        """
        batch, channels, height, width = features.shape
        images = guidance.convolved.shape[0]
        if (batch, channels) != (images, self.width):
            raise ContractError(
                f"lift got features of {batch} images and {channels} channels, but guidance of {images} images; batch "
                f"sizes must match, and these weights are for {self.width} channels"
            )
        levels = guidance.levels.get((height, width))
        if levels is None:
            fine = functional.adaptive_max_pool2d(guidance.convolved, (2 * height, 2 * width))
            levels = guidance.levels[height, width] = (fine, self.image_convs_2(fine))
        fine, coarse = levels
        doubled = self.up1["up"](torch.cat([features, coarse], dim=1))
        convs = self.get_submodule("up1.conv_1.double_conv")
        output: Tensor = self.outc(convs(torch.cat([doubled, fine], dim=1)))
        return output


def lift_from_state_dict(state: Mapping[str, Tensor], source: str) -> LiFT:
    """Build LiFT in eval mode from a checkpoint of the original; the weights determine its width.

    Args:
        state: Tensors by key: bare, behind ``module.``, or a whole model of iSegProbe with ``upsampler.lift.*``; a
            backbone, ``model.0.*``, is ignored.
        source: Where the tensors come from, for messages.

    Raises:
        WeightsError: if these are not the weights of a LiFT; it lists missing and unexpected keys.
    """
    below, rest = tensors_below(without_module_prefix(state), "outc.weight", source)
    lift = LiFT(below["outc.weight"].shape[0])
    load_exactly(lift, below, source, _LAYOUTS, [key for key in rest if not key.startswith(_BESIDE)])
    return lift.eval()


def _halving(channels: int) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, _IMAGE_WIDTH, kernel_size=3, stride=2, padding=1)
    return [convolution, nn.BatchNorm2d(_IMAGE_WIDTH), nn.ReLU()]


def _convolution(channels: int, to_channels: int) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, to_channels, kernel_size=3, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(to_channels), nn.ReLU()]
