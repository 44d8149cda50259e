"""Distances to the clicks: an encoder that need not learn how far away a click is."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

REACHES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
"""Distances at which nearness falls to 1/e, as shares of the longer side of the grid."""


class DistanceEncoder(nn.Module):
    """Nearness of every patch to the clicks of each sign, and the patch of the click map, through two layers.

    Nearness is exp(−d / r) for several reaches r, where d is the distance to the nearest patch with a click of that
    sign; it is 0 without such a click. A transformer has to learn such distances from examples. This encoder is given
    them, so it needs fewer examples and differs less from seed to seed.

    Args:
        channels: Number of token channels C, the same as the backbone's.
        patch_size: Side of a patch in pixels, the same as the backbone's.
        hidden: Channels between the two layers.

    Source: distance maps of clicks are due to Xu et al., "Deep interactive object selection" (CVPR 2016); the rest is
    this library's own, for the demo.
    """

    def __init__(self, channels: int, patch_size: int, hidden: int = 128) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.patch = nn.Conv2d(3, hidden, kernel_size=patch_size, stride=patch_size)
        self.near = nn.Conv2d(2 * len(REACHES), hidden, kernel_size=1, bias=False)
        self.out = nn.Conv2d(hidden, channels, kernel_size=1)

    def forward(self, click_map: Tensor) -> Tensor:
        """Encode B×3×H×W to B×C×h×w."""
        hidden = self.patch(click_map) + self.near(nearness(click_map[:, 1:], self.patch_size))
        return cast(Tensor, self.out(functional.gelu(hidden)))


def nearness(disks: Tensor, patch_size: int) -> Tensor:
    """Nearness of each patch to the disks of each channel: B×K×H×W to B×(K·5)×h×w, in [0, 1]; 0 without a disk."""
    occupied = functional.max_pool2d(disks, patch_size) > 0
    height, width = occupied.shape[-2:]
    rows, cols = torch.meshgrid(
        torch.arange(height, device=disks.device), torch.arange(width, device=disks.device), indexing="ij"
    )
    places = torch.stack([rows.flatten(), cols.flatten()], dim=1).to(disks.dtype)
    apart = torch.cdist(places, places, compute_mode="donot_use_mm_for_euclid_dist")
    nearest = torch.where(occupied.flatten(2)[:, :, None, :], apart, torch.inf).amin(dim=-1)
    reaches = max(height, width) * torch.tensor(REACHES, device=disks.device, dtype=disks.dtype)
    fields = torch.exp(-nearest[:, :, None, :] / reaches[:, None])
    return fields.reshape(len(disks), -1, height, width)
