"""The patch embedding sees each patch on its own."""

from __future__ import annotations

import torch

from vfm_isbench.click_encoders import PatchEmbedding


def test_every_token_is_a_linear_map_of_its_patch() -> None:
    encoder = PatchEmbedding(channels=6, patch_size=4)
    click_map = torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    tokens = encoder(click_map)
    assert tokens.shape == (2, 6, 2, 3)
    patch = click_map[1, :, 4:8, 8:12]
    assert encoder.proj.bias is not None
    expected = (encoder.proj.weight * patch).sum(dim=(1, 2, 3)) + encoder.proj.bias
    torch.testing.assert_close(tokens[1, :, 1, 2], expected)
