"""The acceptance program: its stages in tiny sizes on the CPU, and what it makes of stages that fail."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from vfm_isbench.datasets import open_dataset
from vfm_isbench.protocol import Protocol

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
FOLDERS = (BENCHMARKS / "gpu", BENCHMARKS / "speed")
TINY_SECONDS = 600.0


@pytest.fixture(scope="module", autouse=True)
def importable() -> Iterator[None]:
    """Programs import each other by plain names, as when they are run; these names are removed afterwards."""
    before, path = set(sys.modules), list(sys.path)
    with pytest.MonkeyPatch.context() as patch:
        for folder in FOLDERS:
            patch.syspath_prepend(str(folder))
            for program in folder.glob("*.py"):
                patch.delitem(sys.modules, program.stem, raising=False)
        yield
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(BENCHMARKS)):
            del sys.modules[name]


def load(name: str) -> ModuleType:
    return importlib.import_module(name)


def found_by(name: str, folder: Path, seconds: float = TINY_SECONDS) -> dict[str, Any]:
    words = [name, "--json", str(folder / f"{name}.json"), "--device", "cpu", "--small", "--seconds", str(seconds)]
    assert load("stages").main(words) == 0
    found: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    return found


@pytest.fixture(scope="module")
def stages(importable: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What every stage finds in tiny sizes."""
    folder = tmp_path_factory.mktemp("stages")
    return {
        name: {"outcome": "passed", "seconds": 1.0, "findings": found_by(name, folder)} for name in load("stages").NAMES
    }


def test_the_card_tells_its_rates(stages: dict[str, Any]) -> None:
    found = stages["card"]["findings"]
    assert found["name"] == "cpu" and found["machine"]["torch"] == torch.__version__
    assert all(found[f"matmul_{precision}_tflops"] > 0 for precision in ("float32", "tf32", "bfloat16"))
    assert sum(key.startswith("copy_") and value > 0 for key, value in found.items()) == 5


def test_clicks_are_timed_and_profiled(stages: dict[str, Any]) -> None:
    found = stages["evaluation"]["findings"]
    assert not found["errors"]
    first = found["evaluation"][0]
    assert (first["upsampler"], first["injection"], first["precision"]) == ("bilinear", "late", "float32")
    assert first["is_default"] and 0 < first["clicking_per_click"] < first["seconds_per_click"]
    (profile, *_) = found["evaluation_profiles"]
    assert 0 < profile["products_share"] < 1 and profile["gflop_each"] > 0
    assert len(profile["top"]) == 10


def test_training_is_timed_with_and_without_workers(stages: dict[str, Any]) -> None:
    found = stages["training"]["findings"]
    assert not found["errors"]
    assert {(row["precision"], row["workers"]) for row in found["training"]} >= {("float32", 0), ("float32", 1)}
    assert all(row["images_per_second"] > 0 for row in found["training"])
    assert found["samples"]["alone_per_second"] > 0 < found["samples"]["workers_per_second"]


def test_convolutions_in_every_way_give_the_same(stages: dict[str, Any]) -> None:
    rows = stages["convolutions"]["findings"]["convolutions"]
    exact = [row for row in rows if row["precision"] == "float32"]
    assert {row["way"] for row in exact} == set(load("convolutions").WAYS)
    assert all(row["deviation"] < 1e-5 for row in exact)
    assert all(min(row["forward_ms"], row["both_ms"]) > 0 for row in exact)


def test_without_time_measurements_are_left_out(tmp_path: Path) -> None:
    found = found_by("evaluation", tmp_path, seconds=0.0)
    assert "evaluation" not in found
    assert "evaluation, bilinear late, float32" in found["left_out"]


def test_an_error_costs_one_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card, original = load("card"), load("card").matmul_rate

    def fails_in_tf32(side: int, precision: str, device: torch.device) -> float:
        if precision == "tf32":
            raise ValueError("no such thing")
        return float(original(side, precision, device))

    monkeypatch.setattr(card, "matmul_rate", fails_in_tf32)
    path = tmp_path / "card.json"
    assert load("stages").main(["card", "--json", str(path), "--device", "cpu", "--small"]) == 1
    found = json.loads(path.read_text())
    assert found["errors"] == ["matrix products in tf32: ValueError: no such thing"]
    assert found["matmul_bfloat16_tflops"] > 0


def test_the_report_has_every_part(stages: dict[str, Any]) -> None:
    tests = {"counts": {"passed": 3, "failed": 1}, "not_passed": ["FAILED `tests/cuda/x.py::test_y` AssertionError"]}
    results = {
        "date": "2026-01-02", "card": "Card A", "commit": "abc", "seconds": 9.0, "small": True,
        "stages": {**stages, "tests": {"outcome": "failed", "seconds": 1.0, "findings": tests, "last_lines": ["oh"]}},
    }  # fmt: skip
    text = load("report").markdown(results)
    for piece in (
        "on Card A;", "the figures mean nothing", "| tests | failed |", "- tests ended with\n\n    oh",
        "3 passed, 1 failed", "## A whole run", "| bilinear | float32 |", "## Clicks", "kernels that take longest",
        "## Training", "Samples without a network", "channels last, cuDNN benchmark",
    ):  # fmt: skip
        assert piece in text
    assert "could not be written" not in text


