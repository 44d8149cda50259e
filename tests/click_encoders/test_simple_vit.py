"""SimpleViT: order of patches and positions, and a plain second implementation of its blocks."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vfm_isbench.click_encoders import SimpleViT, simple_vit
from vfm_isbench.click_encoders.simple_vit import Patchify, sincos_positions


def seeded(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def small() -> SimpleViT:
    return SimpleViT(8, 2, depth=2, heads=2, head_width=3, hidden=10)


@pytest.mark.parametrize(("height", "width", "channels"), [(3, 5, 8), (16, 16, 12), (1, 1, 64)])
def test_positions_value_by_value(height: int, width: int, channels: int) -> None:
    positions = sincos_positions(height, width, channels)
    quarter = channels // 4
    for row in range(height):
        for col in range(width):
            angles = [10_000 ** (-i / (quarter - 1)) for i in range(quarter)]
            expected = [
                *(math.sin(col * angle) for angle in angles),
                *(math.cos(col * angle) for angle in angles),
                *(math.sin(row * angle) for angle in angles),
                *(math.cos(row * angle) for angle in angles),
            ]
            torch.testing.assert_close(positions[row * width + col], torch.tensor(expected), rtol=0, atol=1e-5)


@pytest.mark.parametrize("channels", [4, 10, 0])
def test_channels_without_positions_are_refused(channels: int) -> None:
    with pytest.raises(ValueError, match=f"multiple of 4.*got {channels}"):
        sincos_positions(2, 2, channels)


def test_patches_are_row_major_with_channels_innermost() -> None:
    image = seeded((2, 3, 4, 6))
    patches = Patchify(2)(image)
    assert patches.shape == (2, 6, 12)
    for row in range(2):
        for col in range(3):
            values = [
                image[1, channel, 2 * row + y, 2 * col + x].item()
                for y in range(2)
                for x in range(2)
                for channel in range(3)
            ]
            assert patches[1, row * 3 + col].tolist() == values


def layer_norm(values: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    centred = values - values.mean(dim=-1, keepdim=True)
    return centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt() * weight + bias


def by_hand(state: dict[str, Tensor], click_map: Tensor) -> Tensor:
    """The forward pass of :func:`small` on one click map, token by token and head by head."""

    def norm(values: Tensor, name: str) -> Tensor:
        return layer_norm(values, state[f"{name}.weight"], state[f"{name}.bias"])

    def linear(values: Tensor, name: str) -> Tensor:
        return values @ state[f"{name}.weight"].T + state.get(f"{name}.bias", torch.zeros(()))

    patches = torch.stack(
        [
            click_map[:, row : row + 2, col : col + 2].permute(1, 2, 0).flatten()
            for row in range(0, click_map.shape[1], 2)
            for col in range(0, click_map.shape[2], 2)
        ]
    )
    tokens = norm(linear(norm(patches, "to_patch_embedding.1"), "to_patch_embedding.2"), "to_patch_embedding.3")
    tokens = tokens + sincos_positions(click_map.shape[1] // 2, click_map.shape[2] // 2, 8)
    for block in range(2):
        attention, feed_forward = (f"transformer.layers.{block}.{part}" for part in (0, 1))
        projected = norm(tokens, f"{attention}.norm") @ state[f"{attention}.to_qkv.weight"].T
        query, key, value = projected[:, :6], projected[:, 6:12], projected[:, 12:]
        heads = [
            torch.softmax(query[:, of_head] @ key[:, of_head].T / math.sqrt(3), dim=1) @ value[:, of_head]
            for of_head in (slice(0, 3), slice(3, 6))
        ]
        tokens = tokens + torch.cat(heads, dim=1) @ state[f"{attention}.to_out.weight"].T
        hidden = linear(norm(tokens, f"{feed_forward}.net.0"), f"{feed_forward}.net.1")
        hidden = 0.5 * hidden * (1 + torch.erf(hidden / math.sqrt(2)))
        tokens = tokens + linear(hidden, f"{feed_forward}.net.3")
    return norm(tokens, "transformer.norm").T.reshape(8, click_map.shape[1] // 2, click_map.shape[2] // 2)


def test_equals_a_plain_second_implementation() -> None:
    encoder = small()
    for index, parameter in enumerate(encoder.parameters()):
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index))
    click_maps = seeded((2, 3, 4, 6))
    with torch.no_grad():
        expected = torch.stack([by_hand(encoder.state_dict(), click_map) for click_map in click_maps])
        torch.testing.assert_close(encoder(click_maps), expected, rtol=1e-4, atol=1e-5)


def test_the_paper_size() -> None:
    """Six blocks of eight heads of 64, MLP 2048, 384 channels, with biases where the protocol has them."""
    encoder = SimpleViT(384, 14)
    attention = 2 * 384 + 3 * 384 * 512 + 512 * 384
    feed_forward = 2 * 384 + (384 * 2048 + 2048) + (2048 * 384 + 384)
    embedding = 2 * 588 + (588 * 384 + 384) + 2 * 384
    expected = embedding + 6 * (attention + feed_forward) + 2 * 384
    assert sum(parameter.numel() for parameter in encoder.parameters()) == expected


def test_positions_are_computed_once_per_size_and_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """They come from the CPU, for which a device would have to wait at every click."""
    sizes: list[tuple[int, int]] = []

    def counted(height: int, width: int, channels: int) -> Tensor:
        sizes.append((height, width))
        return sincos_positions(height, width, channels)

    monkeypatch.setattr(simple_vit, "sincos_positions", counted)
    encoder = SimpleViT(8, 2, depth=1, heads=2, head_width=4, hidden=8)
    first = encoder(seeded((1, 3, 4, 6)))
    encoder(seeded((2, 3, 6, 4)))
    assert torch.equal(encoder(seeded((1, 3, 4, 6))), first)
    encoder.double()(seeded((1, 3, 4, 6)).double())
    assert sizes == [(2, 3), (3, 2), (2, 3)]
    assert "_positions" not in encoder.state_dict()


def test_without_blocks_the_patches_positions_and_last_norm_remain() -> None:
    """Depth 0: each token depends on its own patch and place alone."""
    encoder = SimpleViT(8, 2, depth=0, heads=2, head_width=3, hidden=10)
    assert not any("layers" in name for name in encoder.state_dict())
    click_map = torch.rand(1, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    embedded = encoder.to_patch_embedding(click_map) + simple_vit.sincos_positions(3, 4, 8)
    expected = torch.nn.functional.layer_norm(embedded, (8,)).transpose(1, 2).unflatten(2, (3, 4))
    torch.testing.assert_close(encoder(click_map), expected)
    changed = click_map.clone()
    changed[..., :2, :2] += 1
    assert ((encoder(changed) != encoder(click_map)).any(dim=1).nonzero()[:, 1:] == 0).all()
