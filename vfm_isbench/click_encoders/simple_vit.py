"""SimpleViT: a small transformer over the patches of the click map.

State-dict names (``to_patch_embedding.1`` …) match the reference's checkpoints, so that these load unchanged.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional


def sincos_positions(height: int, width: int, channels: int, temperature: float = 10_000.0) -> Tensor:
    """Fixed 2-D positions: sines and cosines of the column, then of the row, a quarter of the channels each.

    Returns:
        (height·width)×channels, float32, row-major.

    Raises:
        ValueError: if ``channels`` is not a multiple of 4, or below 8.

    Source: Beyer et al., "Better plain ViT baselines for ImageNet-1k" (2022).
    """
    if channels % 4 or channels < 8:
        raise ValueError(
            f"sin-cos positions need a number of channels that is a multiple of 4 and at least 8; got {channels}"
        )
    frequencies = 1.0 / temperature ** (torch.arange(channels // 4) / (channels // 4 - 1))
    rows, cols = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    by_row = rows.flatten()[:, None] * frequencies
    by_col = cols.flatten()[:, None] * frequencies
    return torch.cat([by_col.sin(), by_col.cos(), by_row.sin(), by_row.cos()], dim=1)


class Patchify(nn.Module):
    """Cut B×K×H×W into B×(h·w)×(p·p·K): pixels of a patch row-major, channels innermost."""

    def __init__(self, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size

    def forward(self, image: Tensor) -> Tensor:
        """Cut the patches in row-major order."""
        batch, channels, height, width = image.shape
        p = self.patch_size
        patches = image.reshape(batch, channels, height // p, p, width // p, p)
        return patches.permute(0, 2, 4, 3, 5, 1).reshape(batch, (height // p) * (width // p), p * p * channels)


class Attention(nn.Module):
    """Pre-norm multi-head self-attention without biases."""

    def __init__(self, channels: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(channels)
        self.to_qkv = nn.Linear(channels, 3 * heads * head_width, bias=False)
        self.to_out = nn.Linear(heads * head_width, channels, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Attend over B×N×C."""
        batch, count, _ = tokens.shape
        qkv = self.to_qkv(self.norm(tokens)).reshape(batch, count, 3, self.heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(query, key, value)
        return cast(Tensor, self.to_out(attended.transpose(1, 2).reshape(batch, count, -1)))


class FeedForward(nn.Module):
    """Pre-norm MLP with GELU."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.LayerNorm(channels), nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, channels)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Map B×N×C to B×N×C."""
        return cast(Tensor, self.net(tokens))


class Transformer(nn.Module):
    """Residual blocks of attention and MLP, then a LayerNorm."""

    def __init__(self, channels: int, depth: int, heads: int, head_width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.layers = nn.ModuleList(
            nn.ModuleList([Attention(channels, heads, head_width), FeedForward(channels, hidden)]) for _ in range(depth)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Run the blocks on B×N×C."""
        for layer in self.layers:
            attention, feed_forward = cast(nn.ModuleList, layer)
            tokens = attention(tokens) + tokens
            tokens = feed_forward(tokens) + tokens
        return cast(Tensor, self.norm(tokens))


class SimpleViT(nn.Module):
    """Click encoder that the paper uses with late injection.

    Args:
        channels: Number of token channels C, the same as the backbone's; a multiple of 4.
        patch_size: Side of a patch in pixels, the same as the backbone's.
        depth: Transformer blocks.
        heads: Attention heads.
        head_width: Channels per head.
        hidden: Hidden channels of the MLPs.
        in_channels: Channels of the click map.

    Source: paper, section on click encoders; protocol section 1.4.
    """

    def __init__(
        self,
        channels: int,
        patch_size: int,
        *,
        depth: int = 6,
        heads: int = 8,
        head_width: int = 64,
        hidden: int = 2048,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.patch_size = patch_size
        patch_values = in_channels * patch_size**2
        self.to_patch_embedding = nn.Sequential(
            Patchify(patch_size), nn.LayerNorm(patch_values), nn.Linear(patch_values, channels), nn.LayerNorm(channels)
        )
        self.transformer = Transformer(channels, depth, heads, head_width, hidden)

    def forward(self, click_map: Tensor) -> Tensor:
        """Encode B×3×H×W to B×C×h×w."""
        height, width = (side // self.patch_size for side in click_map.shape[-2:])
        positions = sincos_positions(height, width, self.channels).to(click_map)
        tokens = self.transformer(self.to_patch_embedding(click_map) + positions)
        return cast(Tensor, tokens.transpose(1, 2).unflatten(2, (height, width)))
