"""From a protocol's names to modules."""

from __future__ import annotations

import warnings

import pytest
import timm
import torch
from small import SMALL

from vfm_isbench.backbones.timm_models import FeatureMapBackbone
from vfm_isbench.click_encoders import PatchEmbedding, SimpleViT
from vfm_isbench.errors import ProtocolError, VfmIsbenchWarning
from vfm_isbench.heads import ConvHead, LinearHead
from vfm_isbench.probe import build_probe, check_combination
from vfm_isbench.probe.build import build_click_encoder, build_head
from vfm_isbench.protocol import Protocol
from vfm_isbench.testing.fakes import FakeBackbone
from vfm_isbench.upsamplers import Bilinear


def weights(protocol: Protocol) -> dict[str, torch.Tensor]:
    return build_probe(protocol, FakeBackbone(), Bilinear()).trainable().state_dict()


def test_click_encoders_fit_the_backbone() -> None:
    backbone = FakeBackbone(channels=12, patch_size=7)
    click_map = torch.zeros(1, 3, 28, 35)
    for name, kind in (("patch_embedding", PatchEmbedding), ("simple_vit", SimpleViT)):
        encoder = build_click_encoder(SMALL.replace(click_encoder=name), backbone)
        assert isinstance(encoder, kind)
        assert encoder(click_map).shape == (1, 12, 4, 5)


def test_the_sizes_of_simple_vit_are_those_of_the_protocol() -> None:
    protocol = SMALL.replace(simple_vit_depth=3, simple_vit_heads=5, simple_vit_head_width=6, simple_vit_hidden=11)
    state = build_click_encoder(protocol, FakeBackbone()).state_dict()
    assert state["transformer.layers.2.0.to_qkv.weight"].shape == (3 * 5 * 6, 8)
    assert state["transformer.layers.2.1.net.1.weight"].shape == (11, 8)
    assert not any(key.startswith("transformer.layers.3") for key in state)


def test_heads() -> None:
    assert isinstance(build_head(SMALL.replace(head="linear"), 8), LinearHead)
    deep = build_head(SMALL.replace(head_layers=3), 8)
    assert isinstance(deep, ConvHead) and len(deep.convs) == 3


def test_initial_weights_follow_the_seed_and_leave_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    first, same, other = weights(SMALL), weights(SMALL), weights(SMALL.replace(seed=1))
    assert torch.equal(torch.get_rng_state(), before)
    for key, value in first.items():
        assert torch.equal(value, same[key])
    assert not torch.equal(first["head.convs.0.conv.weight"], other["head.convs.0.conv.weight"])


def test_the_probe_follows_the_protocol() -> None:
    probe = build_probe(SMALL.replace(injection="early", align_corners=False), FakeBackbone(), Bilinear())
    assert probe.injection == "early"
    assert probe.align_corners is False


@pytest.mark.parametrize(
    ("encoder", "injection"), [("patch_embedding", "early"), ("simple_vit", "late"), ("simple_vit", "pre_upsampler")]
)
def test_the_pairs_of_paper_and_reference_pass_silently(encoder: str, injection: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_combination(SMALL.replace(click_encoder=encoder, injection=injection), FakeBackbone())


@pytest.mark.parametrize(
    ("encoder", "injection"),
    [("simple_vit", "early"), ("patch_embedding", "late"), ("patch_embedding", "pre_upsampler")],
)
def test_mismatched_pairs_warn(encoder: str, injection: str) -> None:
    with pytest.warns(VfmIsbenchWarning, match=f"'{encoder}' with injection '{injection}' is a mismatched pair"):
        check_combination(SMALL.replace(click_encoder=encoder, injection=injection), FakeBackbone())


def test_nothing_is_known_of_the_pairs_of_other_click_encoders() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for injection in ("early", "late", "pre_upsampler"):
            check_combination(SMALL.replace(click_encoder="of_a_plugin", injection=injection), FakeBackbone())


def test_early_injection_needs_a_patch_embedding() -> None:
    model = timm.create_model("test_efficientnet", features_only=True, out_indices=(2,))
    backbone = FeatureMapBackbone("cnn", model, (0.5,) * 3, (0.5,) * 3)
    protocol = SMALL.replace(injection="early", click_encoder="patch_embedding", image_size=64, backbone="cnn")
    with pytest.raises(ProtocolError, match="'early' .*'cnn' does not have; use injection 'late'"):
        check_combination(protocol, backbone)


def test_an_image_of_broken_patches_is_refused() -> None:
    with pytest.raises(ProtocolError, match="image_size 30 is not a multiple of 14"):
        check_combination(SMALL.replace(image_size=30), FakeBackbone())
