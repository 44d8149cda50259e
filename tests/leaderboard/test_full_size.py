"""The call for full-size results: there until the first one, with commands that exist."""

from __future__ import annotations

import dataclasses
import re
import shlex

import pytest
from doc_pages import DOCS
from result_builder import synthetic_entry

from vfm_isbench.cli.commands import build_parser
from vfm_isbench.cli.options import protocol_from
from vfm_isbench.leaderboard import Board, Entry, page_data
from vfm_isbench.leaderboard.full_size import COMMANDS, commands
from vfm_isbench.protocol import Protocol


def under(label: str, **changes: object) -> Entry:
    """An entry under this protocol, with the objects of the first demo."""
    entry = synthetic_entry("bilinear")
    protocol = Protocol.preset(label).replace(**changes)
    runs = tuple(dataclasses.replace(run, protocol=protocol.replace(seed=run.protocol.seed)) for run in entry.runs)
    return dataclasses.replace(entry, runs=runs)


@pytest.mark.parametrize("entries", [(), (under("demo@1"),), (under("demo@1"), under("paper", object_limit=20))])
def test_it_is_there_without_a_full_size_result(entries: tuple[Entry, ...]) -> None:
    wanted = page_data(Board(entries), version="1")["wanted"]
    assert wanted["commands"] == ["python -m pip install .", *COMMANDS]
    assert "GPU" in wanted["needs"][0] and "SBD" in wanted["needs"][1] and "DINOv2" in wanted["needs"][2]


def test_the_commands_begin_with_the_installation() -> None:
    assert commands("https://example.org/x")[:2] == [
        "git clone https://example.org/x vfm_isbench && cd vfm_isbench",
        "python -m pip install .",
    ]


@pytest.mark.parametrize("label", ["paper", "paper-early"])
def test_it_disappears_with_the_first_one(label: str) -> None:
    assert page_data(Board((under("demo@1"), under(label))), version="1")["wanted"] is None


def test_its_commands_are_complete_and_those_of_the_readme() -> None:
    found = [build_parser().parse_args(shlex.split(command)[1:]) for command in COMMANDS]
    runs = [one for one in found if one.command == "run" and not one.estimate]
    assert [(run.upsampler, run.seed) for run in runs] == [
        (name, seed) for name in ("bilinear", "loftup:dinov2s") for seed in (0, 1, 2)
    ]
    for run in runs:
        assert protocol_from(run) == Protocol.preset("paper").replace(seed=run.seed)
    submitted = [path for one in found if one.command == "leaderboard" for path in one.results]
    assert submitted == [run.output for run in runs]
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    assert re.search(r"^## No full-size results yet$", readme, re.MULTILINE)
    for command in COMMANDS:
        assert command in readme.replace(" \\\n    ", " ")
