"""What reading checkpoints of iSegProbe accepts and refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from reference_files import (
    SMALL_REFERENCE,
    foreign_values,
    parameters,
    reference_probe,
    reference_state,
    write_reference,
)
from safetensors.torch import save_file

from vfm_isbench.errors import RunError, WeightsError
from vfm_isbench.isegprobe import is_reference, protocol_of, read_reference
from vfm_isbench.protocol import Protocol

DESCRIPTION: dict[str, Any] = {
    "upsampler": "bilinear",
    "injection": "early",
    "click_encoder": "patch_embedding",
    "head": {"type": "conv", "in_channels": 64, "num_layers": 2, "num_classes": 1},
    "backbone": {"type": "dinov2", "embed_dim": 64, "num_heads": 1},
    "click_encoder_params": {"image_size": 28, "patch_size": 14, "embed_dim": 64, "channels": 3},
    "clicks": {"disk_radius": 5, "previous_mask": True},
}


def with_field(path: str, value: Any) -> dict[str, Any]:
    """The parameters with one, possibly nested, field set to another value."""
    values = parameters()
    *outer, last = path.split(".")
    section = values
    for name in outer:
        section = section[name]
    section[last] = value
    return values


def test_a_plain_file(tmp_path: Path) -> None:
    probe = reference_probe()
    state = reference_state(probe) | {"backbone.model.cls_token": torch.ones(1), "upsampler.x.y": torch.zeros(2)}
    checkpoint = read_reference(write_reference(tmp_path / "a.pth", state, parameters()))
    assert protocol_of(checkpoint) == SMALL_REFERENCE
    assert checkpoint.source == tmp_path / "a.pth"
    assert {part: len(tensors) for part, tensors in checkpoint.tensors.items()} == {
        "click_encoder": 2,
        "head": 6,
        "backbone": 1,
        "upsampler": 1,
    }
    assert torch.equal(checkpoint.tensors["head"]["classifier.bias"], state["head.classifier.bias"])
    assert list(checkpoint.tensors["backbone"]) == ["cls_token"]


def test_a_file_with_objects_of_foreign_classes(tmp_path: Path) -> None:
    """EasyDict, OmegaConf and classes of the reference, none of which are imported."""
    state = reference_state(reference_probe())
    with foreign_values() as values:
        write_reference(tmp_path / "a.pth", state, values)
    with pytest.raises(Exception, match="Weights only load failed"):
        torch.load(tmp_path / "a.pth", weights_only=True)
    assert protocol_of(read_reference(tmp_path / "a.pth")) == SMALL_REFERENCE
    assert not {"easydict", "core.utils.model_builder"} & sys.modules.keys()


def test_simple_vit_late_sizes_and_upsampler(tmp_path: Path) -> None:
    sizes = {"img_size": 112, "patch_size": 14, "embed_dim": 384, "channels": 3}
    blocks = {"depth": 3, "heads": 5, "mlp_dim": 77, "dim_head": 16}
    values = parameters(
        backbone_cfg={"type": "dinov2", "params": {"arch": "dinov2_vits14", "feats_injection_mode": "after_backbone"}},
        embed_coords_cfg={"type": "simple_vit", "params": sizes | blocks},
        head_cfg={"type": "linear", "params": {"in_channels": 384, "num_classes": 1}},
        upsampler_cfg={"type": "jbu_featup", "params": {"backbone_type": "dinov2", "use_norm": True}},
        norm_radius=3,
    )
    checkpoint = read_reference(write_reference(tmp_path / "a.pth", {}, values))
    assert protocol_of(checkpoint) == Protocol.preset("reference").replace(
        backbone="dinov2_vits14",
        image_size=112,
        click_encoder="simple_vit",
        simple_vit_depth=3,
        simple_vit_heads=5,
        simple_vit_hidden=77,
        simple_vit_head_width=16,
        injection="pre_upsampler",
        head="linear",
        disk_radius=3,
    )
    assert checkpoint.model.upsampler == "featup"
    assert checkpoint.model.featup_norm


@pytest.mark.parametrize(
    ("name", "expected"),
    [("jbu", "featup"), ("FeatUp", "featup"), ("JBU_FeatUp", "featup"), ("LiFT", "lift"), ("LoftUp", "loftup")],
)
def test_names_of_upsamplers_in_any_case(tmp_path: Path, name: str, expected: str) -> None:
    values = parameters(upsampler_cfg={"type": name, "params": {}})
    assert read_reference(write_reference(tmp_path / "a.pth", {}, values)).model.upsampler == expected
    save_file({}, tmp_path / "a.safetensors", {"config": json.dumps(DESCRIPTION | {"upsampler": name})})
    assert read_reference(tmp_path / "a.safetensors").model.upsampler == expected


@pytest.mark.parametrize(
    ("params", "expected"), [({"use_norm": False}, False), ({"use_norm": True}, True), ({}, True), (None, True)]
)
def test_what_featup_was_trained_behind(tmp_path: Path, params: dict[str, Any] | None, expected: bool) -> None:
    values = parameters(upsampler_cfg={"type": "jbu_featup", "params": params})
    assert read_reference(write_reference(tmp_path / "a.pth", {}, values)).model.featup_norm is expected


def test_module_before_all_keys_is_left_out(tmp_path: Path) -> None:
    """As DataParallel leaves it."""
    state = reference_state(reference_probe()) | {"backbone.model.cls_token": torch.ones(1)}
    behind = {f"module.{key}": value for key, value in state.items()}
    expected = read_reference(write_reference(tmp_path / "a.pth", state, parameters())).tensors
    save_file(behind, tmp_path / "b.safetensors", {"config": json.dumps(DESCRIPTION)})
    for path in (write_reference(tmp_path / "b.pth", behind, parameters()), tmp_path / "b.safetensors"):
        found = read_reference(path).tensors
        assert {part: found[part].keys() for part in found} == {part: expected[part].keys() for part in expected}
    behind["other"] = torch.ones(1)
    with pytest.raises(WeightsError, match=r"unknown parts: module\.embed_coords"):
        read_reference(write_reference(tmp_path / "c.pth", behind, parameters()))


def test_no_upsampler_means_bilinear(tmp_path: Path) -> None:
    path = write_reference(tmp_path / "a.pth", {}, parameters(upsampler_cfg=None))
    assert read_reference(path).model.upsampler == "bilinear"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("architecture", "backbone_neck_head"),
        ("neck_cfg", {"type": "fpn"}),
        ("use_disks", False),
        ("with_prev_mask", False),
        ("with_aux_output", True),
        ("use_rgb_conv", True),
        ("use_leaky_relu", True),
        ("norm_mean_std", ([0.5] * 3, [0.5] * 3)),
        ("norm_radius", 0),
        ("novelty", True),
        ("backbone_cfg", None),
        ("backbone_cfg.type", "mask_clip"),
        ("backbone_cfg.type", "vit"),
        ("backbone_cfg.params.arch", "dinov2_vitb14"),
        ("backbone_cfg.params.feats_injection_mode", "no_injection"),
        ("embed_coords_cfg.type", "fourier"),
        ("embed_coords_cfg.params.img_size", (224, 448)),
        ("embed_coords_cfg.params.embed_dim", "64"),
        ("embed_coords_cfg.params.channels", 2),
        ("head_cfg.type", "simple_conv"),
        ("head_cfg.params.num_classes", 21),
        ("head_cfg.params.in_channels", 128),
        ("upsampler_cfg.type", "anyup"),
    ],
)
def test_what_is_not_supported_is_refused_naming_the_field(tmp_path: Path, field: str, value: Any) -> None:
    path = write_reference(tmp_path / "a.pth", {}, with_field(field, value))
    with pytest.raises(RunError, match=rf"a\.pth: field {field} of its configuration is .*; supported: "):
        read_reference(path)


def test_a_description_in_the_header(tmp_path: Path) -> None:
    save_file(reference_state(reference_probe()), tmp_path / "a.safetensors", {"config": json.dumps(DESCRIPTION)})
    checkpoint = read_reference(tmp_path / "a.safetensors")
    assert protocol_of(checkpoint) == SMALL_REFERENCE
    assert checkpoint.model.backbone_heads == 1
    assert len(checkpoint.tensors["head"]) == 6


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"injection": "before"}, "injection"),
        ({"backbone": {"type": "vit"}}, "backbone.type"),
        ({"clicks": {"disk_radius": 5, "previous_mask": False}}, "clicks.previous_mask"),
        ({"upsampler": "none"}, "upsampler"),
        ({"click_encoder": "simple_vit"}, "click_encoder_params.depth"),
    ],
)
def test_descriptions_that_are_not_supported(tmp_path: Path, change: dict[str, Any], field: str) -> None:
    save_file({}, tmp_path / "a.safetensors", {"config": json.dumps(DESCRIPTION | change)})
    with pytest.raises(RunError, match=rf"a\.safetensors: field {field} of"):
        read_reference(tmp_path / "a.safetensors")


def test_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"absent\.pth"):
        read_reference(tmp_path / "absent.pth")
    torch.save({"state_dict": {}}, tmp_path / "bare.pth")
    with pytest.raises(RunError, match=r"bare\.pth is not a checkpoint of iSegProbe"):
        read_reference(tmp_path / "bare.pth")
    torch.save({"state_dict": {}, "config": {"class": "isegm.model.HRNetModel", "params": {}}}, tmp_path / "ritm.pth")
    with pytest.raises(RunError, match=r"field config\.class .*HRNetModel.*iSegProbeModel"):
        read_reference(tmp_path / "ritm.pth")
    write_reference(tmp_path / "parts.pth", {"neck.0.weight": torch.ones(1)}, parameters())
    with pytest.raises(WeightsError, match=r"parts\.pth contains tensors of unknown parts: neck\.0\.weight"):
        read_reference(tmp_path / "parts.pth")
    write_reference(tmp_path / "odd.pth", {"head.weight": "text"}, parameters())  # type: ignore[dict-item]
    with pytest.raises(WeightsError, match=r"odd\.pth: its state_dict contains something other"):
        read_reference(tmp_path / "odd.pth")
    save_file({}, tmp_path / "plain.safetensors")
    with pytest.raises(RunError, match="metadata key config"):
        read_reference(tmp_path / "plain.safetensors")


def test_own_checkpoints_are_told_from_the_references(tmp_path: Path) -> None:
    save_file({}, tmp_path / "own.safetensors", {"vfm_isbench": "{}"})
    save_file({}, tmp_path / "recorded.safetensors", {"config": "{}"})
    assert not is_reference(tmp_path / "own.safetensors")
    assert not is_reference(tmp_path / "absent.safetensors")
    assert is_reference(tmp_path / "recorded.safetensors")
    assert is_reference(tmp_path / "any.pth")


def test_the_recorded_models(parity_root: Path) -> None:
    folder = parity_root / "end_to_end"
    early = Protocol.preset("reference").replace(
        backbone="dinov2_width64", click_encoder="patch_embedding", injection="early"
    )
    simple_vit = Protocol.preset("reference").replace(
        backbone="dinov2_width64",
        simple_vit_depth=2,
        simple_vit_heads=4,
        simple_vit_head_width=16,
        simple_vit_hidden=128,
    )
    for name, expected in {
        "bilinear_early_patch-embedding.safetensors": early,
        "lift_early_patch-embedding.safetensors": early,
        "bilinear_pre-upsampler_simple-vit.safetensors": simple_vit,
        "identity_pre-upsampler_simple-vit.safetensors": simple_vit,
        "identity_pre-upsampler_simple-vit.reference.pth": simple_vit,
    }.items():
        checkpoint = read_reference(folder / name)
        assert protocol_of(checkpoint) == expected
        assert checkpoint.model.upsampler == name.partition("_")[0]
        assert bool(checkpoint.tensors["backbone"]) == name.endswith(".safetensors")
        assert bool(checkpoint.tensors["upsampler"]) == name.startswith("lift")
