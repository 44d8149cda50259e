"""Pyramids: shapes, gradients, dropout, and a second computation written out with plain functional calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from vfm_isbench.heads import PyramidHead, UpsampledPyramidHead
from vfm_isbench.heads.pyramid import ChannelDropout, Halving


def seeded(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def made(kind: str, channels: int = 12, width: int = 4) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind == "pyramid":
            head: nn.Module = PyramidHead(channels, width)
        else:
            head = UpsampledPyramidHead(channels, width, keeps_channels=kind == "full")
        for parameter in head.parameters():  # norms and biases that do something
            parameter.data += 0.2 * torch.randn_like(parameter)
    return head.eval()


def norm_gelu(maps: Tensor, state: Mapping[str, Tensor], name: str, *, gelu: bool = True) -> Tensor:
    """GroupNorm with one group over channels and places, by its definition, then GELU."""
    mean, variance = maps.mean((1, 2, 3), keepdim=True), maps.var((1, 2, 3), unbiased=False, keepdim=True)
    scaled = (maps - mean) / (variance + 1e-5).sqrt()
    scaled = scaled * state[f"{name}.weight"].view(1, -1, 1, 1) + state[f"{name}.bias"].view(1, -1, 1, 1)
    return functional.gelu(scaled) if gelu else scaled


def by_hand(levels: list[Tensor], state: Mapping[str, Tensor]) -> Tensor:
    """Laterals, resize, concatenation, fusion, classifier."""
    size = levels[0].shape[-2:]
    maps = []
    for number, level in enumerate(levels):
        name = f"decoder.laterals.{number}"
        level = torch.relu(functional.conv2d(level, state[f"{name}.weight"], state[f"{name}.bias"]))
        maps.append(functional.interpolate(level, size, mode="bilinear", align_corners=False))
    fused = functional.conv2d(torch.cat(maps, dim=1), state["decoder.fusion.weight"], state["decoder.fusion.bias"])
    return functional.conv2d(torch.relu(fused), state["decoder.classifier.weight"], state["decoder.classifier.bias"])


def conv(maps: Tensor, state: Mapping[str, Tensor], name: str, *, stride: int = 1) -> Tensor:
    return functional.conv2d(maps, state[f"{name}.weight"], state[f"{name}.bias"], stride=stride)


def grow(maps: Tensor, state: Mapping[str, Tensor], name: str) -> Tensor:
    return functional.conv_transpose2d(maps, state[f"{name}.weight"], state[f"{name}.bias"], stride=2)


def test_the_pyramid_is_that_of_simpleclick() -> None:
    head, features = made("pyramid"), seeded(2, 12, 4, 6)
    state = head.state_dict()
    finest = norm_gelu(grow(features, state, "levels.0.0"), state, "levels.0.1")
    finest = norm_gelu(grow(finest, state, "levels.0.3"), state, "levels.0.4", gelu=False)
    finer = norm_gelu(grow(features, state, "levels.1.0"), state, "levels.1.1", gelu=False)
    coarser = norm_gelu(conv(features, state, "levels.3.0", stride=2), state, "levels.3.1", gelu=False)
    levels = [
        norm_gelu(conv(finest, state, "levels.0.5"), state, "levels.0.6"),
        norm_gelu(conv(finer, state, "levels.1.2"), state, "levels.1.3"),
        norm_gelu(conv(features, state, "levels.2.0"), state, "levels.2.1"),
        norm_gelu(conv(coarser, state, "levels.3.2"), state, "levels.3.3"),
    ]
    assert [tuple(level.shape[1:]) for level in levels] == [(4, 16, 24), (8, 8, 12), (16, 4, 6), (32, 2, 3)]
    torch.testing.assert_close(head(features), by_hand(levels, state))


@pytest.mark.parametrize(("kind", "widths"), [("upsampled", (4, 8, 16, 32)), ("full", (12, 12, 16, 32))])
def test_the_upsampled_pyramid_halves_the_features_five_times(kind: str, widths: tuple[int, ...]) -> None:
    head, features = made(kind), seeded(2, 12, 64, 32)
    state, maps, levels = head.state_dict(), features, []
    for number in range(5):
        name = f"halvings.{number}"
        maps = norm_gelu(conv(maps, state, f"{name}.0", stride=2), state, f"{name}.1")
        if number > 0:
            levels.append(norm_gelu(conv(maps, state, f"levels.{number - 1}.0"), state, f"levels.{number - 1}.1"))
    sides = [(16, 8), (8, 4), (4, 2), (2, 1)]
    assert [tuple(level.shape[1:]) for level in levels] == [(w, *side) for w, side in zip(widths, sides, strict=True)]
    torch.testing.assert_close(head(features), by_hand(levels, state))


def test_the_widths_at_the_size_of_the_paper() -> None:
    """128, 256, 512 and 1024 channels, fused to 256; nothing below the features' 384 when all are kept."""
    with torch.device("meta"):
        heads: list[PyramidHead | UpsampledPyramidHead] = [
            PyramidHead(384),
            UpsampledPyramidHead(384),
            UpsampledPyramidHead(384, keeps_channels=True),
        ]
    decoders = [head.decoder for head in heads]
    found = [
        ([cast(nn.Conv2d, lateral).in_channels for lateral in decoder.laterals], decoder.classifier.in_channels)
        for decoder in decoders
    ]
    assert found == [([128, 256, 512, 1024], 256)] * 2 + [([384, 384, 512, 1024], 384)]
    inside = [module for module in heads[0].levels.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)]
    assert [conv.out_channels for conv in inside] == [256, 128, 128, 256, 256, 512, 1024, 1024]


