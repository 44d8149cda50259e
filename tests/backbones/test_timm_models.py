"""Backbones around timm networks: which tokens come out, and where click tokens go in."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vfm_isbench.backbones.timm_models import FeatureMapBackbone, ViTBackbone
from vfm_isbench.errors import ProtocolError

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


def seeded(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def tiny_vit(**options: Any) -> VisionTransformer:
    model = VisionTransformer(
        img_size=28, patch_size=7, embed_dim=12, depth=2, num_heads=2, num_classes=0, global_pool="", **options
    )
    for index, parameter in enumerate(model.parameters()):
        parameter.data = 0.3 * seeded(tuple(parameter.shape), index)
    return model.eval()


@pytest.mark.parametrize("options", [{}, {"reg_tokens": 3}, {"dynamic_img_size": True}, {"class_token": False}])
def test_gives_normalised_patch_tokens_without_class_and_register_tokens(options: dict[str, Any]) -> None:
    model = tiny_vit(**options)
    backbone = ViTBackbone("tiny", model, MEAN, STD)
    image = seeded((2, 3, 28, 28))
    with torch.no_grad():
        features, tokens = backbone(image), model.forward_features(image)
    assert (backbone.channels, backbone.patch_size, backbone.takes_click_tokens) == (12, 7, True)
    assert (backbone.mean, backbone.std) == (MEAN, STD)
    assert features.shape == (2, 12, 4, 4)
    for row in range(4):
        for col in range(4):
            torch.testing.assert_close(features[:, :, row, col], tokens[:, tokens.shape[1] - 16 + row * 4 + col])


def test_threads_add_their_own_click_tokens() -> None:
    backbone, entered = ViTBackbone("tiny", tiny_vit(), MEAN, STD), threading.Barrier(2, timeout=10)
    images, tokens = seeded((2, 3, 28, 28), 1), seeded((2, 12, 4, 4), 2)
    with torch.no_grad():
        expected = [backbone(images[i : i + 1], tokens[i : i + 1]) for i in range(2)]

    def wait(*_: object) -> None:
        """Until both threads are inside the model, with their hooks, before either embeds its patches."""
        entered.wait()

    embed: nn.Module = backbone.model.get_submodule("patch_embed")
    embed.register_forward_pre_hook(wait)

    def run(index: int) -> Tensor:
        with torch.no_grad():
            return cast(Tensor, backbone(images[index : index + 1], tokens[index : index + 1]))

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(run, range(2)))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", [{"reg_tokens": 3}, {"dynamic_img_size": True}])
def test_click_tokens_are_added_right_after_the_patch_embedding(options: dict[str, Any]) -> None:
    """An image that differs by what the patch embedding turns into those tokens gives the same features."""
    model = tiny_vit(**options)
    backbone = ViTBackbone("tiny", model, MEAN, STD)
    image, difference = seeded((2, 3, 28, 28), 1), seeded((2, 3, 28, 28), 2)
    projection: nn.Conv2d = model.patch_embed.proj
    tokens = nn.functional.conv2d(difference, projection.weight, stride=7)
    with torch.no_grad():
        plain = backbone(image)
        torch.testing.assert_close(backbone(image, tokens), backbone(image + difference), rtol=1e-4, atol=1e-4)
        assert not torch.allclose(backbone(image, tokens), plain, atol=1e-2)
        # The next image without clicks must not see those of the last.
        torch.testing.assert_close(backbone(image), plain, rtol=0, atol=0)


def test_an_error_under_click_tokens_leaves_nothing_behind() -> None:
    backbone = ViTBackbone("tiny", tiny_vit(), MEAN, STD)
    image = seeded((1, 3, 28, 28))
    with torch.no_grad():
        plain = backbone(image)
        with pytest.raises(RuntimeError):
            backbone(image, torch.ones(1, 5, 4, 4))
        torch.testing.assert_close(backbone(image), plain, rtol=0, atol=0)


def test_gradients_reach_click_tokens_through_a_frozen_transformer() -> None:
    backbone = ViTBackbone("tiny", tiny_vit().requires_grad_(False), MEAN, STD)
    tokens = torch.zeros(1, 12, 4, 4, requires_grad=True)
    backbone(seeded((1, 3, 28, 28)), tokens).square().sum().backward()
    assert tokens.grad is not None
    assert tokens.grad.abs().min() > 0


def standardised(features: Tensor) -> Tensor:
    """Mean 0 and variance 1 over the channels of each cell of B×C×h×w."""
    centred = features - features.mean(dim=1, keepdim=True)
    return centred / (centred.square().mean(dim=1, keepdim=True) + 1e-5).sqrt()


def test_feature_maps_are_those_of_the_network_standardised_in_every_cell() -> None:
    model = timm.create_model("test_efficientnet", features_only=True, out_indices=(2,)).eval()
    backbone = FeatureMapBackbone("tiny", model, MEAN, STD)
    image = seeded((2, 3, 32, 48))
    with torch.no_grad():
        features = backbone(image)
        torch.testing.assert_close(features, standardised(model(image)[0]))
    assert features.shape == (2, backbone.channels, 32 // backbone.patch_size, 48 // backbone.patch_size)


def test_channels_last_feature_maps_are_turned() -> None:
    model = timm.create_model(
        "swin_tiny_patch4_window7_224", features_only=True, out_indices=(1,), embed_dim=8, depths=(1, 1, 1, 1),
        num_heads=(1, 1, 2, 2), img_size=56,
    ).eval()  # fmt: skip
    backbone = FeatureMapBackbone("tiny", model, MEAN, STD)
    image = seeded((1, 3, 56, 56))
    with torch.no_grad():
        features = backbone(image)
        torch.testing.assert_close(features, standardised(model(image)[0].permute(0, 3, 1, 2)))
    assert features.shape == (1, 16, 7, 7)


def test_a_network_without_patch_embedding_refuses_click_tokens() -> None:
    model = timm.create_model("test_efficientnet", features_only=True, out_indices=(2,))
    backbone = FeatureMapBackbone("tiny", model, MEAN, STD)
    assert not backbone.takes_click_tokens
    with pytest.raises(ProtocolError, match="'tiny' has no patch embedding.*'late' or 'pre_upsampler'"):
        backbone(torch.zeros(1, 3, 32, 32), torch.zeros(1, backbone.channels, 4, 4))
