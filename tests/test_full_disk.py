"""Runs on a disk that is too small, or gets full: what the command line says, what is kept, how it continues."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_disk import on_small_disk

PROGRAM = """
import contextlib, io, sys
from small_disk import fill
from tiny import TINY
from vfm_isbench import Result, cli
from vfm_isbench.cli import run as run_command
from vfm_isbench.evaluation import Lockstep
from vfm_isbench.runs import RunFolder
from vfm_isbench.runs.evidence_store import EvidenceStore
from vfm_isbench.training import loop

run_command.protocol_from = lambda _arguments: TINY
filler, clicked = DISK / "filler", []
click = Lockstep.click
Lockstep.click = lambda self, objects: clicked.extend(objects) or click(self, objects)

def command(*words):
    clicked.clear()
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = cli.main([*words, "--device", "cpu", "--quiet"])
    print("exit code", code, "after", len(clicked), "objects:", said.getvalue())
    return code

def run():
    return command("run", "bilinear", "--output", str(DISK / "run"))

def full_at(kind, name, number=1):
    original, calls = getattr(kind, name), []
    def filling(*arguments, **options):
        calls.append(1)
        if len(calls) == number:
            fill(filler)
        return original(*arguments, **options)
    setattr(kind, name, filling)
    code = run()
    assert code == 2, code
    setattr(kind, name, original)
    filler.unlink()
    left = sorted(file.name for file in (DISK / "run").rglob("*") if file.is_file())
    print("left:", *left)
"""
TOO_SMALL = """
loop._train_epoch = None  # no training begins
assert run() == 2
assert sorted(file.name for file in (DISK / "run").rglob("*") if file.is_file()) == ["run.json"]
"""
GETS_FULL = """
full_at(RunFolder, "save_checkpoint", 2)
full_at(EvidenceStore, "append")
full_at(Result, "save")
assert run() == 0
assert command("run", "bilinear", "--output", str(DISK / "again")) == 0
first, again = (Result.load(DISK / name) for name in ("run", "again"))
assert first.datasets["scenes"].objects == again.datasets["scenes"].objects
evaluated = ("eval", str(DISK / "run"), "--output", str(DISK / "r.json"))
fill(filler)
assert command(*evaluated) == 2
filler.unlink()
original, Result.save = Result.save, lambda self, path: fill(filler) or original(self, path)
assert command(*evaluated) == 2
filler.unlink()
Result.save = original
assert command(*evaluated) == 0
assert not list(DISK.rglob("*.partial")) and not (DISK / "r.json.evidence").exists()
"""


def said_on(disk: Path, megabytes: float, program: str) -> str:
    disk.mkdir()
    return on_small_disk(disk, megabytes, f"from pathlib import Path\nDISK = Path({str(disk)!r})\n{PROGRAM}{program}")


def test_a_disk_that_is_too_small_is_noticed_before_the_training(tmp_path: Path) -> None:
    said = said_on(tmp_path / "disk", 0.5, TOO_SMALL)
    assert f"vfm-isbench: not enough room in {tmp_path / 'disk' / 'run'}: " in said
    assert "the next one beside it" in said and "choose another folder" in said and "--output DIR" in said


def test_a_disk_that_gets_full_costs_no_work(tmp_path: Path) -> None:
    said = said_on(tmp_path / "disk", 20, GETS_FULL)
    checkpoint, evidence, result, _, _, before_eval, at_eval, last = said.split("exit code")[1:]
    assert "epoch 2 of 2: the checkpoint" in checkpoint and "No space left on device. Free some space" in checkpoint
    assert "The checkpoint of epoch 1 is kept, and the same command continues from there." in checkpoint
    assert "left: checkpoint.safetensors run.json" in checkpoint

    assert "scenes.jsonl cannot be written: No space left on device. Free some space" in evidence
    assert "The evidence of finished objects is kept, and the same command continues from there." in evidence
    assert "after 1 objects" in evidence and "left: checkpoint.safetensors run.json" in evidence

    assert "result.json cannot be written" in result and "writes the result without evaluating again" in result
    assert "left: checkpoint.safetensors run.json scenes.jsonl" in result
    assert "not enough room" in before_eval and "after 0 objects" in before_eval and "--output FILE" in before_eval
    assert "r.json cannot be written" in at_eval and "writes the result without evaluating again" in at_eval
    assert "after 0 objects" in last
    assert "Traceback" not in said


@pytest.mark.parametrize("name", ["TOO_SMALL", "GETS_FULL"])
def test_the_programs_are_python(name: str) -> None:
    compile(PROGRAM + globals()[name], name, "exec")
