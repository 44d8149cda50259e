from __future__ import annotations

import hashlib
import importlib
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_repositories import MIXIN, write_repository
from safetensors.torch import load_file, save_file
from torch import nn

from vfm_isbench.errors import ContractError, UnknownNameError, VfmIsbenchWarning, WeightsError
from vfm_isbench.upsamplers import LoadOptions, check_upsampler, find_module, identity_of
from vfm_isbench.upsamplers.loading.hub_mixin import load_from_hf

FEATURES, IMAGE = torch.rand(2, 4, 4, 6), torch.rand(2, 3, 20, 30)
CONSENT = LoadOptions(trust_remote_code=True)
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def mixing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of the mixin, of a class in a package of the user's own."""
    write_repository(tmp_path / "own", own_mixing=MIXIN)
    monkeypatch.syspath_prepend(tmp_path / "own")
    torch.manual_seed(0)
    return importlib.import_module("own_mixing").Mixing(scale=2.0).eval()


@pytest.fixture(autouse=True)
def forget_own_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "own_mixing", raising=False)


@pytest.fixture
def pushed(tmp_path: Path, mixing: Any) -> Path:
    """What the mixin pushes, as a local folder."""
    folder = tmp_path / "pushed"
    mixing.save_pretrained(folder)
    return folder


