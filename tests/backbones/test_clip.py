"""CLIP's patch tokens behind its projection, and MaskCLIP's values, computed a second time in another way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from vfm_isbench.backbones import CHANNELS, load_backbone
from vfm_isbench.backbones.clip import TIMM_NAME, ProjectedCLIP
from vfm_isbench.errors import ProtocolError, WeightsError

HALF = (0.5, 0.5, 0.5)


def tiny_clip(seed: int = 0) -> VisionTransformer:
    """Random weights in a transformer built as CLIP's: a norm before the blocks, a projection behind them."""
    model = VisionTransformer(
        img_size=28, patch_size=7, embed_dim=12, depth=2, num_heads=2, num_classes=5, global_pool="token",
        pre_norm=True, act_layer="quick_gelu",
    )  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def image() -> Tensor:
    return torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(9))


def blocks_of(model: VisionTransformer, count: int) -> Tensor:
    """Tokens after the first blocks, without timm's own loop over them."""
    tokens = functional.conv2d(image(), model.patch_embed.proj.weight, model.patch_embed.proj.bias, stride=7)
    tokens = tokens.flatten(2).transpose(1, 2)
    assert model.cls_token is not None
    assert model.pos_embed is not None
    tokens = torch.cat([model.cls_token.expand(2, -1, -1), tokens], 1) + model.pos_embed
    tokens = functional.layer_norm(tokens, (12,), model.norm_pre.weight, model.norm_pre.bias, model.norm_pre.eps)
    for block in list(model.blocks)[:count]:
        tokens = block(tokens)
    return tokens


def projected(model: VisionTransformer, tokens: Tensor) -> Tensor:
    """Last norm and projection of the patches, as a matrix product in double precision."""
    norm, head = model.norm, model.head
    centred = tokens.double() - tokens.double().mean(-1, keepdim=True)
    normed = centred / (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt()
    normed = normed * norm.weight.double() + norm.bias.double()
    result = normed[:, 1:] @ head.weight.double().T + head.bias.double()
    features: Tensor = result.transpose(1, 2).reshape(2, 5, 4, 4).float()
    return features


@torch.no_grad()
def test_clip_gives_the_patches_of_the_whole_network_behind_the_projection() -> None:
    model = tiny_clip()
    expected = projected(model, blocks_of(model, 2))
    backbone = ProjectedCLIP("clip", model, HALF, HALF, value_path=False)
    assert (backbone.channels, backbone.patch_size, backbone.feature_norm) == (5, 7, "projection")
    torch.testing.assert_close(backbone(image()), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_maskclip_lets_every_token_of_the_last_block_see_only_itself_and_adds_nothing() -> None:
    model = tiny_clip()
    tokens, last = blocks_of(model, 1), model.blocks[1]
    # PyTorch's own attention, with a mask that allows a token to attend to itself alone, passes its values on.
    attention = nn.MultiheadAttention(12, 2, batch_first=True).eval()
    attention.in_proj_weight.data, attention.in_proj_bias.data = last.attn.qkv.weight, last.attn.qkv.bias
    attention.out_proj.load_state_dict(last.attn.proj.state_dict())
    normed = functional.layer_norm(tokens, (12,), last.norm1.weight, last.norm1.bias, last.norm1.eps)
    values, _ = attention(normed, normed, normed, attn_mask=~torch.eye(17, dtype=torch.bool))
    expected = projected(model, values)
    plain = ProjectedCLIP("clip", tiny_clip(), HALF, HALF, value_path=False)(image())
    found = ProjectedCLIP("maskclip", model, HALF, HALF, value_path=True)(image())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, plain, atol=0.1)


def test_click_tokens_cannot_be_injected_early_and_the_error_says_what_can() -> None:
    backbone = ProjectedCLIP("clip_vitb16", tiny_clip(), HALF, HALF, value_path=False)
    assert not backbone.takes_click_tokens
    with pytest.raises(ProtocolError, match=f"(?s)'clip_vitb16'.*'late' or 'pre_upsampler'.*timm:{TIMM_NAME}"):
        backbone(image(), torch.zeros(2, 5, 4, 4))


@pytest.fixture
def flat(monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, **options: create(name, depth=1, **options))


@pytest.mark.usefixtures("flat")
def test_both_names_read_the_same_file_and_give_512_channels(tmp_path: Path) -> None:
    save_file(timm.create_model(TIMM_NAME).state_dict(), tmp_path / "clip.safetensors")
    loaded: dict[str, Any] = {}
    for name in ("clip_vitb16", "maskclip_vitb16"):
        loaded[name] = load_backbone(name, 32, weights=tmp_path / "clip.safetensors").eval()
        assert (loaded[name].channels, loaded[name].patch_size, loaded[name].name) == (512, 16, name)
        assert CHANNELS[name] == 512
        assert not loaded[name].has_random_weights
    first, second = (sum(value.double().sum() for value in each.state_dict().values()) for each in loaded.values())
    assert first == second
    picture = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert not torch.allclose(loaded["clip_vitb16"](picture), loaded["maskclip_vitb16"](picture), atol=1e-3)


@pytest.mark.usefixtures("flat")
def test_a_file_without_the_projection_is_refused(tmp_path: Path) -> None:
    state = {key: value for key, value in timm.create_model(TIMM_NAME).state_dict().items() if "head" not in key}
    save_file(state, tmp_path / "tower.safetensors")
    with pytest.raises(WeightsError, match=r"'clip_vitb16' with weights.*Missing key.*head\.weight"):
        load_backbone("clip_vitb16", 32, weights=tmp_path / "tower.safetensors")