@pytest.mark.parametrize("kind", ["pyramid", "upsampled", "full"])
def test_gradients_reach_every_parameter_and_every_place(kind: str) -> None:
    head = made(kind)
    features = seeded(1, 12, *((4, 4) if kind == "pyramid" else (32, 32))).requires_grad_()
    head(features).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in head.parameters())
    assert features.grad is not None and (features.grad.abs().sum(dim=(0, 1)) > 0).all()


@pytest.mark.parametrize(("kind", "shape", "expected"), [
    ("pyramid", (1, 5), (4, 20)), ("pyramid", (3, 3), (12, 12)),
    ("upsampled", (28, 42), (7, 11)), ("full", (8, 8), (2, 2)),
])  # fmt: skip
def test_any_size_works(kind: str, shape: tuple[int, int], expected: tuple[int, int]) -> None:
    assert made(kind)(seeded(2, 12, *shape)).shape == (2, 1, *expected)


def test_an_odd_last_row_is_repeated() -> None:
    halving, maps = Halving(3, 5), seeded(1, 3, 5, 4)
    longer = torch.cat([maps, maps[:, :, -1:]], dim=2)
    assert torch.equal(halving(maps), functional.conv2d(longer, halving.weight, halving.bias, stride=2))


def test_dropout_zeroes_a_tenth_of_the_channels_and_scales_the_others() -> None:
    dropout, features = ChannelDropout(0.1), torch.ones(8, 500, 2, 3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        dropped = dropout(features)
        values = dropped[:, :, 0, 0]
        assert torch.equal(dropped, values[:, :, None, None].expand_as(dropped))
        assert 0.08 < (values == 0).float().mean() < 0.12
        torch.testing.assert_close(values[values > 0].unique(), torch.tensor([1 / 0.9]))
        torch.manual_seed(0)
        parts = [dropout(part) for part in torch.split(features, [3, 5])]
    assert torch.equal(torch.cat(parts), dropped), "however the batch is divided"
    assert dropout.eval()(features) is features


def test_no_number_is_drawn_in_eval_mode() -> None:
    before = torch.get_rng_state()
    made("pyramid")(seeded(2, 12, 4, 4))
    assert torch.equal(torch.get_rng_state(), before)
