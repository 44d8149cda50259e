"""Runs everything on the page about pictures, in order, with a small demo protocol."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
from doc_pages import DOCS, command_lines, fences
from PIL import Image
from tiny import TINY_DEMO

from vfm_isbench import cli
from vfm_isbench.protocol import PRESETS

PAGE = (DOCS / "pictures.md").read_text(encoding="utf-8")


def test_commands_and_snippets_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small = TINY_DEMO.replace(epochs=1, samples_per_epoch=4, validation_samples=0, max_clicks=5)
    monkeypatch.setitem(PRESETS, "demo", small)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)).save("photo.jpg")
    lines = command_lines(PAGE)
    assert len(lines) >= 9
    for line in lines:
        assert cli.main(shlex.split(line)[1:]) == 0, f"{line}\n{capsys.readouterr().err}"
    drawn = {path.name for path in Path("plots").iterdir()} | {path.name for path in Path().iterdir()}
    shown = {path.name for path in (DOCS / "images").iterdir() if f"images/{path.name}" in PAGE}
    assert shown <= drawn, "the page shows what its commands write"
    assert {"figure2.pdf", "third-click.png", "scatter-iou-5.png"} <= drawn

    names: dict[str, object] = {}
    for fence in fences(PAGE):
        if fence.language == "python":
            exec(compile(fence.text, "pictures.md", "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == "(16, 16, 3) (64, 64, 3)"
    assert printed[-2].count("test-0000") == 3
    assert Path("mine.svg").is_file()


def test_pictures_of_the_documentation_are_small_and_readable() -> None:
    found = sorted((DOCS / "images").glob("*.png"))
    assert found
    for path in found:
        assert path.stat().st_size < 150 * 1024, path
        with Image.open(path) as image:
            image.load()
            assert image.width <= 1600, path
