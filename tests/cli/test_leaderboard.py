"""``vfm-isbench leaderboard`` as users see it: every command of its page, exit codes, a real run from end to end."""

from __future__ import annotations

import dataclasses
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from doc_pages import DOCS, command_lines, fences
from result_builder import CODE, synthetic_entry, synthetic_result
from tiny import TINY

from vfm_isbench import cli
from vfm_isbench.leaderboard.validation import check_file
from vfm_isbench.protocol import PRESETS, Protocol
from vfm_isbench.results import Result

HASH = Protocol.preset("demo").fingerprint()[:12]


class NoTraining:
    """Replaces the benchmark: results are made up, but saved where the real benchmark would save them."""

    skill = 0.0

    def __init__(self, protocol: Protocol, *, output_dir: Path | None = None, **_options: Any) -> None:
        self.protocol, self.output_dir = protocol, output_dir

    def run(self, upsampler: str, name: str | None = None, identity: str | None = None) -> Result:
        own = "bilinear" if upsampler == "bilinear" else "mine"
        skill = self.skill + (0.0 if own == "bilinear" else 0.7)
        result = synthetic_result(own, seed=self.protocol.seed, skill=skill, protocol=self.protocol)
        if self.output_dir is not None:
            result.save(self.output_dir / "result.json")
        return result


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, where training takes no time."""
    monkeypatch.chdir(tmp_path)
    for module in ("run", "leaderboard"):
        monkeypatch.setattr(f"vfm_isbench.cli.{module}.Benchmark", NoTraining)
    return tmp_path


@pytest.fixture
def entries(desk: Path) -> Path:
    """A folder of two entries."""
    folder = desk / "benchmarks" / "entries"
    synthetic_entry("bilinear", protocol="demo").save(folder)
    synthetic_entry("mine", name="My upsampler", skill=0.7, protocol="demo").save(folder)
    return folder


def run(line: str) -> int:
    return cli.main(shlex.split(line)[1:])


def test_every_command_of_the_page_runs(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (DOCS / "submitting.md").read_text(encoding="utf-8")
    (desk / "my_upsampler.py").write_text("class Upsampler: ...\n")
    seen = 0
    for fence in fences(text):
        if fence.language != "bash":
            continue
        # "and the same with --seed 1 and --seed 2"
        seeds = fence.marker.removeprefix("<!-- seeds: ").removesuffix(" -->").split() if fence.marker else ["0"]
        for line in fence.text.splitlines():
            for seed in seeds:
                line_of_seed = line.replace("--seed 0", f"--seed {seed}").replace(
                    "-seed0 --quiet", f"-seed{seed} --quiet"
                )
                assert run(line_of_seed) == 0, f"{line_of_seed}\n{capsys.readouterr()}"
                seen += 1
    ours = [line for line in command_lines(text) if not line.startswith("vfm-isbench run SPEC")]
    assert seen == len(ours) + 4  # two commands with two more seeds each
    folder = desk / "benchmarks" / "entries"
    assert sorted(path.name for path in folder.iterdir()) == [f"bilinear-{HASH}.json.gz", "removed.jsonl"]
    assert "The authors asked for it" in (folder / "removed.jsonl").read_text()
    assert "Bilinear,bilinear" in (desk / "leaderboard.csv").read_text()


def test_the_printed_steps_work_in_a_repository(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    synthetic_result("bilinear", protocol="demo").save(desk / "result.json")
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run([*git, "init", "-q", "."], check=True)
    name = "It's $(touch owned)"
    assert cli.main(["leaderboard", "submit", "result.json", "--name", name, "--code", CODE]) == 0
    *_, table, first, second, third = capsys.readouterr().out.splitlines()
    assert run(table.partition(" ")[2]) == 0
    for step in (first, second):
        command = step.partition(" ")[2].replace("git ", f"{shlex.join(git)} ")
        subprocess.run(["bash", "-euc", command], check=True, capture_output=True)
    assert "pull request" in third
    shown = subprocess.run([*git, "show", "--stat", "--format=%s"], check=True, capture_output=True, text=True).stdout
    assert shown.startswith(f"Leaderboard entry: {name}\n")
    assert f"it-s-touch-owned-{HASH}.json.gz" in shown.replace("benchmarks/entries/", "")
    assert "leaderboard.csv" in shown
    assert run("vfm-isbench leaderboard csv --check") == 0
    assert not (desk / "owned").exists()


def test_the_printed_steps_name_another_folder(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    synthetic_result("bilinear", protocol="demo").save(desk / "result.json")
    assert run("vfm-isbench leaderboard submit result.json --name bilinear --entries 'my entries'") == 0
    assert "1. vfm-isbench leaderboard csv --entries 'my entries'\n" in capsys.readouterr().out


def test_submit_warns_of_one_seed_and_of_code_that_may_move(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (0, 1, 2):
        synthetic_result("bilinear", seed=seed, protocol="demo").save(desk / f"{seed}.json")
    submit = "vfm-isbench leaderboard submit 0.json --name bilinear --dry-run"
    assert run(submit) == 0
    described, warning, _ = capsys.readouterr().out.splitlines()
    assert ", seed 0: " in described
    assert warning.startswith("warning: an entry with one training seed is not ranked. Use three seeds")
    assert run(f"{submit.replace('0.json', '0.json 1.json 2.json')} --spec hub:author/mine@main:mine") == 0
    described, warning, _ = capsys.readouterr().out.splitlines()
    assert ", seeds 0, 1, 2: " in described
    assert warning.startswith("warning: --spec names author/mine@main, whose code may change.")
    assert run(f"{submit.replace('0.json', '0.json 1.json')} --spec hub:author/mine@{'ab' * 20}:mine") == 0
    assert "warning" not in capsys.readouterr().out


def test_progress_is_shown_on_standard_error(entries: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for action, saved in (("csv", "leaderboard.csv"), ("build", str(Path("site") / "index.html"))):
        assert run(f"vfm-isbench leaderboard {action}") == 0
        out, err = capsys.readouterr()
        assert out == f"saved: {saved}\n"
        assert "checking 2 entries" in err and "computing scores and ranks" in err


def test_submit_refuses_with_all_findings_and_writes_nothing(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (0, 1):
        synthetic_result("mine", seed=seed, protocol="demo").save(desk / f"{seed}.json")
    arguments = ["leaderboard", "submit", "0.json", "1.json", "0.json", "--name", "<b>", "--code", "ftp://x.org/"]
    assert cli.main(arguments) == 1
    out = capsys.readouterr().out
    for said in ("name: ", "code: ", "runs[1].protocol.seed: 0 is already the seed", "nothing was written"):
        assert said in out
    arguments = ["leaderboard", "submit", "0.json", "1.json", "--name", "Mine", "--code", CODE]
    assert cli.main(arguments) == 1
    assert "submit one first" in capsys.readouterr().out
    assert not (desk / "benchmarks").exists()
    synthetic_entry("bilinear", protocol="demo").save(desk / "benchmarks" / "entries")
    assert cli.main([*arguments, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "nothing was written" in out and "recomputed, ranked" in out
    assert len(list((desk / "benchmarks" / "entries").iterdir())) == 1


def test_a_run_folder_without_its_result_is_wrong_use(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (desk / "out").mkdir()
    assert cli.main(["leaderboard", "submit", "out", "--name", "Mine", "--code", CODE]) == 2
    assert "the folder out has no result.json" in capsys.readouterr().err


def test_every_action_looks_for_entries_in_the_same_place(entries: Path, desk: Path) -> None:
    for action in ("validate", "csv", "build"):
        assert run(f"vfm-isbench leaderboard {action}") == 0
    entries.rename(desk / "elsewhere")
    for action in ("validate", "csv", "build"):
        assert run(f"vfm-isbench leaderboard {action}") == 2
        assert run(f"vfm-isbench leaderboard {action} --entries elsewhere") == 0


def test_a_name_that_is_no_text_is_refused(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bytes that are not UTF-8 reach a program as lone surrogates."""
    synthetic_result("bilinear", protocol="demo").save(desk / "result.json")
    assert cli.main(["leaderboard", "submit", "result.json", "--name", "x\udcff", "--code", CODE]) == 1
    assert r"name: 'x\udcff' contains control or invisible characters" in capsys.readouterr().out


