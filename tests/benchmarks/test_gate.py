"""The recipe that measures the regression gate, with made-up results."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from result_builder import synthetic_result
from tiny import TINY

from vfm_isbench import cli
from vfm_isbench.protocol import PRESETS
from vfm_isbench.upsamplers import load_upsampler

RECIPE = Path(__file__).parents[2] / "benchmarks" / "recipes" / "gate.py"


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("gate_recipe", RECIPE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # data classes look their module up
    spec.loader.exec_module(module)
    return module


def write_results(output: Path, *, unchanged: float, broken: float) -> None:
    """Results of every case; the numbers are skills, and 0 is that of the baseline."""
    for case, name, seeds, skill in (
        ("baseline", "bilinear", (0, 1, 2), 0.0),
        ("unchanged", "bilinear", (3, 4, 5), unchanged),
        ("broken", "broken", (0, 1, 2), broken),
        ("rerun", "bilinear", (0, 1, 2), 0.0),
    ):
        for seed in seeds:
            folder = output / f"{case}-seed{seed}"
            synthetic_result(name, seed=seed, skill=skill, noise=0.05).save(folder / "result.json")


OPTIONS = ["--metric", "mean_iou", "--margin", "0.03"]


def test_a_gate_that_works(gate: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_results(tmp_path, unchanged=0.0, broken=-1.0)
    (tmp_path / "rerun-seed0" / "cpu.json").write_text(json.dumps({"seconds": 600.0}), encoding="utf-8")
    gate.main(["--output", str(tmp_path), *OPTIONS])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    verdicts = {line[0]: line[3] for line in lines if line and line[0] in ("unchanged", "broken", "rerun")}
    assert verdicts == {"unchanged": "pass", "broken": "regression", "rerun": "pass"}
    minutes = {line[0]: line[-1] for line in lines if line}
    assert (minutes["unchanged"], minutes["rerun"]) == ("0.5", "10.3"), "10 s of training a run, as results say"


@pytest.mark.parametrize(
    ("unchanged", "broken", "said"), [(-1.0, -1.0, "unchanged: regression"), (0.0, 0.0, "broken: pass")]
)
def test_a_gate_that_does_not(gate: ModuleType, tmp_path: Path, unchanged: float, broken: float, said: str) -> None:
    write_results(tmp_path, unchanged=unchanged, broken=broken)
    with pytest.raises(SystemExit, match=said):
        gate.main(["--output", str(tmp_path), *OPTIONS])


def test_missing_results_are_run_and_kept(gate: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = []

    def made_up(words: list[str]) -> int:
        commands.append(words)
        folder = Path(words[words.index("--output") + 1])
        name, seed = ("broken" if "broken" in words[1] else words[1]), int(words[words.index("--seed") + 1])
        synthetic_result(name, seed=seed, skill=-1.0 * (name == "broken"), noise=0.05).save(folder / "result.json")
        return 0

    monkeypatch.setattr(cli, "main", made_up)
    for _ in range(2):
        gate.main(["--output", str(tmp_path), *OPTIONS])
    assert [(words[1].rpartition(":")[2], words[words.index("--seed") + 1]) for words in commands] == [
        *(("bilinear", seed) for seed in "012345"), *(("Broken", seed) for seed in "012"),
        *(("bilinear", seed) for seed in "012"),
    ]  # fmt: skip
    broken = load_upsampler(f"{tmp_path / 'broken.py'}:Broken")
    features = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert torch.equal(
        broken(features, torch.zeros(1, 3, 8, 8))[0, 0, ::4, ::4], torch.tensor([[2.5, 4.5], [10.5, 12.5]])
    )


def test_a_margin_must_come_from_somewhere(
    gate: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(PRESETS, "tiny", TINY)
    with pytest.raises(SystemExit):
        gate.main(["--output", str(tmp_path), "--protocol", "tiny"])
    assert "give --margin" in capsys.readouterr().err
