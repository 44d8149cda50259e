"""Probes assembled from checkpoints of iSegProbe: the source of the frozen parts, and weights that must fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from reference_files import (
    SMALL_REFERENCE,
    backbone_state,
    parameters,
    reference_probe,
    reference_state,
    write_reference,
)
from torch import Tensor, nn

from vfm_isbench.errors import RunError, VfmIsbenchWarning, WeightsError
from vfm_isbench.isegprobe import assemble_reference, read_reference
from vfm_isbench.probe import Probe
from vfm_isbench.upsamplers import Identity, LoadedUpsampler
from vfm_isbench.upsamplers.published.featup import FeatUpJBU
from vfm_isbench.upsamplers.published.lift import LiFT
from vfm_isbench.upsamplers.published.loftup import LoftUp


def logits(probe: Probe, size: int = 28) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    image, clicks = torch.rand((2, 1, 3, size, size), generator=generator)
    with torch.no_grad():
        return probe(image, clicks)  # type: ignore[no-any-return]


@pytest.fixture
def probe() -> Probe:
    return reference_probe()


@pytest.fixture
def path(tmp_path: Path, probe: Probe) -> Path:
    """A checkpoint of the probe without frozen parts."""
    return write_reference(tmp_path / "a.pth", reference_state(probe), parameters())


@pytest.mark.parametrize("layout", ["timm", "module", "a whole model", "a whole model behind module"])
def test_the_backbone_comes_from_a_file(tmp_path: Path, path: Path, probe: Probe, layout: str) -> None:
    state = backbone_state()
    if "whole" in layout:
        state = {f"backbone.model.{key}": value for key, value in state.items()} | {"head.x": torch.ones(1)}
    if "module" in layout:
        state = {f"module.{key}": value for key, value in state.items()}
    torch.save(state, tmp_path / "backbone.pth")
    found = assemble_reference(read_reference(path), backbone_weights=tmp_path / "backbone.pth")
    assert not found.training
    assert torch.equal(logits(found), logits(probe))


def test_the_backbone_of_the_checkpoint_goes_first(tmp_path: Path, probe: Probe) -> None:
    whole = reference_state(probe) | {f"backbone.model.{key}": value for key, value in backbone_state().items()}
    checkpoint = read_reference(write_reference(tmp_path / "whole.pth", whole, parameters()))
    assert torch.equal(logits(assemble_reference(checkpoint)), logits(probe))
    torch.save({key: value + 1 for key, value in backbone_state().items()}, tmp_path / "other.pth")
    with pytest.warns(VfmIsbenchWarning, match=r"other\.pth, are not used"):
        found = assemble_reference(checkpoint, backbone_weights=tmp_path / "other.pth")
    assert torch.equal(logits(found), logits(probe))


def test_without_a_backbone_the_error_says_how_to_give_one(tmp_path: Path, path: Path) -> None:
    with pytest.raises(RunError, match=r"a\.pth contains no backbone.*64 channels.*--backbone-weights"):
        assemble_reference(read_reference(path))
    with pytest.raises(RunError, match="absent.pth is not a file"):
        assemble_reference(read_reference(path), backbone_weights=tmp_path / "absent.pth")


def test_a_backbone_with_other_channels_is_refused(tmp_path: Path, path: Path) -> None:
    torch.save(backbone_state(channels=128), tmp_path / "wide.pth")
    with pytest.raises(WeightsError, match=r"wide\.pth has 128 channels.*a\.pth was trained with 64"):
        assemble_reference(read_reference(path), backbone_weights=tmp_path / "wide.pth")


@pytest.mark.parametrize(
    ("name", "upsampler", "prefix"),
    [
        ("lift", LiFT(64), "upsampler.lift."),
        ("jbu_featup", FeatUpJBU(64, channel_norm=False), "upsampler.upsampler."),
        ("loftup", LoftUp(64), "upsampler."),
    ],
)
def test_a_pretrained_upsampler(tmp_path: Path, name: str, upsampler: nn.Module, prefix: str) -> None:
    """The checkpoint's own if it has weights; otherwise an error asks for one, and a given one is used."""
    probe = reference_probe(upsampler=upsampler.eval())
    values = parameters(upsampler_cfg={"type": name, "params": {"n_dim": 64}})
    torch.save(backbone_state(), tmp_path / "backbone.pth")
    weights = {f"{prefix}{key}": value for key, value in upsampler.state_dict().items()}
    whole = read_reference(write_reference(tmp_path / "whole.pth", reference_state(probe) | weights, values))
    found = assemble_reference(whole, backbone_weights=tmp_path / "backbone.pth")
    assert isinstance(found.upsampler.call, type(upsampler))
    assert found.upsampler.source == {"kind": found.upsampler.name.removesuffix("_jbu"), "weights": "whole.pth"}
    assert torch.equal(logits(found), logits(probe))
    lacking = read_reference(write_reference(tmp_path / "lacking.pth", reference_state(probe), values))
    with pytest.raises(RunError, match=r"lacking\.pth was trained with the upsampler .* --upsampler SPEC"):
        assemble_reference(lacking, backbone_weights=tmp_path / "backbone.pth")
    given = LoadedUpsampler.of(upsampler)
    found = assemble_reference(lacking, backbone_weights=tmp_path / "backbone.pth", upsampler=given)
    assert torch.equal(logits(found), logits(probe))


