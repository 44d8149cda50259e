"""The learned downsampler of FeatUp's multi-view training."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_FIRST_WIDTH = 0.25
"""Standard deviation of the first weights, in cells."""


class AttentionDownsampler(nn.Module):
    """Each cell of the grid becomes a weighted mean of the pixels around it (FeatUp, ICLR 2024, section 3.2).

    The weight of a pixel is a softmax over the window, of its own saliency, which one linear layer computes from its
    features, scaled and shifted by learned numbers that depend only on its place in the window. At first, the shifts
    make it a Gaussian around the middle of the cell.

    Args:
        channels: Channels C of the features.
        patch_size: Pixels per side of a cell; the window is twice as large.
    """

    def __init__(self, channels: int, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.window = 2 * patch_size
        self.saliency = nn.Sequential(nn.Dropout2d(0.2), nn.Conv2d(channels, 1, kernel_size=1))
        self.scale = nn.Parameter(torch.ones(self.window**2))
        places = (torch.arange(self.window) - (self.window - 1) / 2) / (_FIRST_WIDTH * patch_size)
        self.shift = nn.Parameter(-(places.square()[:, None] + places.square()).flatten() / 2)

    def forward(self, features: Tensor) -> Tensor:
        """Reduce ``features`` B×C×H×W, of whole patches, to B×C×h×w."""
        batch, channels, height, width = features.shape
        rows, cols = height // self.patch_size, width // self.patch_size
        border = (self.window - self.patch_size) // 2
        saliency = self.saliency(features)
        padded = functional.pad(torch.cat([features, saliency], dim=1), [border] * 4, mode="reflect")
        windows = functional.unfold(padded, self.window, stride=self.patch_size)
        windows = windows.view(batch, channels + 1, self.window**2, rows * cols)
        logits = windows[:, -1] * self.scale.view(1, -1, 1) + self.shift.view(1, -1, 1)
        weighted = torch.einsum("bckn,bkn->bcn", windows[:, :-1], logits.softmax(dim=1))
        return weighted.view(batch, channels, rows, cols)
