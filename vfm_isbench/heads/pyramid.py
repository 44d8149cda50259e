"""Multi-scale heads: four maps at falling resolutions, fused at the finest of them, then one logit.

The levels are made from the backbone's own map (:class:`PyramidHead`) or from upsampled features
(:class:`UpsampledPyramidHead`). What follows the levels is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from vfm_isbench.kernels.resized_conv import resize_matrix

LEVELS = 4
WIDTH = 128
"""Channels of the finest level; each further level has twice as many."""

_DROPOUT = 0.1
_HALVINGS = 5
"""From the image to stride 32; the levels are those after two and more."""


class PyramidHead(nn.Module):
    """The feature pyramid of SimpleClick, from the map at the patch grid: 4, 2, 1 and ½ times its rows and columns.

    For patches of 16 pixels, these are strides 4, 8, 16 and 32.

    Args:
        channels: Number of feature channels C.
        width: Channels of the finest level; the others have 2, 4 and 8 times as many, the fusion twice as many.

    Source: Liu et al., "SimpleClick: Interactive image segmentation with simple vision transformers" (2023), and its
    code for the widths inside the levels; protocol section 1.7.
    """

    def __init__(self, channels: int, width: int = WIDTH) -> None:
        super().__init__()
        widths = _widths(width)
        finest, finer, coarser = max(2 * width, channels // 2), max(widths[1], channels // 2), 2 * channels
        coarser = max(widths[3], coarser)
        self.levels = nn.ModuleList(
            [
                nn.Sequential(
                    nn.ConvTranspose2d(channels, finest, kernel_size=2, stride=2),
                    nn.GroupNorm(1, finest),
                    nn.GELU(),
                    nn.ConvTranspose2d(finest, finest // 2, kernel_size=2, stride=2),
                    nn.GroupNorm(1, finest // 2),
                    *_to_width(finest // 2, widths[0]),
                ),
                nn.Sequential(
                    nn.ConvTranspose2d(channels, finer, kernel_size=2, stride=2),
                    nn.GroupNorm(1, finer),
                    *_to_width(finer, widths[1]),
                ),
                nn.Sequential(*_to_width(channels, widths[2])),
                nn.Sequential(Halving(channels, coarser), nn.GroupNorm(1, coarser), *_to_width(coarser, widths[3])),
            ]
        )
        self.decoder = PyramidDecoder(widths, 2 * width)

    def forward(self, features: Tensor) -> Tensor:
        """Map features B×C×h×w to logits B×1×4h×4w."""
        return cast(Tensor, self.decoder([level(features) for level in self.levels]))


class UpsampledPyramidHead(nn.Module):
    """The same pyramid from upsampled features: its levels have strides 4, 8, 16 and 32.

    A chain of 2×2 convolutions with stride 2, each with GroupNorm and GELU, keeps all C channels; from stride 4 on, a
    1×1 convolution takes a level from it. A level of its own from the full size, as in :class:`PyramidHead`, would
    repeat the first and most expensive convolutions four times.

    Args:
        channels: Number of feature channels C.
        width: As in :class:`PyramidHead`.
        keeps_channels: No level, and not the fusion either, has fewer channels than the features.

    Source: the paper's open question about the channels of its upsampled pyramid; protocol section 1.7.
    """

    def __init__(self, channels: int, width: int = WIDTH, *, keeps_channels: bool = False) -> None:
        super().__init__()
        least = channels if keeps_channels else 0
        widths = [max(each, least) for each in _widths(width)]
        self.halvings = nn.ModuleList(
            nn.Sequential(Halving(channels, channels), nn.GroupNorm(1, channels), nn.GELU()) for _ in range(_HALVINGS)
        )
        self.levels = nn.ModuleList(nn.Sequential(*_to_width(channels, each)) for each in widths)
        self.decoder = PyramidDecoder(widths, max(2 * width, least))

    def forward(self, features: Tensor) -> Tensor:
        """Map features B×C×H×W to logits B×1×⌈H/4⌉×⌈W/4⌉."""
        maps = list(accumulate(self.halvings, lambda above, halving: halving(above), initial=features))
        return cast(Tensor, self.decoder([level(each) for level, each in zip(self.levels, maps[2:], strict=True)]))


class PyramidDecoder(nn.Module):
    """Brings four levels to one width and to the size of the finest, and fuses them to one logit.

    Args:
        widths: Channels of the levels, the finest first.
        channels: Channels of each level after its 1×1 convolution, and of their fusion.
    """

    def __init__(self, widths: Sequence[int], channels: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(_rectified(width, channels) for width in widths)
        self.fusion = _rectified(len(widths) * channels, channels)
        self.dropout = ChannelDropout(_DROPOUT)
        self.classifier = nn.Conv2d(channels, 1, kernel_size=1)
        self._matrices: dict[tuple[int, int, torch.device, torch.dtype], Tensor] = {}

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Map levels B×Cᵢ×Hᵢ×Wᵢ to logits B×1×H₀×W₀."""
        # The fusion is linear, so each level is convolved at its own size, and the sum of the resized ones is that of
        # the fusion over the concatenated levels.
        parts = torch.split(self.fusion.weight, self.fusion.out_channels, dim=1)
        fused = self.fusion.bias[:, None, None] if self.fusion.bias is not None else 0
        for level, lateral, part in zip(levels, self.laterals, parts, strict=True):
            small = functional.conv2d(torch.relu(lateral(level)), part)
            fused = fused + self._resize(small, levels[0].shape[-2:])
        return cast(Tensor, self.classifier(self.dropout(torch.relu(cast(Tensor, fused)))))

    def _resize(self, maps: Tensor, size: Sequence[int]) -> Tensor:
        """Resize bilinearly, without aligned corners, by two products, whose gradients repeat on every device."""
        if maps.shape[-2:] == tuple(size):
            return maps
        rows, cols = (self._matrix(old, new, maps) for old, new in zip(maps.shape[-2:], size, strict=True))
        return rows @ maps @ cols.T

    def _matrix(self, old: int, new: int, like: Tensor) -> Tensor:
        key = (old, new, like.device, like.dtype)
        if key not in self._matrices:
            self._matrices[key] = resize_matrix(old, new, "bilinear", False, like)
        return self._matrices[key]


