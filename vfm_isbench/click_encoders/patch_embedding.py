"""The symmetric patch embedding: the click map is cut into patches just as the image is."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn


class PatchEmbedding(nn.Module):
    """One convolution whose kernel and stride are the patch size.

    Args:
        channels: Channels C of the tokens, those of the backbone.
        patch_size: Patch side in pixels, that of the backbone.
        in_channels: Channels of the click map.

    Source: paper, section on click encoders (after SimpleClick); protocol section 1.4.
    """

    def __init__(self, channels: int, patch_size: int, in_channels: int = 3) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, channels, kernel_size=patch_size, stride=patch_size)

    def forward(self, click_map: Tensor) -> Tensor:
        """Encode B×3×H×W to B×C×h×w."""
        return cast(Tensor, self.proj(click_map))
