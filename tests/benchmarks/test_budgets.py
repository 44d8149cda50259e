"""The programs behind the presets `quick` and `lite`: what they take, and how well they predict `paper`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from result_builder import synthetic_result
from tiny import TINY

from vfm_isbench.protocol import PRESETS

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def program(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, BENCHMARKS / path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def runs(skills: dict[str, float]) -> dict[str, list[Any]]:
    return {name: [synthetic_result(name, seed=seed, skill=skill) for seed in (0, 1)] for name, skill in skills.items()}


def test_agreement_counts_pairs() -> None:
    predicts = program("recipes/predicts.py")
    large = runs({"nearest": -1.5, "bilinear": 0.0, "jbu": 1.5})
    (dataset,) = large["jbu"][0].datasets
    same = predicts.agreement(large, large, (dataset, dataset), "noc90")
    assert (same.pairs, same.same_order, same.kendall, same.left_open, same.contradicted) == (3, 3, 1.0, 0, 0)
    assert same.separated == same.confirmed >= 1
    turned = {"nearest": large["jbu"], "bilinear": large["bilinear"], "jbu": large["nearest"]}
    other = predicts.agreement(turned, large, (dataset, dataset), "noc90")
    assert (other.kendall, other.confirmed, other.contradicted) == (-1.0, 0, other.separated)


def test_it_runs_and_prints_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    predicts = program("recipes/predicts.py")
    tiny = TINY.replace(epochs=1, validation_samples=0)
    monkeypatch.setitem(PRESETS, "small", tiny.replace(name="small"))
    monkeypatch.setitem(PRESETS, "large", tiny.replace(name="large", samples_per_epoch=12))
    arguments = ["--protocols", "small", "--large", "large", "--upsamplers", "nearest", "bilinear", "--seeds", "0"]
    arguments += ["--output", str(tmp_path), "--device", "cpu", "--metrics", "mean_iou"]
    predicts.main(arguments)
    first = capsys.readouterr().out
    predicts.main([*arguments, "--only-table"])
    table = capsys.readouterr().out
    assert first.endswith(table) and first.count("$ vfm-isbench run") == 4
    assert "| scenes | mean_iou | 1 |" in table


def test_accounting_counts_a_small_protocol(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    accounting = program("budgets/accounting.py")
    monkeypatch.setitem(PRESETS, "tiny", TINY)
    accounting.main(["--protocols", "tiny", "--upsamplers", "bilinear"])
    printed = capsys.readouterr().out
    assert "| tiny | bilinear | 4 | 8 | 3 | 9 |" in printed
    work = accounting.work_of(TINY, "bilinear")
    twice = accounting.work_of(TINY.replace(head_layers=3), "bilinear")
    channels, pixels = 112, 64 * 64
    one_layer = 2 * 9 * channels**2 * pixels
    assert twice.click - work.click == pytest.approx(2 * one_layer, rel=0.02), "a crop and its mirror image"