def test_the_error_knows_which_featup_is_lacking(tmp_path: Path, probe: Probe) -> None:
    for use_norm, match in ((True, r"featup:dinov2\?norm=false"), (False, r"featup:FILE .* no_norm/")):
        values = parameters(upsampler_cfg={"type": "jbu_featup", "params": {"use_norm": use_norm}})
        whole = reference_state(probe) | {f"backbone.model.{key}": value for key, value in backbone_state().items()}
        with pytest.raises(RunError, match=match):
            assemble_reference(read_reference(write_reference(tmp_path / "a.pth", whole, values)))


def test_another_upsampler_takes_the_place(tmp_path: Path, path: Path) -> None:
    torch.save(backbone_state(), tmp_path / "backbone.pth")
    given = LoadedUpsampler.of(Identity())
    found = assemble_reference(read_reference(path), backbone_weights=tmp_path / "backbone.pth", upsampler=given)
    assert found.upsampler is given


def test_weights_must_fit_exactly(tmp_path: Path, probe: Probe) -> None:
    torch.save(backbone_state(), tmp_path / "backbone.pth")

    def refused(change: dict[str, Tensor | None], match: str) -> None:
        state = {key: value for key, value in (reference_state(probe) | change).items() if value is not None}
        checkpoint = read_reference(write_reference(tmp_path / "bad.pth", state, parameters()))
        with pytest.raises(WeightsError, match=rf"bad\.pth, {match}"):
            assemble_reference(checkpoint, backbone_weights=tmp_path / "backbone.pth")

    refused({"head.classifier.bias": None}, r"head .*missing: classifier\.bias")
    refused({"head.convs.2.conv.bias": torch.ones(1)}, r"head .*unexpected: convs\.2\.conv\.bias")
    refused({"embed_coords.proj.bias": torch.ones(7)}, r"click_encoder .*proj\.bias is 7")


def test_the_recorded_pth_equals_the_recorded_safetensors(parity_root: Path) -> None:
    """The same head and click encoder, once as iSegProbe saves them, without their frozen parts."""
    whole = parity_root / "end_to_end" / "identity_pre-upsampler_simple-vit.safetensors"
    without = read_reference(whole.with_suffix(".reference.pth"))
    expected = logits(assemble_reference(read_reference(whole)), 224)
    found = logits(assemble_reference(without, backbone_weights=whole), 224)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_the_recorded_lift(parity_root: Path) -> None:
    probe = assemble_reference(read_reference(parity_root / "end_to_end" / "lift_early_patch-embedding.safetensors"))
    assert isinstance(probe.upsampler.call, LiFT)
    assert probe.injection == "early"
    assert logits(probe, 224).shape == (1, 1, 224, 224)


def test_the_protocol_decides_the_assembly(path: Path, tmp_path: Path) -> None:
    torch.save(backbone_state(), tmp_path / "backbone.pth")
    found = assemble_reference(read_reference(path), backbone_weights=tmp_path / "backbone.pth")
    assert (found.injection, found.align_corners) == (SMALL_REFERENCE.injection, True)
