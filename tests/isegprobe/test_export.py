"""Probes written as checkpoints of iSegProbe load back unchanged, and contain what its loader needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from reference_files import MODEL_CLASS, SMALL_REFERENCE, SMALL_SIMPLE_VIT, backbone_state, reference_probe
from torch import Tensor

from vfm_isbench.errors import RunError
from vfm_isbench.isegprobe import assemble_reference, export_reference, protocol_of, read_reference
from vfm_isbench.probe import Probe
from vfm_isbench.upsamplers import Bicubic, Bilinear, Identity, JointBilateralUpsampler, Nearest, Upsampler
from vfm_isbench.upsamplers.published.featup import FeatUpJBU
from vfm_isbench.upsamplers.published.lift import LiFT
from vfm_isbench.upsamplers.published.loftup import LoftUp

UPSAMPLERS: dict[str, Upsampler] = {
    "identity": Identity(),
    "nearest": Nearest(),
    "bilinear": Bilinear(),
    "bicubic": Bicubic(),
    "lift": LiFT(64).eval(),
    "jbu_featup": FeatUpJBU(64, channel_norm=False).eval(),
    "loftup": LoftUp(64).eval(),
}
PROTOCOLS = {
    "patch embedding": SMALL_REFERENCE.replace(disk_radius=4),
    "SimpleViT": SMALL_SIMPLE_VIT.replace(head_layers=1),
    "linear head": SMALL_REFERENCE.replace(head="linear"),
}


def logits(probe: Probe) -> Tensor:
    image, clicks = torch.rand((2, 2, 3, 28, 28), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return probe(image, clicks)  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", UPSAMPLERS)
def test_whole_models_come_back(tmp_path: Path, name: str) -> None:
    probe = reference_probe(upsampler=UPSAMPLERS[name], heads=2)
    export_reference(probe, SMALL_REFERENCE, tmp_path / "new" / "whole.pth", include_frozen=True)
    checkpoint = read_reference(tmp_path / "new" / "whole.pth")
    assert protocol_of(checkpoint) == SMALL_REFERENCE
    torch.testing.assert_close(logits(assemble_reference(checkpoint)), logits(probe), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_trained_parts_come_back(tmp_path: Path, name: str) -> None:
    probe = reference_probe(PROTOCOLS[name])
    export_reference(probe, PROTOCOLS[name], tmp_path / "trained.pth")
    torch.save(backbone_state(), tmp_path / "backbone.pth")
    checkpoint = read_reference(tmp_path / "trained.pth")
    assert protocol_of(checkpoint) == PROTOCOLS[name]
    assert not checkpoint.tensors["backbone"]
    found = assemble_reference(checkpoint, backbone_weights=tmp_path / "backbone.pth")
    assert torch.equal(logits(found), logits(probe))


@pytest.mark.parametrize("name", UPSAMPLERS)
def test_the_file_is_as_its_loader_wants_it(tmp_path: Path, name: str) -> None:
    """Only plain types, and for every module the parameters of its constructor in iSegProbe."""
    protocol = PROTOCOLS["SimpleViT"]
    export_reference(reference_probe(protocol, UPSAMPLERS[name]), protocol, tmp_path / "a.pth")
    content: Any = torch.load(tmp_path / "a.pth", weights_only=True)
    assert content.keys() == {"state_dict", "config"}
    assert content["config"]["class"] == MODEL_CLASS
    assert {key.partition(".")[0] for key in content["state_dict"]} == {"embed_coords", "head"}
    values = {}
    for parameter, entry in content["config"]["params"].items():
        assert (entry.keys(), entry["type"], entry["specified"]) == ({"type", "value", "specified"}, "builtin", True)
        values[parameter] = entry["value"]
    assert values["backbone_cfg"] == {"type": "dinov2", "params": {"feats_injection_mode": "after_backbone"}}
    assert values["embed_coords_cfg"] == {
        "type": "simple_vit",
        "params": {
            "img_size": (28, 28), "patch_size": (14, 14), "embed_dim": 64, "depth": 1, "heads": 2, "dim_head": 4,
            "mlp_dim": 8, "channels": 3,
        },
    }  # fmt: skip
    assert values["head_cfg"]["params"] == {"in_channels": 64, "num_layers": 1, "num_classes": 1}
    upsampler_parameters = {
        "lift": {"lift_path", "n_dim", "patch"},
        "jbu_featup": {"backbone_type", "use_norm"},
        "loftup": {"upsampler_path", "n_dim"},
    }
    assert values["upsampler_cfg"]["type"] == name
    assert values["upsampler_cfg"]["params"].keys() == upsampler_parameters.get(name, set())
    assert values["norm_radius"] == 5 and values["use_disks"] is True and values["with_prev_mask"] is True
    assert values.keys() == {
        "backbone_cfg", "head_cfg", "embed_coords_cfg", "neck_cfg", "upsampler_cfg", "save_cfg", "architecture",
        "use_disks", "norm_radius", "with_prev_mask", "with_aux_output", "cpu_dist_maps", "use_rgb_conv",
        "use_leaky_relu", "norm_mean_std",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "upsampler", "match"),
    [
        ({"injection": "late"}, Bilinear(), "injection 'late' has no counterpart.*pre_upsampler"),
        ({"backbone": "dinov2_vitb14"}, Bilinear(), "backbone 'dinov2_vitb14' has no counterpart"),
        ({"position_embedding": "timm"}, Bilinear(), "position_embedding is 'timm'"),
        ({"align_corners": False}, Bilinear(), "align_corners is False"),
        ({"train_backbone": True}, Bilinear(), "train_backbone is True, but iSegProbe only has False"),
        ({"train_upsampler": True}, FeatUpJBU(64, channel_norm=False), "train_upsampler is True, but iSegProbe only"),
        ({}, Bilinear(align_corners=False), r"'bilinear\(align_corners=False\)' has no counterpart"),
        ({}, FeatUpJBU(64, channel_norm=True), "featup.* has no counterpart .*FeatUp without channel norm"),
        ({}, JointBilateralUpsampler(), "has no counterpart in iSegProbe"),
    ],
)
def test_what_has_no_counterpart_is_refused(
    tmp_path: Path, change: dict[str, Any], upsampler: Upsampler, match: str
) -> None:
    protocol = SMALL_REFERENCE.replace(**change)
    with pytest.raises(RunError, match=match):
        export_reference(reference_probe(protocol, upsampler), protocol, tmp_path / "a.pth")
    assert not list(tmp_path.iterdir())


def test_a_click_encoder_of_another_package_is_refused(tmp_path: Path) -> None:
    protocol = SMALL_REFERENCE.replace(click_encoder="of_a_plugin")
    with pytest.raises(RunError, match="click encoder 'of_a_plugin' has no counterpart in iSegProbe, which has"):
        export_reference(reference_probe(SMALL_REFERENCE), protocol, tmp_path / "a.pth")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("model.safetensors", r"model\.safetensors: .* write model\.pth"),
        ("folder", r"folder is a folder; give the file to write, such as .*folder/model\.pth"),
        ("file/a.pth", r"file/a\.pth cannot be written: .*; choose another file"),
    ],
)
def test_places_that_cannot_be_written_are_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, match: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.setattr(torch, "save", None)
    with pytest.raises(RunError, match=match):
        export_reference(reference_probe(), SMALL_REFERENCE, tmp_path / name)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]


def test_a_disk_that_fills_up_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.pth").write_text("earlier")

    def save(_: Any, path: Path) -> None:
        path.write_text("half")
        raise RuntimeError("no space left")

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(RunError, match=r"a\.pth cannot be written: no space left"):
        export_reference(reference_probe(), SMALL_REFERENCE, tmp_path / "a.pth")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.pth": "earlier"}
