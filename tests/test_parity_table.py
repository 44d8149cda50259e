"""``pytest --parity-table``: the table, and why it is empty where the recordings are missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

PARITY_TEST = """
def test_parity(parity_root, deviation):
    deviation("Step: compared", 1e-9, 1e-5)
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone with a single parity test, and nothing beside it."""
    tests = tmp_path / "clone" / "tests"
    tests.mkdir(parents=True)
    shutil.copy(TESTS / "conftest.py", tests)
    (tests / "test_parity_step.py").write_text(PARITY_TEST, encoding="utf-8")
    (tests / "test_other.py").write_text("def test_nothing():\n    pass\n", encoding="utf-8")
    (tests.parent / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    return tests.parent


def parity_table(clone: Path, *arguments: str) -> str:
    """What pytest prints."""
    paths = os.pathsep.join([str(TESTS / "support"), str(TESTS.parent)])
    found = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:xdist",
            "-p",
            "no:cacheprovider",
            "--parity-table",
            *arguments,
        ],
        cwd=clone,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


def test_without_the_recordings_it_says_why_it_is_empty(clone: Path) -> None:
    printed = parity_table(clone)
    for folder in ("parity", "real"):
        wanted = f"The table of deviations is empty: there is no folder {clone.parent / 'shared' / folder} ("
        assert wanted in printed
    assert "The recordings are not part of the repository" in printed
    assert "| step |" not in printed


def test_with_the_recordings_it_says_nothing_more(clone: Path) -> None:
    for folder in ("parity", "real"):
        (clone.parent / "shared" / folder).mkdir(parents=True)
    printed = parity_table(clone)
    assert "| Step: compared | `tests/test_parity_step.py` | 1 | 1e-05 | 1.0e-09 |" in printed
    assert "The table" not in printed
    assert "no test that compares with recordings ran; select them with -k parity" in parity_table(
        clone, "-k", "nothing"
    )


def test_with_some_of_the_recordings_it_says_what_is_missing(clone: Path) -> None:
    (clone.parent / "shared" / "parity").mkdir(parents=True)
    printed = parity_table(clone)
    assert "| Step: compared |" in printed
    assert f"The table of deviations is incomplete: there is no folder {clone.parent / 'shared' / 'real'} (" in printed
