"""The program that compares trainings prints the tables of the documentation, and draws its picture."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from doc_pages import DOCS, ROOT
from PIL import Image

PAGE = (DOCS / "same-benchmark.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("parity_courses", ROOT / "benchmarks" / "parity" / "courses.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.path", [*sys.path])  # the program adds tests/support
        patch.setitem(sys.modules, spec.name, module)  # dataclasses look up their module
        spec.loader.exec_module(module)
    return module


def test_the_page_has_the_tables_that_are_printed(
    program: ModuleType, parity_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program.main(["compare", "--shared", str(parity_root.parent)])
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert len(rows) >= 9
    assert [row for row in rows if row not in PAGE] == []


def test_the_picture_of_the_page_is_up_to_date(program: ModuleType, parity_root: Path, tmp_path: Path) -> None:
    program.main(["draw", "--shared", str(parity_root.parent), "--picture", str(tmp_path / "drawn.png")])
    with Image.open(tmp_path / "drawn.png") as drawn, Image.open(DOCS / "images" / "training-courses.png") as kept:
        # Fonts and versions of matplotlib move single pixels.
        assert drawn.size == kept.size


def test_no_course_is_trained_twice(program: ModuleType, parity_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program.main(["record", "--shared", str(parity_root.parent)])
    assert capsys.readouterr().out == ""
