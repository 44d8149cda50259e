"""Whatever standard output can encode, commands end with their own exit code, and their files are complete."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from result_builder import seeds_of
from tiny import TINY

from vfm_isbench import Result, cli
from vfm_isbench.cli.terminal import complain, showable
from vfm_isbench.protocol import PRESETS

ENCODINGS = ["ascii", "cp1252", "cp437", "utf-8"]

NAMES = ["große Maske 中", "red \x1b[31m and \x9b2J", os.fsdecode(b"not-utf8-\xff"), "right \u202e to left"]
AS_LOADED = {"red \x1b[31m and \x9b2J": r"red \x1b[31m and \x9b2J", "right \u202e to left": r"right \u202e to left"}
"""Names that a result file cannot bring into a program as they are."""


class Terminal(io.TextIOWrapper):
    """A standard output that refuses what its encoding lacks, as Python's does."""

    def __init__(self, encoding: str) -> None:
        super().__init__(io.BytesIO(), encoding=encoding, errors="strict")

    @property
    def shown(self) -> str:
        self.flush()
        written: bytes = self.buffer.getvalue()  # type: ignore[attr-defined]
        return written.decode(self.encoding)


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ignore the job summary of the machine that runs these tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Terminal]:
    """Replaces standard output."""

    def replace(encoding: str) -> Terminal:
        made = Terminal(encoding)
        monkeypatch.setattr(sys, "stdout", made)
        return made

    return replace


def saved(name: str, shift: float = 0.0) -> str:
    (result,) = seeds_of(name, [0], shift=shift)
    return str(result.save(Path(f"{abs(hash((name, shift)))}.json")))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_compare_and_regress_end_well_in_every_encoding(encoding: str, terminal: Callable[[str], Terminal]) -> None:
    old, new = saved(NAMES[0]), saved("bilinear", 0.01)
    shown = terminal(encoding)
    assert cli.main(["compare", old, new, "--json", "compare.json", "--markdown", "compare.md"]) == 0
    assert cli.main(["regress", new, "--baseline", old, "--json", "regress.json", "--summary", "regress.md"]) == 0
    assert "NoC90" in shown.shown
    for name in ("compare", "regress"):
        assert json.loads(Path(f"{name}.json").read_text("utf-8"))
        assert "große Maske 中" in Path(f"{name}.md").read_text("utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_no_name_breaks_or_commands_the_terminal(
    name: str, terminal: Callable[[str], Terminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = saved(name), saved("bilinear", 0.01)
    assert Result.load(old).upsampler["name"] == AS_LOADED.get(name, name)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "job.md")
    shown = terminal("utf-8")
    assert cli.main(["compare", old, new, "--json", "compare.json", "--markdown", "compare.md"]) == 0
    assert cli.main(["regress", new, "--baseline", old, "--json", "regress.json"]) == 0
    assert "NoC90" in shown.shown and Path("job.md").read_text("utf-8")
    assert [char for char in shown.shown if char in "\x1b\x9b\u202e"] == []
    assert json.loads(Path("compare.json").read_text("utf-8"))


def test_regress_has_written_its_files_when_printing_fails(
    terminal: Callable[[str], Terminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = saved("bilinear")
    monkeypatch.setattr(terminal("utf-8"), "write", lambda _text: 1 / 0)
    cli.main(["regress", old, "--baseline", old, "--json", "regress.json", "--summary", "regress.md"])
    assert json.loads(Path("regress.json").read_text("utf-8")) and Path("regress.md").read_text("utf-8")


@pytest.mark.parametrize("output", ["out", os.fsdecode(b"not-utf8-\xff"), "Ergebnis-中"])
def test_run_saves_and_says_where_in_any_encoding(
    output: str, terminal: Callable[[str], Terminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS, "tiny", TINY)
    shown = terminal("ascii")
    arguments = ["run", "nearest", "--protocol", "tiny", "--device", "cpu", "--epochs", "1", "--limit", "1", "--quiet"]
    assert cli.main([*arguments, "--output", output, "--name", NAMES[2]]) == 0
    assert Result.load(Path(output) / "result.json").upsampler["name"] == NAMES[2]
    assert f"saved: {output.encode('ascii', 'backslashreplace').decode()}" in shown.shown
    assert cli.main([*arguments, "--output", output, "--name", NAMES[2]]) == 0  # from its checkpoint


@pytest.mark.parametrize("command", [["run"], ["check"], ["data", "download"], ["leaderboard", "submit"], []])
def test_help_can_be_printed(command: list[str], terminal: Callable[[str], Terminal]) -> None:
    shown = terminal("ascii")
    with pytest.raises(SystemExit) as ended:
        cli.main([*command, "--help"])
    assert ended.value.code == 0
    assert shown.shown.startswith("usage: vfm-isbench")


def test_errors_and_warnings_cannot_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", "absent\x1b[2J.json"]) == 2
    complain("torn \x1b]0;title\x07")
    printed = capsys.readouterr().err
    assert "\x1b" not in printed and "absent\\x1b[2J.json" in printed and "torn \\x1b]0;title\\x07\n" in printed


def test_text_that_the_terminal_can_show_stays_as_it_is() -> None:
    text = "≥20@90 · ────\n  Größe 中 é – 5 %"
    assert showable(text, "utf-8") == text
    assert showable(text, "cp1252") == ">=20@90 · ----\n  Größe \\u4e2d é – 5 %"
