"""DINOv2's position grid, and the layouts of its weights."""

from __future__ import annotations

import math

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torch.nn import functional

from vfm_isbench.backbones.dinov2 import build_dinov2, resize_position_grid
from vfm_isbench.errors import ProtocolError, WeightsError


def seeded(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def official_state(registers: int = 0, side: int = 5, channels: int = 64) -> dict[str, Tensor]:
    """A transformer of one block in the official layout."""
    model = VisionTransformer(
        img_size=side * 14, patch_size=14, embed_dim=channels, depth=1, num_heads=1, num_classes=0, init_values=1.0,
        reg_tokens=registers, no_embed_class=True, global_pool="",
    )  # fmt: skip
    state = {key: 0.2 * seeded(tuple(value.shape), i) for i, (key, value) in enumerate(model.state_dict().items())}
    state["pos_embed"] = seeded((1, side**2 + 1, channels), 99)
    state["mask_token"] = torch.zeros(1, channels)
    if registers:
        state["register_tokens"] = state.pop("reg_token")
    return state


@pytest.mark.parametrize("size", [(16, 16), (8, 8), (5, 7), (40, 40)])
def test_official_and_timm_resizing_differ(size: tuple[int, int]) -> None:
    grid = seeded((1, 4, 37, 37))
    official = resize_position_grid(grid, size, registers=False, how="official")
    other = resize_position_grid(grid, size, registers=False, how="timm")
    assert official.shape == other.shape == (1, 4, *size)
    assert (official - other).norm() > 0.01 * official.norm()


def test_register_variants_are_resized_with_antialiasing_either_way() -> None:
    grid = seeded((1, 4, 37, 37))
    official = resize_position_grid(grid, (16, 16), registers=True, how="official")
    torch.testing.assert_close(official, functional.interpolate(grid, (16, 16), mode="bicubic", antialias=True))
    torch.testing.assert_close(official, resize_position_grid(grid, (16, 16), registers=True, how="timm"))


@pytest.mark.parametrize("registers", [False, True])
def test_the_trained_grid_is_kept(registers: bool) -> None:
    grid = seeded((1, 4, 37, 37))
    kept = resize_position_grid(grid, (37, 37), registers=registers, how="official")
    torch.testing.assert_close(kept, grid, rtol=0, atol=0)


def test_the_official_samples_lie_where_the_offset_puts_them() -> None:
    """Cubic convolution (its coefficient is -0.75 in PyTorch) of one row, tap by tap."""
    row = seeded((37,)).double()
    resized = resize_position_grid(row.expand(1, 1, 37, 37).contiguous(), (16, 16), registers=False, how="official")

    def weight(distance: float) -> float:
        d, a = abs(distance), -0.75
        if d <= 1:
            return (a + 2) * d**3 - (a + 3) * d**2 + 1
        return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0

    for col in range(16):
        place = (col + 0.5) * 37 / (16 + 0.1) - 0.5
        taps = range(math.floor(place) - 1, math.floor(place) + 3)
        expected = sum(weight(place - tap) * row[min(max(tap, 0), 36)].item() for tap in taps)
        assert resized[0, 0, 8, col].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("registers", [0, 4])
def test_official_and_timm_layout_give_the_same_features(registers: int) -> None:
    official = official_state(registers)
    timm_layout = {key: value for key, value in official.items() if key not in ("mask_token", "register_tokens")}
    if registers:
        # timm keeps class position and register tokens apart: it adds the first to the class token.
        timm_layout["reg_token"] = official["register_tokens"]
        timm_layout["cls_token"] = official["cls_token"] + official["pos_embed"][:, :1]
        timm_layout["pos_embed"] = official["pos_embed"][:, 1:]
    image = seeded((1, 3, 42, 56))
    with torch.no_grad():
        first, second = (build_dinov2("x", state, (42, 56)).eval()(image) for state in (official, timm_layout))
    assert first.shape == (1, 64, 3, 4)
    torch.testing.assert_close(first, second)


def test_the_weights_determine_channels_depth_and_patch_size() -> None:
    backbone = build_dinov2("x", official_state(channels=128), (28, 28))
    assert (backbone.channels, backbone.patch_size) == (128, 14)
    assert len(backbone.model.blocks) == 1  # type: ignore[arg-type]
    assert backbone.model.blocks[0].attn.num_heads == 2  # type: ignore[index, union-attr]


def test_the_given_weights_are_not_changed() -> None:
    state = official_state()
    before = {key: value.clone() for key, value in state.items()}
    build_dinov2("x", state, (28, 28))
    assert state.keys() == before.keys()
    assert all(torch.equal(state[key], before[key]) for key in state)


def test_other_weights_are_refused_with_what_is_missing() -> None:
    with pytest.raises(WeightsError, match="not weights of a DINOv2 transformer.*pos_embed.*first ones: conv1"):
        build_dinov2("x", {"conv1": torch.zeros(1)}, (28, 28))


def test_incomplete_weights_are_refused() -> None:
    state = official_state()
    del state["blocks.0.ls1.gamma"]
    with pytest.raises(WeightsError, match=r"(?s)'x'.*ls1\.gamma"):
        build_dinov2("x", state, (28, 28))


def test_a_broken_patch_is_refused() -> None:
    with pytest.raises(ProtocolError, match="not a multiple of 14, the patch size"):
        build_dinov2("x", official_state(), (28, 30))
