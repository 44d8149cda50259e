"""``vfm-isbench power`` as users see it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from result_builder import seeds_of

from vfm_isbench import Result, cli
from vfm_isbench.results import measured


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    found = []
    for run in [*seeds_of("bilinear", [0, 1, 2], noise=0.05), *seeds_of("jbu", [0, 1, 2], noise=0.05)]:
        run = Result(**{**vars(run), "timings": {"training": 60.0, "predicting.davis": 8.0, "clicking.davis": 2.0}})
        run.save(Path("runs") / f"{run.upsampler['name']}{run.protocol.seed}" / "result.json")
        found.append(f"runs/{run.upsampler['name']}{run.protocol.seed}")
    return found


def test_results_give_tables_and_files(folders: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--json", "power.json", "--plot", "power.svg"]
    assert cli.main(["power", *folders, "--metric", "mean_iou", "--margin", "0.02", "--seeds", "5", *files]) == 0
    printed = capsys.readouterr().out
    assert "davis: 40 objects in 20 images · 3 seeds · differences of bilinear, jbu" in printed
    assert "40 objects, 5 seeds" in printed and "cheapest" in printed
    content = json.loads(Path("power.json").read_text(encoding="utf-8"))
    assert content["datasets"][0]["smallest_difference"]["mean_iou"] > 0
    assert content["datasets"][0]["budgets"][0]["seconds"] > 0
    assert "minutes per upsampler" in Path("power.svg").read_text(encoding="utf-8")


def test_a_protocol_uses_what_is_stored(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folders: list[str]
) -> None:
    del folders
    assert cli.main(["power", "--protocol", "demo", "--margin", "1"]) == 0
    assert "compact_scenes: " in capsys.readouterr().out
    assert cli.main(["power", "--protocol", "paper"]) == 2
    assert "Give results instead" in capsys.readouterr().err
    assert measured.STORED == "components.json"


@pytest.mark.parametrize("arguments", [[], ["runs/bilinear0", "--protocol", "demo"]])
def test_either_results_or_a_protocol(
    arguments: list[str], folders: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    del folders
    assert cli.main(["power", *arguments]) == 2
    assert "either results or --protocol NAME" in capsys.readouterr().err
