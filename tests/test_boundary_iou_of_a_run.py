"""A run with boundary IoU: the option, the files, and a second call that only adds it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import TINY

from vfm_isbench import Result, cli
from vfm_isbench.protocol import PRESETS


def test_boundary_iou_is_added_to_a_finished_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(PRESETS, "tiny", TINY.replace(epochs=1, milestones=()))
    run = ["run", "bilinear", "--protocol", "tiny", "--device", "cpu", "--output", "mine", "--quiet"]
    assert cli.main(run) == 0
    plain = Result.load("mine")
    assert "boundary_iou_at_1" not in plain.datasets["scenes"].scores()
    assert not any("boundaries" in part for part in plain.timings)
    assert plain.datasets["scenes"].size_shares is not None
    assert plain.upsampler["flops_per_image"] == 0 and plain.upsampler["peak_bytes"] == 2 * 112 * 64 * 64 * 4
    assert cli.main([*run, "--boundary-iou"]) == 0
    found = Result.load("mine")
    scores = found.datasets["scenes"].scores()
    assert 0 <= scores["boundary_iou_at_1"] <= 1 and "boundaries.scenes" in found.timings
    assert "training" not in found.peak_memory or found.training == plain.training
    assert [one.ious for one in found.datasets["scenes"].objects] == [
        one.ious for one in plain.datasets["scenes"].objects
    ]
    capsys.readouterr()
    assert cli.main(["eval", "mine", "--boundary-iou", "--output", "again.json", "--quiet", "--device", "cpu"]) == 0
    assert Result.load("again.json").datasets["scenes"].objects == found.datasets["scenes"].objects
