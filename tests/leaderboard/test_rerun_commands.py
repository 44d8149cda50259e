"""The commands that run an entry again: complete, safe to paste, and run here."""

from __future__ import annotations

import dataclasses
import shlex
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from result_builder import CODE, synthetic_entry, synthetic_result
from tiny import TINY

from vfm_isbench import cli
from vfm_isbench.cli.commands import build_parser
from vfm_isbench.cli.options import load_options, protocol_from, speed_from
from vfm_isbench.leaderboard import load_board
from vfm_isbench.leaderboard.entry import Entry
from vfm_isbench.leaderboard.reproduction import compare_with
from vfm_isbench.leaderboard.rerun_commands import DATA, reproduce_command, rerun_commands, spec_to_show
from vfm_isbench.leaderboard.submission import make_entry
from vfm_isbench.protocol import PRESETS, Protocol
from vfm_isbench.results import load_result

PAPER = Protocol.preset("paper")


def entry_of(spec: str, protocol: Protocol, source: dict[str, Any] | None = None, **changes: Any) -> Entry:
    """An entry of a foreign upsampler; the scenes stand in for the test sets, whose objects are not known here."""
    runs = []
    for seed in (0, 3):
        run = synthetic_result("mine", seed=seed)
        upsampler = {**run.upsampler, "source": source}
        runs.append(dataclasses.replace(run, protocol=protocol.replace(seed=seed), upsampler=upsampler, **changes))
    return make_entry(runs, name="Mine", code=CODE, date="2026-11-25", spec=spec)


def parsed(line: str) -> Any:
    program, *words = shlex.split(line)
    assert program == "vfm-isbench"
    return build_parser().parse_args(words)


def test_every_seed_of_an_upsampler_from_a_repository_runs_with_all_its_options() -> None:
    entry = entry_of("hub:author/mine@abc:mine?scale=2", PAPER)
    lines = rerun_commands(entry) or []
    assert [line.split()[:3] for line in lines[1:]] == [
        ["vfm-isbench", "data", "download"],
        *[["vfm-isbench", "run", "'hub:author/mine@abc:mine?scale=2'"]] * 2,
    ]
    download, *runs = map(parsed, lines[1:])
    assert set(download.names) == {"grabcut", "berkeley", "davis", "sbd"} and str(download.data_root) == DATA
    for run, found in zip(entry.runs, runs, strict=True):
        assert protocol_from(found) == run.protocol
        assert found.upsampler == "hub:author/mine@abc:mine?scale=2"
        assert load_options(found).trust_remote_code
        assert str(found.data_root) == DATA
    compare = parsed(reproduce_command(entry))
    assert (compare.entry, compare.upsampler, compare.trust_remote_code) == (entry.id, entry.spec, True)
    assert str(compare.data_root) == DATA


@pytest.mark.parametrize(("kind", "rest"), [("hub", ":mine?scale=2"), ("hf", "")])
def test_a_branch_is_replaced_by_the_commit_that_was_measured(kind: str, rest: str) -> None:
    def shown(ref: str, **source: Any) -> str | None:
        return spec_to_show(entry_of(f"{kind}:author/mine{ref}{rest}", PAPER, source))

    recorded = {"repository": "author/mine", "commit": "ab" * 20}
    pinned = f"{kind}:author/mine@{'ab' * 20}{rest}"
    assert shown("@main", **recorded) == shown("", **recorded) == pinned
    assert shown(f"@{'cd' * 20}", **recorded) == f"{kind}:author/mine@{'cd' * 20}{rest}"
    for other in ({"repository": "else/where", "commit": "ab" * 20}, {"repository": "author/mine", "commit": None}):
        assert shown("@main", **other) == f"{kind}:author/mine@main{rest}"


