"""A click encoder: the entry point is called with the backbone's sizes and the protocol."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from vfm_isbench import Protocol


class Pooled(nn.Module):
    """The mean of the click map over each patch, then a linear map, which the benchmark trains.

    Args:
        channels: Number of token channels, the same as the backbone's.
        patch_size: Side of a patch in pixels, the same as the backbone's.
        protocol: The protocol of the run, not needed here.
    """

    def __init__(self, channels: int, patch_size: int, protocol: Protocol) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.mix = nn.Conv2d(3, channels, 1)

    def forward(self, click_map: Tensor) -> Tensor:
        """Turn the click map B×3×H×W into tokens B×channels×(H/patch)×(W/patch)."""
        return self.mix(functional.avg_pool2d(click_map, self.patch_size))
