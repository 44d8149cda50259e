"""The recipe that goes through the whole leaderboard, with made-up instead of trained results."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from result_builder import synthetic_result
from tiny import TINY_DEMO

from vfm_isbench import Protocol, cli
from vfm_isbench.protocol import PRESETS

RECIPE = Path(__file__).parents[2] / "benchmarks" / "recipes" / "demo.py"


def test_the_demo_goes_the_whole_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every command except the training is real, with its exit code."""
    spec = importlib.util.spec_from_file_location("demo_recipe", RECIPE)
    assert spec is not None and spec.loader is not None
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    for skill, name in enumerate(recipe.NAMES):
        for seed in (0, 1, 2):
            result = synthetic_result(name, seed=seed, skill=0.4 * (skill - 1), protocol="demo")
            result.save(tmp_path / f"{name}-seed{seed}" / "result.json")
    demo = Protocol.preset("demo")
    really = cli.main

    def main(arguments: list[str]) -> int:
        # Only one command trains, with the small protocol.
        with monkeypatch.context() as patch:
            if arguments[0] == "run":
                patch.setitem(PRESETS, "demo", TINY_DEMO)
            return really(arguments)

    monkeypatch.setattr(cli, "main", main)
    recipe.main(["--output", str(tmp_path)])
    printed = capfd.readouterr().out
    assert PRESETS["demo"] == demo
    assert [line for line in printed.splitlines() if line.startswith("[exit code")][-6:] == [
        f"[exit code {code}]" for code in (0, 1, 2, 0, 3, 4)
    ]
    assert len(list((tmp_path / "entries").glob("*.json.gz"))) == 4
    assert (tmp_path / "site" / "index.html").is_file() and (tmp_path / "leaderboard.csv").is_file()