class ChannelDropout(nn.Module):
    """Zeroes whole channels of each image in training mode, as ``torch.nn.Dropout2d`` does.

    Each image draws its own numbers from the CPU's global generator. So what is dropped depends neither on the device
    nor on how a batch is divided into passes.

    Args:
        probability: Of each channel, to be zeroed.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, features: Tensor) -> Tensor:
        """Map B×C×H×W to B×C×H×W."""
        if not self.training:
            return features
        kept = torch.stack([torch.rand(features.shape[1], device="cpu") for _ in features]) >= self.probability
        return features * (kept / (1 - self.probability)).to(features)[:, :, None, None]


class Halving(nn.Conv2d):
    """A 2×2 convolution with stride 2; an odd last row or column is repeated, so that nothing is lost.

    Args:
        channels: Input channels.
        out_channels: Output channels.
    """

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__(channels, out_channels, kernel_size=2, stride=2)

    def forward(self, maps: Tensor) -> Tensor:
        """Map B×C×H×W to B×O×⌈H/2⌉×⌈W/2⌉."""
        height, width = maps.shape[-2:]
        if height % 2 or width % 2:
            maps = functional.pad(maps, (0, width % 2, 0, height % 2), mode="replicate")
        return super().forward(maps)


def _widths(width: int) -> list[int]:
    return [width << level for level in range(LEVELS)]


def _to_width(channels: int, width: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(channels, width, kernel_size=1), nn.GroupNorm(1, width), nn.GELU()


def _rectified(channels: int, out_channels: int) -> nn.Conv2d:
    """A 1×1 convolution in front of a ReLU."""
    conv = nn.Conv2d(channels, out_channels, kernel_size=1)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    nn.init.zeros_(cast(Tensor, conv.bias))
    return conv
