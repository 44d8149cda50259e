"""Weights from files, folders and the hub, and what happens without them."""

from __future__ import annotations

import pickle
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from vfm_isbench.errors import WeightsError
from vfm_isbench.storage import weights as module
from vfm_isbench.storage.weights import find_weights, read_state_dict

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(1)}
HUB = [("someone/model", "model.safetensors"), ("mirror/model", "model.safetensors")]


class Trap:
    """Would run when unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("trap-was-sprung"),))


class HyperParameters(dict[str, Any]):
    """A class that PyTorch refuses to unpickle."""


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "teacher"])
@pytest.mark.parametrize("suffix", [".pth", ".bin", ".safetensors"])
def test_reads_every_format(tmp_path: Path, suffix: str, wrapper: str | None) -> None:
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(STATE, path)
    else:
        torch.save(STATE if wrapper is None else {wrapper: STATE, "epoch": 3}, path)
    state = read_state_dict(path)
    assert state.keys() == STATE.keys()
    assert all(torch.equal(state[key], STATE[key]) for key in STATE)


def test_runs_nothing_stored_in_a_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Path("weights.pth").open("wb") as file:
        pickle.dump({"a": Trap()}, file)
    with pytest.raises(WeightsError, match="weights.pth could not be read"):
        read_state_dict(Path("weights.pth"))
    torch.save({"a": Trap()}, "new.pth")
    with pytest.raises(WeightsError, match="new.pth holds no state dict: .* .a. is an object of"):
        read_state_dict(Path("new.pth"))
    assert not Path("trap-was-sprung").exists()


def test_foreign_objects_beside_the_state_dict_are_accepted(tmp_path: Path) -> None:
    """As in a Lightning file."""
    path = tmp_path / "lightning.ckpt"
    torch.save({"epoch": 3, "hyper_parameters": HyperParameters(lr=1e-3), "trap": Trap(), "state_dict": STATE}, path)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    state = read_state_dict(path)
    assert state.keys() == STATE.keys()
    assert all(torch.equal(state[key], STATE[key]) for key in STATE)


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, torch.zeros(2), HyperParameters(lr=1)])
def test_refuses_anything_but_a_state_dict(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match="weights.pth holds no state dict"):
        read_state_dict(tmp_path / "weights.pth")


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_refuses_missing_and_broken_files(tmp_path: Path, name: str) -> None:
    with pytest.raises(WeightsError, match=f"no weights file at .*{name}"):
        read_state_dict(tmp_path / name)
    (tmp_path / name).write_bytes(b"no weights at all")
    with pytest.raises(WeightsError, match=f"{name} could not be read"):
        read_state_dict(tmp_path / name)


def test_a_file_is_used_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "any-name.pth"
    path.touch()
    assert find_weights("x", path, ["model.safetensors"], HUB) == path


def test_a_folder_is_searched_in_order(tmp_path: Path) -> None:
    (tmp_path / "second.pth").touch()
    assert find_weights("x", tmp_path, ["first.pth", "second.pth"], HUB) == tmp_path / "second.pth"
    (tmp_path / "first.pth").touch()
    assert find_weights("x", tmp_path, ["first.pth", "second.pth"], HUB) == tmp_path / "first.pth"


def test_the_error_for_a_folder_without_weights_lists_the_expected_names(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no weights for 'x' in the folder .*expected one of a\.pth, b\.pth"):
        find_weights("x", tmp_path, ["a.pth", "b.pth"], HUB)
    with pytest.raises(WeightsError, match="no such file or folder"):
        find_weights("x", tmp_path / "absent", ["a.pth"], HUB)


def test_the_hub_repositories_are_tried_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(repository: str, name: str, **_: object) -> str:
        asked.append(repository)
        if repository == "someone/model":
            raise OSError("gone\nwith details")
        return f"/cache/{name}"

    monkeypatch.setattr(module, "hf_hub_download", download)
    assert find_weights("x", None, ["a.pth"], HUB) == Path("/cache/model.safetensors")
    assert asked == ["someone/model", "mirror/model"]


def test_without_a_hub_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(repository: str, name: str, **_: object) -> str:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(module, "hf_hub_download", download)
    with pytest.raises(WeightsError) as caught:
        find_weights("x", None, ["a.pth"], HUB)
    message = str(caught.value)
    url = "https://huggingface.co/someone/model/resolve/main/"
    for part in ("'x'", url, "ConnectionError: no route", "a.pth", "--backbone-weights", "HF_HOME"):
        assert part in message
    assert "to host" not in message


def test_without_a_network_only_the_hubs_cache_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_such_host(*_: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    snapshot = tmp_path / "models--someone--model/snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (tmp_path / "models--someone--model/refs").mkdir()
    (tmp_path / "models--someone--model/refs/main").write_text("0" * 40)
    (snapshot / "model.safetensors").touch()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("urllib.request.getproxies", dict)
    monkeypatch.setattr("socket.getaddrinfo", no_such_host)
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("waited to try again"))
    assert find_weights("x", None, ["a.pth"], HUB) == snapshot / "model.safetensors"
    with pytest.raises(
        WeightsError, match="https://huggingface.co cannot be reached, and the hub.s cache does not hold"
    ):
        find_weights("x", None, ["a.pth"], HUB[1:])
    monkeypatch.setattr("urllib.request.getproxies", lambda: {"https": "http://proxy"})
    assert not module.is_hub_out_of_reach()


def test_one_part_of_a_file_can_be_named(tmp_path: Path) -> None:
    torch.save({"jafar": {"module": {}, "w": torch.ones(1)}, "epoch": 3}, tmp_path / "a.pth")
    torch.save({"jafar": {"state_dict": {"w": torch.ones(1)}}, "epoch": 3}, tmp_path / "b.pth")
    assert list(read_state_dict(tmp_path / "b.pth", "jafar")) == ["w"]
    with pytest.raises(WeightsError, match=r"has no entry 'jaffar'; it holds jafar, epoch"):
        read_state_dict(tmp_path / "b.pth", "jaffar")
    with pytest.raises(WeightsError, match="expected only tensors, but 'module'"):
        read_state_dict(tmp_path / "a.pth", "jafar")
