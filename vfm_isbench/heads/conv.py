"""The benchmark's light heads: 3×3 convolutions and a classifier, or the classifier alone."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from vfm_isbench.kernels.winograd import LEAST_CHANNELS, convolve


class ConvBlock(nn.Module):
    """3×3 convolution and ReLU; size and channels stay the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(cast(Tensor, self.conv.bias))

    def forward(self, features: Tensor) -> Tensor:
        """Map B×C×H×W to B×C×H×W."""
        return torch.relu(self.conv(features))


class ConvHead(nn.Module):
    """``layers`` times a 3×3 convolution with ReLU, then a 1×1 convolution to one logit.

    Args:
        channels: Number of feature channels C.
        layers: Number of 3×3 convolutions.

    The 3×3 convolutions start Kaiming-normal (fan-out, ReLU gain) with zero bias; the classifier starts with PyTorch's
    default initialisation. This matches the reference, where mmcv initialises only the blocks, not the classifier; with
    a Kaiming-normal classifier, the first losses would be ten times those recorded from the reference.

    Source: paper, figure of the architecture; protocol section 1.7.
    """

    def __init__(self, channels: int, layers: int = 2) -> None:
        super().__init__()
        self.convs = nn.ModuleList(ConvBlock(channels) for _ in range(layers))
        self.classifier = nn.Conv2d(channels, 1, kernel_size=1)

    def forward(self, features: Tensor) -> Tensor:
        """Map features B×C×H×W to logits B×1×H×W."""
        for block in self.convs:
            features = block(features)
        return cast(Tensor, self.classifier(features))

    def first_conv(self) -> nn.Conv2d | None:
        """The first convolution; None without layers."""
        return cast(ConvBlock, self.convs[0]).conv if len(self.convs) else None

    def after_first(self, convolved: Tensor, least_channels: int = LEAST_CHANNELS) -> Tensor:
        """Continue after the first convolution, before its ReLU: B×C×H×W, overwritten, to logits B×1×H×W.

        ``least_channels`` is as for :func:`vfm_isbench.kernels.winograd.convolve`.
        """
        features = convolved.relu_()
        for block in list(self.convs)[1:]:
            features = convolve(cast(ConvBlock, block).conv, features, least_channels).relu_()
        return cast(Tensor, self.classifier(features))


class LinearHead(ConvHead):
    """The classifier alone: one 1×1 convolution, the strictest probe of the features."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, layers=0)