def test_validate_says_how_far_each_entry_goes(entries: Path, capsys: pytest.CaptureFixture[str]) -> None:
    synthetic_entry("bilinear", name="Few", protocol=Protocol.preset("demo").replace(object_limit=3)).save(entries)
    assert run("vfm-isbench leaderboard validate") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "3 files, 0 findings"
    assert f"My upsampler, {Protocol.preset('demo').label} protocol, seeds 0, 1, 2: recomputed, ranked" in lines[2]
    assert "self-reported, not ranked: only the first 3 objects" in lines[1]


def test_exit_codes(entries: Path, desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("vfm-isbench leaderboard csv --check") == 1
    assert "out of date" in capsys.readouterr().out
    assert run("vfm-isbench leaderboard csv") == 0
    assert run("vfm-isbench leaderboard csv --check") == 0
    with (desk / "leaderboard.csv").open("a") as file:
        file.write("by hand\n")
    assert run("vfm-isbench leaderboard csv --check") == 1
    (entries / "broken.json.gz").write_bytes(b"")
    assert run("vfm-isbench leaderboard validate") == 1
    assert run("vfm-isbench leaderboard csv") == 2
    assert "broken.json.gz: is cut short" in capsys.readouterr().err
    assert run("vfm-isbench leaderboard validate absent.json.gz") == 2
    assert run("vfm-isbench leaderboard validate --entries nowhere") == 2
    assert run("vfm-isbench leaderboard remove nobody --why x") == 2
    assert "it has: bilinear-" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        run("vfm-isbench leaderboard fly")
    assert caught.value.code == 2


def test_without_entries_no_table_is_written(entries: Path, desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (desk / "empty").mkdir()
    (desk / "leaderboard.csv").write_text("as it was\n")
    for folder, said in (("nowhere", "there is no folder of entries nowhere"), ("empty", "empty holds no entry")):
        for more in ("", " --check"):
            assert run(f"vfm-isbench leaderboard csv --entries {folder}{more}") == 2
            assert said in capsys.readouterr().err
    assert (desk / "leaderboard.csv").read_text() == "as it was\n"


def test_reproduce_tells_agreement_from_disagreement(
    entries: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = entries / f"my-upsampler-{HASH}.json.gz"
    before = path.read_bytes()
    assert run(f"vfm-isbench leaderboard reproduce my-upsampler-{HASH} --mark Me") == 2
    assert "is not built in" in capsys.readouterr().err
    command = f"vfm-isbench leaderboard reproduce my-upsampler-{HASH} --upsampler mine.py:Mine --mark Me"
    monkeypatch.setattr(NoTraining, "skill", -0.7)
    assert run(command) == 1
    out = capsys.readouterr().out
    assert "OUTSIDE" in out and "NOT reproduced" in out
    assert path.read_bytes() == before
    monkeypatch.setattr(NoTraining, "skill", 0.0)
    assert run(command.replace("--mark Me", "--mark '<b>'")) == 2
    assert "reproduced.by: '<b>' contains one of" in capsys.readouterr().err
    assert path.read_bytes() == before
    assert run(command) == 0
    assert f"My upsampler (my-upsampler-{HASH}): reproduced" in capsys.readouterr().out
    marked = check_file(path).entry
    assert marked is not None and marked.reproduced is not None and marked.reproduced.by == "Me"
    assert run("vfm-isbench leaderboard validate") == 0
    assert "reproduced, ranked" in capsys.readouterr().out
    assert run(f"vfm-isbench leaderboard validate --submission {path}") == 1


def test_another_upsampler_or_other_data_is_not_a_reproduction(
    entries: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = NoTraining.run

    def other(self: NoTraining, upsampler: str, name: str | None = None) -> Result:
        result = original(self, upsampler, name)
        scenes = dataclasses.replace(result.datasets["compact_scenes"], content_sha256="0" * 64)
        return dataclasses.replace(
            result, upsampler={**result.upsampler, "sha256": "ab" * 32}, datasets={"compact_scenes": scenes}
        )

    monkeypatch.setattr(NoTraining, "run", other)
    assert run(f"vfm-isbench leaderboard reproduce bilinear-{HASH}") == 1
    out = capsys.readouterr().out
    assert "seed 0: the upsampler has hash" in out
    assert "seed 0: the content of compact_scenes has hash" in out


def test_a_real_run_becomes_an_entry_and_is_reproduced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing made up: trained, submitted, validated, trained again, compared."""
    monkeypatch.setitem(PRESETS, "tiny", TINY.replace(epochs=1, object_limit=2))
    monkeypatch.chdir(tmp_path)
    assert run("vfm-isbench run bilinear --protocol tiny --device cpu --output out --quiet") == 0
    assert run(f"vfm-isbench leaderboard submit out --name Bilinear --code {CODE}") == 0
    assert run("vfm-isbench leaderboard validate") == 0
    capsys.readouterr()
    (path,) = (tmp_path / "benchmarks" / "entries").iterdir()
    entry = path.name.removesuffix(".json.gz")
    assert run(f"vfm-isbench leaderboard reproduce {entry} --device cpu --quiet --mark Me") == 0
    assert "within the interval" in capsys.readouterr().out
    assert run("vfm-isbench leaderboard csv") == 0
    assert ",reproduced," in (tmp_path / "leaderboard.csv").read_text()
