"""Networks of timm from repositories on the hub: from its cache and from folders, without a network."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from vfm_isbench.backbones import load_backbone
from vfm_isbench.errors import UnknownNameError, WeightsError
from vfm_isbench.storage.no_downloads import no_downloads

COMMIT, OTHER = "1" * 40, "2" * 40
CONFIG: dict[str, Any] = {
    "architecture": "test_vit",
    "num_classes": 7,
    "pretrained_cfg": {"tag": "mine", "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "input_size": [3, 160, 160]},
}


def write_repository(folder: Path, config: dict[str, Any] = CONFIG, seed: int = 0, **options: Any) -> Path:
    """What ``timm.models.save_for_hf`` writes."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    model = timm.create_model(config["architecture"], num_classes=config.get("num_classes", 7), **options)
    save_file(model.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache with one repository and two commits, and a hub that nothing reaches."""
    repository = tmp_path / "hub" / "models--someone--my.model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    write_repository(repository / "snapshots" / COMMIT)
    write_repository(repository / "snapshots" / OTHER, seed=1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setattr("urllib.request.getproxies", dict)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return repository


def same(first: torch.nn.Module, folder: Path) -> bool:
    from safetensors.torch import load_file

    weights, own = load_file(folder / "model.safetensors"), first.state_dict()
    return torch.equal(weights["blocks.0.attn.qkv.weight"], own["model.blocks.0.attn.qkv.weight"])


@pytest.mark.parametrize("prefix", ["hf-hub:", "timm:hf-hub:"])
def test_a_repository_is_read_from_the_cache_without_a_network(hub: Path, prefix: str) -> None:
    backbone = load_backbone(f"{prefix}someone/my.model", 160).eval()
    assert backbone.name == f"{prefix}someone/my.model"
    assert (backbone.mean, backbone.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert (backbone.feature_norm, backbone.has_random_weights) == ("final norm", False)
    assert backbone.commit == COMMIT
    assert same(backbone, hub / "snapshots" / COMMIT)
    with torch.no_grad():
        assert backbone(torch.zeros(1, 3, 160, 160)).shape == (1, backbone.channels, 10, 10)


def test_a_commit_names_other_weights_and_is_part_of_the_name(hub: Path) -> None:
    with no_downloads():
        backbone = load_backbone(f"hf-hub:someone/my.model@{OTHER}", 160)
    assert backbone.name == f"hf-hub:someone/my.model@{OTHER}"
    assert same(backbone, hub / "snapshots" / OTHER)


def test_a_stride_follows_the_revision(hub: Path) -> None:
    write_repository(hub / "snapshots" / COMMIT, {"architecture": "test_efficientnet", "num_classes": 7})
    for name in ("hf-hub:someone/my.model@8", "hf-hub:someone/my.model@main@8"):
        backbone = load_backbone(name, 96)
        assert (backbone.name, backbone.patch_size, backbone.takes_click_tokens) == (name, 8, False)


def test_settings_of_the_model_are_followed(hub: Path) -> None:
    write_repository(hub / "snapshots" / COMMIT, {**CONFIG, "model_args": {"depth": 2, "img_size": 160}}, depth=2)
    backbone = load_backbone("hf-hub:someone/my.model", 160)
    assert len(backbone.model.blocks) == 2


def test_a_folder_or_file_of_the_repository_can_be_given(tmp_path: Path) -> None:
    folder = write_repository(tmp_path / "copy")
    for weights in (folder, folder / "model.safetensors"):
        backbone = load_backbone("hf-hub:nobody/nothing", 160, weights=weights)
        assert same(backbone, folder)
        assert backbone.commit is None


@pytest.mark.usefixtures("hub")
def test_what_is_not_in_the_cache_is_reported_with_its_address() -> None:
    with pytest.raises(WeightsError, match=r"'hf-hub:a/b'.*cannot be reached.*/a/b/resolve/main/config\.json"):
        load_backbone("hf-hub:a/b", 160)


def test_random_weights_need_only_the_configuration(hub: Path) -> None:
    (hub / "snapshots" / COMMIT / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"'hf-hub:someone/my\.model' could not be fetched"):
        load_backbone("hf-hub:someone/my.model", 160)
    assert load_backbone("hf-hub:someone/my.model", 160, pretrained=False).has_random_weights


@pytest.mark.parametrize(("config", "said"), [
    ({"model_type": "clip"}, "not one of timm.*'architecture'.*huggingface.co/timm"),
    ({"architecture": "../x"}, "unknown timm model '../x'"),
    ({**CONFIG, "model_args": {"pretrained_cfg": "x"}}, r"says 'x' in model_args\.pretrained_cfg"),
    ({**CONFIG, "model_args": {"block_fn": {"a": 1}}}, r"model_args\.block_fn"),
    ({**CONFIG, "pretrained_cfg": {"mean": [1]}}, "expected three numbers"),
    ([], "not one of timm"),
    ({**CONFIG, "num_classes": "many"}, "not one of timm"),
])  # fmt: skip
def test_configurations_that_are_not_timms_are_refused(hub: Path, config: Any, said: str) -> None:
    (hub / "snapshots" / COMMIT / "config.json").write_text(json.dumps(config))
    with pytest.raises((WeightsError, UnknownNameError), match=f"(?s){said}"):
        load_backbone("hf-hub:someone/my.model", 160)


def test_a_configuration_cannot_choose_which_file_is_read(hub: Path, tmp_path: Path) -> None:
    """timm itself would load what ``file``, ``url`` and ``hf_hub_id`` name, and run a loader of the model's own."""
    other = write_repository(tmp_path / "other", seed=5)
    chosen = {"file": str(other / "model.safetensors"), "custom_load": True, "hf_hub_id": "a/b", "source": "local-dir"}
    config = {**CONFIG, "pretrained_cfg": {**CONFIG["pretrained_cfg"], **chosen}}
    (hub / "snapshots" / COMMIT / "config.json").write_text(json.dumps(config))
    assert same(load_backbone("hf-hub:someone/my.model", 160), hub / "snapshots" / COMMIT)


def test_weights_of_another_network_are_refused(hub: Path) -> None:
    save_file({"conv": torch.zeros(1)}, hub / "snapshots" / COMMIT / "model.safetensors")
    with pytest.raises(
        WeightsError,
        match=r"weights of 'hf-hub:someone/my.model' lack .* another one. Are these the weights of test_vit",
    ):
        load_backbone("hf-hub:someone/my.model", 160)


def test_a_configuration_cannot_declare_layers_to_be_random(hub: Path) -> None:
    """timm leaves out the weights of what is called a classifier, if the number of classes differs."""
    config = {**CONFIG, "pretrained_cfg": {**CONFIG["pretrained_cfg"], "classifier": "patch_embed.proj"}}
    (hub / "snapshots" / COMMIT / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=r"lack 2 of .*\(patch_embed\.proj\.weight, patch_embed\.proj\.bias\)"):
        load_backbone("hf-hub:someone/my.model", 160)


@pytest.mark.parametrize("name", ["hf-hub:model", "hf-hub:a/b/c", "hf-hub:", "hf-hub:../../x@y z"])
def test_names_that_are_no_repositories_are_refused(name: str) -> None:
    with pytest.raises(UnknownNameError, match="expected hf-hub:OWNER/NAME"):
        load_backbone(name, 160)
