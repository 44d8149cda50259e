"""Runs the README's commands on comparing and publishing, and those of the page on speed, unchanged."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from result_builder import synthetic_entry, synthetic_result
from tiny import TINY_DEMO

from vfm_isbench import Result, cli
from vfm_isbench.cli.run import default_output
from vfm_isbench.protocol import PRESETS

ROOT = Path(__file__).resolve().parents[2]
PLACEHOLDERS = {"URL": "https://example.org/code"}


def commands(page: Path, heading: str) -> Iterator[str]:
    """Lines of the shell blocks below a heading, up to the next heading of level two."""
    text = page.read_text(encoding="utf-8")
    section = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert section is not None, f"{page.name} has no section {heading!r}"
    for block in re.findall(r"```bash\n(.*?)```", section[1], re.DOTALL):
        yield from block.splitlines()


def run(line: str, folder: Path) -> int:
    """Run a command in a folder, with patterns expanded as a shell does."""
    program, *words = shlex.split(line)
    assert program == "vfm-isbench"
    arguments: list[str] = []
    for word in words:
        found = sorted(str(path.relative_to(folder)) for path in folder.glob(word)) if "*" in word else []
        arguments += found or [PLACEHOLDERS.get(word, word)]
    assert not any("*" in argument for argument in arguments), f"nothing to expand in {line}"
    return cli.main(arguments)


def test_comparing_and_publishing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for seed in (0, 1, 2):
        for name, skill in (("bilinear", 0.0), ("jbu", 0.4), ("mine", 0.8)):
            result = synthetic_result(name, seed=seed, skill=skill, protocol="demo")
            for folder in (default_output(name, result.protocol), Path(f"runs/{name}-seed{seed}")):
                result.save(folder / "result.json")
        synthetic_result("mine", seed=seed, skill=0.8, protocol="demo").save(Path(f"new/seed{seed}/result.json"))
        synthetic_result("mine", seed=seed, skill=0.7, protocol="demo").save(Path(f"baseline/{seed}.json"))
    synthetic_entry("bilinear", protocol="demo").save(Path("benchmarks/entries"))
    ran = [line for line in commands(ROOT / "README.md", "Compare, test, publish") if run(line, tmp_path) == 0]
    assert ran == list(commands(ROOT / "README.md", "Compare, test, publish"))
    assert len(ran) == 8
    assert (tmp_path / "site" / "index.html").is_file()


def test_speed_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(PRESETS, "demo", TINY_DEMO.replace(epochs=1, validation_samples=0))
    assert cli.main(["run", "bilinear", "--quiet"]) == 0
    for line in commands(ROOT / "docs" / "speed.md", "Speed settings"):
        assert run(line, tmp_path) == 0, line
    folder = default_output("bilinear", TINY_DEMO)
    stopped = Result.load(folder / "result-stop90.json")
    assert stopped.speed == {"early_stop": [80, 85, 90]}
    assert Result.load("rough.json").speed == {"precision": "bfloat16"}
    assert Result.load(folder / "result.json").datasets["compact_scenes"].objects
