"""A run that is killed at any moment and continued gives the same numbers, and a long one needs no more memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and reads /proc")

ROOT = Path(__file__).resolve().parents[1]
SUPPORT = ROOT / "tests" / "support"

INSIDE_EPOCHS: dict[str, Any] = {"checkpoint_minutes": 1e-9}
"""Options of evaluate() for a checkpoint after every step."""


def output_of(program: str, *words: str) -> str:
    """What a program of tests/support prints, in a process with one thread for arithmetic."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, str(SUPPORT / program), *words], env=environment, capture_output=True)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    sys.stdout.write(done.stdout.decode())  # shown by -s, and if the test fails
    return done.stdout.decode()


def killed(folder: Path, kills: int, options: dict[str, Any]) -> dict[str, Any]:
    output = output_of("killed_runs.py", str(folder), "--kills", str(kills), "--options", json.dumps(options))
    figures: dict[str, Any] = json.loads(output.splitlines()[-1])
    return figures


def test_a_killed_run_continues_as_if_nothing_had_happened(tmp_path: Path) -> None:
    figures = killed(tmp_path, 4, INSIDE_EPOCHS)
    assert (figures["kills"], figures["identical"], figures["evidence_lost"]) == (4, 4, 0), figures
    # Those inside a write are aimed, so they fall there on every machine.
    assert {"checkpoint", "evidence"} <= set(figures["fell_in"])


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, INSIDE_EPOCHS], ids=["after epochs", "inside epochs"])
def test_fifty_of_fifty_killed_runs_end_like_the_one_that_was_not(options: dict[str, Any], tmp_path: Path) -> None:
    figures = killed(tmp_path, 50, options)
    assert (figures["kills"], figures["identical"], figures["evidence_lost"]) == (50, 50, 0), figures
    assert {"training", "validation", "checkpoint", "evaluation", "evidence"} <= set(figures["fell_in"])
    assert {"checkpoint: half written", "evidence: half written"} <= set(figures["steps"])


@pytest.mark.slow
def test_memory_descriptors_and_threads_stay_the_same_over_5000_objects(tmp_path: Path) -> None:
    samples = [json.loads(line) for line in output_of("soak.py", str(tmp_path), "--objects", "5000").splitlines()]
    assert [sample["objects"] for sample in samples] == list(range(250, 5001, 250))
    warm = samples[3]  # after 1,000 objects
    for sample in samples[4:]:
        assert (sample["descriptors"], sample["threads"]) == (warm["descriptors"], warm["threads"]), sample
    # The evidence itself stays in memory until the result is written: less than 4 KiB per object.
    grown = (samples[-1]["rss_mib"] - warm["rss_mib"]) * 1024 / (samples[-1]["objects"] - warm["objects"])
    assert grown < 4, f"{grown:.1f} KiB more for every object"