def test_consent_is_asked_for_only_where_a_repository_brings_code() -> None:
    def consents(spec: str, source: dict[str, Any] | None) -> bool:
        return "--trust-remote-code" in (rerun_commands(entry_of(spec, PAPER, source)) or [""])[-1]

    assert consents("hf:author/mine", {"code_sha256": "ab" * 32})
    assert not consents("hf:author/mine:package:Mine", {"code_sha256": None})
    assert not consents("loftup:dinov2s", None)
    (*_, line) = rerun_commands(entry_of("code:JAFAR:src.up:Up?v_dim=8", PAPER, {"weights_sha256": "ab" * 32})) or []
    assert "'code:JAFAR:src.up:Up?v_dim=8'" in line and "--trust-remote-code --upsampler-weights WEIGHTS" in line
    (*_, line) = rerun_commands(entry_of("hub:a/b@c:d", PAPER, {"weights_sha256": "ab" * 32})) or []
    assert "--upsampler-weights WEIGHTS" in line


def test_a_changed_protocol_and_speed_settings_are_in_the_command() -> None:
    changed = PAPER.replace(
        object_limit=20, epochs=3, milestones=(2,), backbone="dinov2_vitb14", test_datasets=("sbd",)
    )
    entry = entry_of("bilinear", changed, speed={"precision": "bfloat16"})
    found = parsed((rerun_commands(entry) or [""])[-1])
    assert protocol_from(found) == changed.replace(seed=3)
    assert speed_from(found).precision == "bfloat16"


def test_the_protocol_is_named_with_its_version() -> None:
    for label in ("demo@1", "demo@2"):
        entry = synthetic_entry("bilinear", protocol=label)
        runs = [parsed(line) for line in (rerun_commands(entry) or [])[1:]]
        assert [protocol_from(found) for found in runs] == [run.protocol for run in entry.runs]
        assert label in (rerun_commands(entry) or [""])[-1]
    assert "--data-root" not in reproduce_command(entry)
    assert reproduce_command(entry) == f"vfm-isbench leaderboard reproduce {entry.id}"


def test_nothing_that_a_submitter_writes_becomes_an_option_or_a_command() -> None:
    assert rerun_commands(entry_of("--output=/tmp", PAPER)) is None
    assert reproduce_command(entry_of("--output=/tmp", PAPER)).split()[4:6] == ["--upsampler", "UPSAMPLER"]
    lines = rerun_commands(entry_of("$(touch owned); x", PAPER, environment={"torch": "1; rm -rf ."})) or []
    assert shlex.split(lines[0]) == ["python", "-m", "pip", "install", "."]
    assert shlex.split(lines[-1])[2] == "$(touch owned); x"


def test_the_repository_is_cloned_if_it_has_an_address() -> None:
    first, second, *_ = rerun_commands(synthetic_entry("bilinear"), "https://example.org/vfm_isbench") or []
    assert first == "git clone https://example.org/vfm_isbench vfm_isbench && cd vfm_isbench"
    assert second.startswith("python -m pip install .")


def test_the_commands_of_a_real_entry_reproduce_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing made up: trained, submitted, and run again by the commands that the page shows."""
    monkeypatch.setitem(PRESETS, "tiny", TINY.replace(epochs=1, object_limit=2))
    monkeypatch.chdir(tmp_path)
    for seed in (0, 1):
        run = f"run bilinear --protocol tiny --seed {seed} --output out{seed} --device cpu --quiet"
        assert cli.main(run.split()) == 0
    assert cli.main(["leaderboard", "submit", "out0", "out1", "--name", "bilinear"]) == 0
    (entry,) = load_board(tmp_path / "benchmarks" / "entries").entries
    assert entry.code is None, "it is part of the library"
    install, *runs = rerun_commands(entry) or []
    assert len(runs) == 2
    asked = [Requirement(word) for word in shlex.split(install)[5:]]
    assert {requirement.name for requirement in asked} == {"torch", "torchvision", "timm", "numpy", "scipy", "pillow"}
    for requirement in asked:
        assert version(requirement.name) in requirement.specifier
    capsys.readouterr()
    again = []
    for line in runs:
        assert cli.main(shlex.split(line)[1:]) == 0
        saved = capsys.readouterr().out.splitlines()[-1].removeprefix("saved: ")
        again.append(load_result(Path(saved)))
    verdict = compare_with(entry, again)
    assert verdict.is_reproduced and set(verdict.largest.values()) == {0.0}
    assert cli.main([*shlex.split(reproduce_command(entry))[1:], "--quiet"]) == 0
