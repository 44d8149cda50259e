"""The symmetric patch embedding: it cuts the click map into patches just like the image."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn


class PatchEmbedding(nn.Module):
    """One convolution whose kernel and stride are the patch size.

    Args:
        channels: Number of token channels C, the same as the backbone's.
        patch_size: Side of a patch in pixels, the same as the backbone's.
        in_channels: Channels of the click map.

    Source: paper, section on click encoders (after SimpleClick); protocol section 1.4.
    """

    def __init__(self, channels: int, patch_size: int, in_channels: int = 3) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, channels, kernel_size=patch_size, stride=patch_size)

    def forward(self, click_map: Tensor) -> Tensor:
        """Encode B×3×H×W to B×C×h×w."""
        return cast(Tensor, self.proj(click_map))