def test_a_whole_run_is_extrapolated() -> None:
    case = {"upsampler": "bilinear", "injection": "late", "precision": "float32"}
    stages = {
        "evaluation": {
            "findings": {
                "evaluation": [{**case, "is_default": True, "seconds_per_click": 0.01}],
                "evaluation_profiles": [{**case, "busy_share": 0.9}],
            }
        },
        "training": {
            "findings": {
                "training": [{**case, "workers": 0, "images_per_second": 100.0}],
                "samples": {"workers_per_second": 50.0},
            }
        },
    }
    (run,) = load("report").whole_runs(stages)
    assert run["training_hours"] == pytest.approx(20 * 8498 / 50 / 3600)
    assert run["evaluation_hours"] == pytest.approx(7166 * 20 * 0.01 / 3600)
    assert run["hours"] == pytest.approx(run["training_hours"] + run["evaluation_hours"])
    assert run["sbd_minutes"] == pytest.approx(6671 * 20 * 0.01 / 60)
    assert (run["training_bound"], run["evaluation_bound"], run["target_hours"]) == ("workers", "GPU", 1.5)


def test_kernels_that_overlap_keep_a_gpu_busy_once() -> None:
    assert load("profiling").covered([(5, 9), (0, 2), (1, 3), (6, 7)]) == 7


def test_outcomes_of_tests_are_read_even_if_they_were_cut() -> None:
    output = (
        "tests/cuda/test_a.py::test_one[x-y] PASSED   [ 10%]\n"
        "tests/cuda/test_a.py::test_two FAILED   [ 20%]\n"
        "tests/cuda/test_a.py::test_three SKIPPED (needs a CUDA device) [ 30%]\n"
        "tests/cuda/test_a.py::test_four "
    )
    found = load("acceptance")._test_outcomes(output)
    assert found["counts"] == {"passed": 1, "failed": 1, "skipped": 1}
    assert found["not_passed"] == ["FAILED `tests/cuda/test_a.py::test_two`"]
    output += "\nFAILED tests/cuda/test_a.py::test_two - AssertionError: 3 != 4\n"
    assert load("acceptance")._test_outcomes(output)["not_passed"][0].endswith("AssertionError: 3 != 4")


PROGRAMS = {
    "card": "import json, sys; json.dump({'name': 'Card A', 'errors': [], 'left_out': []}, open(sys.argv[1], 'w'))",
    "tests": "print('tests/cuda/x.py::test_y PASSED [ 50%]'); raise KeyError('lost')",
    "evaluation": "import json, sys, time; "
    "json.dump({'evaluation': [], 'errors': [], 'left_out': ['much']}, open(sys.argv[1], 'w')); time.sleep(60)",
}


def test_stages_that_crash_or_hang_cost_only_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    acceptance = load("acceptance")

    def command(self: Any, name: str, _seconds: float) -> list[str]:
        return [sys.executable, "-S", "-c", PROGRAMS[name], str(self.folder / f"{name}.json")]

    monkeypatch.setattr(acceptance.Acceptance, "_command", command)
    status = acceptance.main(["--device", "cpu", "--small", "--minutes", "0.15", "--out", str(tmp_path)])
    (report,) = tmp_path.glob("*.md")
    results = json.loads(report.with_suffix(".json").read_text())
    outcomes = {name: stage["outcome"] for name, stage in results["stages"].items()}
    assert status == 1
    assert report.name == f"{results['date']}-gpu-card-a-small.md"
    assert outcomes["card"] == "passed"
    assert outcomes["tests"] == "failed, exit status 1"
    assert outcomes["evaluation"].startswith("cut after ")
    assert outcomes["training"] == outcomes["convolutions"] == "left out: no time"
    assert results["stages"]["tests"]["findings"]["counts"] == {"passed": 1}
    text = report.read_text()
    assert "KeyError: 'lost'" in text and "- evaluation: no time for much" in text
    assert f"written: {report}" in capsys.readouterr().out


def test_photographs_are_read_like_sbd(tmp_path: Path) -> None:
    load("photographs").write_photographs(tmp_path, images=2)
    protocol = Protocol.preset("paper").replace(sample_weights="uniform")
    for split in ("train", "test"):
        dataset = open_dataset("sbd", split, tmp_path, protocol)
        sample = dataset.read(dataset.image_ids[0])
        assert sample.image.shape == (375, 500, 3)
        assert len(dataset.image_ids) == 2 and len(dataset.objects) >= 2
        assert set(dataset.instances_for_training(sample)) == set(np.unique(sample.labels)) - {0}


@pytest.mark.slow
def test_the_whole_program_passes_in_tiny_sizes(tmp_path: Path) -> None:
    assert load("acceptance").main(["--device", "cpu", "--small", "--minutes", "5", "--out", str(tmp_path)]) == 0