@pytest.fixture
def with_code(pushed: Path) -> Path:
    """The same, with the class in the repository."""
    return write_repository(pushed, modelling=MIXIN)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Snapshots of an offline cache of the Hugging Face hub, in which owner/mixing has one commit."""
    repository = tmp_path / "hub/models--owner--mixing"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text(COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return repository / "snapshots"


def expected(mixing: Any) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = mixing(IMAGE, FEATURES, (20, 30))
    return result


def test_a_pushed_module_comes_back_through_a_class_of_ones_own(pushed: Path, mixing: Any) -> None:
    upsampler = load_from_hf(f"{pushed}:own_mixing:Mixing", LoadOptions())
    assert check_upsampler(upsampler, channels=4, grid=(4, 6), image_size=(20, 30)).output_size == (20, 30)
    assert torch.equal(upsampler(FEATURES, IMAGE), expected(mixing))
    identity = identity_of(upsampler)
    assert (identity.name, identity.kind) == ("hf:pushed:own_mixing:Mixing", "module")
    assert dict(identity.source or {}) == {
        "kind": "huggingface_hub",
        "repository": "pushed",
        "revision": None,
        "commit": None,
        "class": "own_mixing:Mixing",
        "code_sha256": None,
        "weights_file": "model.safetensors",
        "weights_sha256": hashlib.sha256((pushed / "model.safetensors").read_bytes()).hexdigest(),
        "attribute": None,
        "arguments": {},
        "style": "image_features_size",
        "attention": (identity.source or {})["attention"],
        "warnings": [],
    }


def test_a_class_in_a_file_and_arguments_that_replace_the_settings(pushed: Path, tmp_path: Path, mixing: Any) -> None:
    upsampler = load_from_hf(f"{pushed}:{tmp_path}/own/own_mixing.py:Mixing?scale=6", LoadOptions())
    torch.testing.assert_close(upsampler(FEATURES, IMAGE), 3 * expected(mixing))
    identity = identity_of(upsampler)
    assert re.fullmatch(r"hf:pushed:own_mixing@\w+:Mixing\?scale=6", identity.name)
    assert str(tmp_path) not in json.dumps(identity.source)
    with pytest.raises(UnknownNameError, match="'revision' cannot be given"):
        load_from_hf(f"{pushed}:own_mixing:Mixing?revision=main", LoadOptions())


def test_code_of_the_repository_is_not_run_without_consent(with_code: Path, mixing: Any) -> None:
    for spec in (f"{with_code}", f"{with_code}:Mixing", "owner/mixing"):
        with pytest.raises(ContractError, match="in the Python files of the .*--trust-remote-code"):
            load_from_hf(spec, LoadOptions())
    assert not (with_code / "was_run").exists()
    for spec in (f"{with_code}", f"{with_code}:Mixing"):
        upsampler = load_from_hf(spec, CONSENT)
        assert torch.equal(upsampler(FEATURES, IMAGE), expected(mixing))
    assert (with_code / "was_run").exists()
    source = identity_of(upsampler).source or {}
    assert source["class"] == "modelling:Mixing" and len(source["code_sha256"]) == 64


def test_the_identity_is_stable_and_changes_with_the_weights(with_code: Path) -> None:
    before = identity_of(load_from_hf(f"{with_code}", CONSENT)).sha256
    assert before is not None
    assert identity_of(load_from_hf(f"{with_code}", CONSENT)).sha256 == before
    tensors = load_file(with_code / "model.safetensors")
    save_file({key: value + 1 for key, value in tensors.items()}, with_code / "model.safetensors")
    assert identity_of(load_from_hf(f"{with_code}", CONSENT)).sha256 != before


def test_old_pickled_weights_are_read_without_running_anything(pushed: Path, mixing: Any) -> None:
    (pushed / "model.safetensors").unlink()
    torch.save(mixing.state_dict(), pushed / "pytorch_model.bin")
    upsampler = load_from_hf(f"{pushed}:own_mixing:Mixing", LoadOptions())
    assert torch.equal(upsampler(FEATURES, IMAGE), expected(mixing))
    torch.save(mixing, pushed / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="pytorch_model.bin"):
        load_from_hf(f"{pushed}:own_mixing:Mixing", LoadOptions())


def test_weights_that_do_not_fit_are_refused(pushed: Path) -> None:
    save_file({"mix.weight": torch.zeros(4, 4, 1, 1)}, pushed / "model.safetensors")
    with pytest.raises(WeightsError, match="does not fit Mixing(?s:.*)mix.bias"):
        load_from_hf(f"{pushed}:own_mixing:Mixing", LoadOptions())
    (pushed / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="expected model.safetensors or pytorch_model.bin"):
        load_from_hf(f"{pushed}:own_mixing:Mixing", LoadOptions())


@pytest.mark.parametrize(("place", "pinned"), [("owner/mixing", False), (f"owner/mixing@{COMMIT}", True)])
def test_the_hub_s_cache_gives_files_and_commit(
    with_code: Path, hub: Path, mixing: Any, place: str, pinned: bool
) -> None:
    shutil.copytree(with_code, hub / COMMIT)
    for own, options in ((":own_mixing:Mixing", LoadOptions()), ("", CONSENT)):
        if pinned:
            upsampler = load_from_hf(f"{place}{own}", options)
        else:
            with pytest.warns(VfmIsbenchWarning, match=f"not pinned.*pin it: hf:owner/mixing@{COMMIT}{own}"):
                upsampler = load_from_hf(f"{place}{own}", options)
        assert torch.equal(upsampler(FEATURES, IMAGE), expected(mixing))
        identity = identity_of(upsampler)
        assert identity.source is not None
        assert (identity.name, identity.source["commit"]) == (f"hf:owner/mixing{own or ':modelling:Mixing'}", COMMIT)


def test_a_folder_stands_in_for_the_hub(pushed: Path, hub: Path, mixing: Any) -> None:
    with pytest.raises(WeightsError, match="could not be fetched.*--upsampler-weights"):
        load_from_hf("owner/absent:own_mixing:Mixing", LoadOptions())
    upsampler = load_from_hf("owner/absent@v1:own_mixing:Mixing", LoadOptions(weights=pushed))
    assert torch.equal(upsampler(FEATURES, IMAGE), expected(mixing))
    assert (identity_of(upsampler).source or {})["repository"] == "owner/absent"


OTHERS = """
from huggingface_hub import PyTorchModelHubMixin
from torch import nn
class Other(nn.Module, PyTorchModelHubMixin): ...
class Plain(nn.Module): ...
"""


@pytest.mark.parametrize(
    ("files", "name", "error", "message"),
    [
        ({"other": OTHERS}, "", UnknownNameError, "several classes with the hub mixin: Mixing, Other; name it"),
        ({"other": OTHERS}, ":Othre", UnknownNameError, "Did you mean 'Other'"),
        ({"other": OTHERS}, ":Plain", ContractError, "expected a class derived from .*PyTorchModelHubMixin, got"),
        ({"broken": "class Broken(:"}, "", ContractError, "SyntaxError"),
        ({"fails": "class Fails: ...\nraise OSError('no')"}, ":Fails", ContractError, "failed with OSError: no"),
        ({}, "?scale=[1]&scal=2", ContractError, "failed with TypeError"),
        ({}, ":own_mixing:Mixin", UnknownNameError, "Did you mean 'Mixing'"),
        ({}, ":absent_package:Mixing", UnknownNameError, "no module 'absent_package'"),
        ({}, ":own_mixing:torch", ContractError, "expected a class derived from"),
        ({}, "?attribute=mixx", UnknownNameError, "Did you mean 'mix'"),
    ],
)
def test_classes_that_cannot_be_told_say_why(
    with_code: Path, files: dict[str, str], name: str, error: type[Exception], message: str
) -> None:
    if files:
        write_repository(with_code, **files)
    with pytest.raises(error, match=message):
        load_from_hf(f"{with_code}{name}", CONSENT)


def test_repositories_without_a_class_of_the_mixin_are_refused(pushed: Path) -> None:
    with pytest.raises(ContractError, match="no Python file with such a class; install its code"):
        load_from_hf(f"{pushed}", CONSENT)
    (pushed / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": "model.Model"}}))
    with pytest.raises(ContractError, match="transformers' auto_map, which is not supported"):
        load_from_hf(f"{pushed}", CONSENT)
    with pytest.raises(UnknownNameError, match="nor a folder here"):
        load_from_hf("./absent:own_mixing:Mixing", LoadOptions())


def test_an_attribute_of_the_module_can_be_the_upsampler(pushed: Path) -> None:
    found = load_from_hf(f"{pushed}:own_mixing:Mixing?attribute=mix", LoadOptions())
    assert isinstance(find_module(found), nn.Conv2d)
