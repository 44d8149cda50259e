"""Runs the commands on the pages about comparisons unchanged, with a tiny demo protocol."""

from __future__ import annotations

import glob
import shlex
import shutil
from pathlib import Path

import pytest
from doc_pages import DOCS, fences
from tiny import TINY_DEMO, UPSAMPLER

from vfm_isbench import cli
from vfm_isbench.protocol import PRESETS

DEMO = PRESETS["demo"]


def commands(page: str) -> list[list[str]]:
    """Words of every line in the page's shell blocks."""
    blocks = [fence.text for fence in fences((DOCS / page).read_text(encoding="utf-8")) if fence.language == "bash"]
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def expanded(words: list[str]) -> list[str]:
    """Replace patterns by file names, as a shell does."""
    found = [sorted(glob.glob(word)) if "*" in word else [word] for word in words]  # noqa: PTH207
    assert all(found), f"a pattern of {words} matches nothing"
    return [name for names in found for name in names]


@pytest.mark.parametrize(
    ("page", "written"),
    [
        ("comparing.md", ["compare.json", "compare.md"]),
        ("ci.md", ["regress.json", "regress.md"]),
        ("exporting.md", ["scores.csv", "table.tex", "card.md", "jbu.yaml"]),
    ],
)
def test_they_run(
    page: str,
    written: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    monkeypatch.setitem(PRESETS, "demo", TINY_DEMO.replace(epochs=1, validation_samples=0))
    Path("my_upsampler.py").write_text(UPSAMPLER, encoding="utf-8")
    for program, *words in commands(page):
        if program == "vfm-isbench":
            with pytest.MonkeyPatch.context() as patch:
                if words[:2] == ["power", "--protocol"]:
                    patch.setitem(PRESETS, "demo", DEMO)  # what is stored about it is not about the tiny one
                assert cli.main(expanded(words)) == 0, f"{words}: {capsys.readouterr().err}"
        elif program == "mkdir":
            Path(words[-1]).mkdir()
        else:
            assert program == "cp"
            shutil.copy(*words)
    assert all(Path(name).is_file() for name in written)
