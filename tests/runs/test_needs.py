"""What is missing is named at once, before anything is trained, each with what gets it."""

from __future__ import annotations

import shlex
import socket
from pathlib import Path

import pytest
from small_archives import small_files
from tiny import TINY

import vfm_isbench
from vfm_isbench import Benchmark, cli
from vfm_isbench.cli.commands import build_parser
from vfm_isbench.errors import DataError, MissingError, WeightsError
from vfm_isbench.protocol import Protocol
from vfm_isbench.runs.needs import absent_sources, open_tests

PAPER = Protocol.preset("paper")


@pytest.fixture(autouse=True)
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vfm_isbench.benchmark.train", lambda *a, **k: pytest.fail("trained before looking"))


@pytest.fixture(autouse=True)
def no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a network, with empty caches."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setattr("urllib.request.getproxies", dict)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("VFM_ISBENCH_CACHE", str(tmp_path / "cache"))


def commands(message: str) -> list[list[str]]:
    """The commands of this library in a message, word by word."""
    marker = "To download them: "
    return [shlex.split(line.partition(marker)[2]) for line in message.splitlines() if marker in line]


def test_everything_that_is_missing_is_named_at_once() -> None:
    with pytest.raises(MissingError, match=r"^3 things are missing") as caught:
        vfm_isbench.evaluate("loftup:dinov2s", "paper", device="cpu")
    message = str(caught.value)
    assert isinstance(caught.value, DataError) and isinstance(caught.value, WeightsError)
    for part in (
        "sbd (SBD/, 1.4 GB), grabcut (GrabCut/, 11 MB), berkeley (Berkeley/, 7 MB), davis (DAVIS/, 43 MB)",
        "weights of 'dinov2_vits14'",
        "timm/vit_small_patch14_dinov2.lvd142m/resolve/main/model.safetensors",
        "--backbone-weights",
        "weights of 'loftup:dinov2s'",
        "haiwen/loftup-dinov2s/resolve/main/pytorch_model.bin",
        "--upsampler-weights",
    ):
        assert message.count(part) == 1, part


def test_a_missing_package_is_named_beside_missing_data_and_weights(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import no_such_package\n")
    with pytest.raises(MissingError, match=r"^3 things are missing") as caught:
        vfm_isbench.evaluate(f"{tmp_path / 'mine.py'}:Upsampler", "paper", device="cpu")
    message = str(caught.value)
    for part in ("vfm-isbench data download sbd", "--backbone-weights", "pip install no_such_package"):
        assert message.count(part) == 1, part


def test_whoever_would_train_on_a_cpu_is_told_before_downloading(monkeypatch: pytest.MonkeyPatch) -> None:
    small = PAPER.replace(backbone="efficientnet_lite0", image_size=32)
    with pytest.raises(DataError, match=r"its CPU, where that may take days: first add --estimate"):
        Benchmark(small, device="cpu").run("bilinear")
    with pytest.raises(DataError) as caught:
        open_tests(small, None)
    assert "CPU" not in str(caught.value), "an evaluation takes no days"


def test_the_command_that_gets_all_data_sets_exists_and_names_each_once(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        Benchmark(PAPER.replace(backbone="efficientnet_lite0", image_size=32), device="cpu").run("bilinear")
    ((program, *words),) = commands(str(caught.value))
    parsed = build_parser().parse_args(words)
    assert program == "vfm-isbench"
    assert (parsed.names, str(parsed.data_root)) == (["sbd", "grabcut", "berkeley", "davis"], "DIR")
    folder = tmp_path / "with a space"
    folder.mkdir()
    with pytest.raises(DataError, match="does not contain them") as caught:
        open_tests(PAPER.replace(test_datasets=("davis", "sbd600", "sbd", "scenes")), folder)
    ((_, *words),) = commands(str(caught.value))
    parsed = build_parser().parse_args(words)
    assert (parsed.names, parsed.data_root) == (["davis", "sbd"], folder)
    with pytest.raises(DataError, match="nowhere is not a folder"):
        open_tests(PAPER, tmp_path / "nowhere")


def test_what_is_broken_is_named_beside_what_is_missing(tmp_path: Path) -> None:
    for name, content in small_files("davis").items():
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (tmp_path / "data" / "GrabCut").mkdir()
    tests = TINY.replace(test_datasets=("grabcut", "berkeley", "davis", "nothing"))
    with pytest.raises(MissingError) as caught:
        Benchmark(tests, data_root=tmp_path / "data", device="cpu").run("missing.py:upsampler")
    message = str(caught.value)
    assert "1. data sets are missing: berkeley (" in message
    assert "2. GrabCut: data_GT/, boundary_GT/ not found" in message
    assert "3. unknown data set 'nothing'" in message
    assert "4. upsampler 'missing.py:upsampler': cannot read the file" in message


def test_a_data_set_in_another_place_is_not_called_absent(tmp_path: Path) -> None:
    (tmp_path / "DAVIS" / "img").mkdir(parents=True)
    (tmp_path / "DAVIS" / "gt").mkdir()
    assert not absent_sources(["davis"], tmp_path / "DAVIS")
    with pytest.raises(DataError, match=f"give {tmp_path} as the data root"):
        open_tests(TINY.replace(test_datasets=("davis",)), tmp_path / "DAVIS")


def test_on_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = ["run", "bilinear", "--protocol", "paper", "--device", "cpu", "--output", str(tmp_path / "run")]
    assert cli.main(arguments) == 2
    printed = capsys.readouterr().err
    assert "2 things are missing" in printed
    assert commands(printed) == [
        ["vfm-isbench", "data", "download", "sbd", "grabcut", "berkeley", "davis", "--data-root", "DIR"]
    ]
    assert not (tmp_path / "run").exists()
