"""Baselines: whether they still hold, under each thing that can change, and making them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from result_builder import made_dataset, made_result, random_ious
from tiny import TINY, UPSAMPLER

from vfm_isbench import Protocol, Result, cli
from vfm_isbench.baseline import BaselineCheck, Prospect, Recorded, check_baseline, load_baseline, protocol_today
from vfm_isbench.baseline.check import upsampler_change
from vfm_isbench.baseline.make import BaselinePlan, make_baseline
from vfm_isbench.errors import ComparisonError, IncomparableError, ResultError
from vfm_isbench.protocol import PRESETS
from vfm_isbench.results.environment import package_versions
from vfm_isbench.training import EpochRecord

BEHAVIOUR = (0.1, -0.2, 0.3)
VERSIONS = {
    "torch": "2.14.1",
    "numpy": "2.4.6",
    "cpu_capability": "AVX2",
    "vfm_isbench_code": "a" * 64,
    "platform": "Linux-6.1.0-x86_64-with-glibc2.36",
}


def run(seed: int = 0, **changes: Any) -> Result:
    """A result with behaviours and versions; ``changes`` replace entries of its parts."""
    found = made_result(made_dataset(random_ious(1)), seed=seed)
    parts = {
        "upsampler": {**found.upsampler, "behaviour": BEHAVIOUR},
        "backbone": {**found.backbone, "behaviour": BEHAVIOUR},
        "environment": {**found.environment, **VERSIONS},
    }
    parts |= {name: {**parts[name], **changes.pop(name)} for name in tuple(parts) if name in changes}
    return dataclasses.replace(found, **{**parts, **changes})


def checked(today: Result, *unchecked: str, **more: Any) -> BaselineCheck:
    """Two recorded seeds against what would be recorded today."""
    recorded = [Recorded(Path(f"baseline/seed{seed}.json"), run(seed)) for seed in (0, 1)]
    return check_baseline(recorded, Prospect(today, unchecked), "REMAKE", **more)


def test_nothing_changed() -> None:
    found = checked(run())
    assert (found.numbers, found.exit_code, found.findings, found.upsampler) == ("same", 0, (), "same")
    assert "bit for bit" in str(found) and "REMAKE" not in str(found)


def with_content(content: str | None) -> Result:
    return run(datasets={"davis": dataclasses.replace(run().datasets["davis"], content_sha256=content)})


@pytest.mark.parametrize(
    ("today", "said"),
    [
        (lambda: run(protocol=run().protocol.replace(flip_test=False)), "the protocols differ"),
        (lambda: run(backbone={"sha256": "ef" * 32}), "the weights of the backbone differ"),
        (lambda: run(backbone={"behaviour": (0.1, 0.2, 0.3)}), "computed different features"),
        (lambda: with_content("other" * 8), "other images, masks or order"),
        (lambda: run(datasets={"davis": made_dataset(random_ious(1)[:-2])}), "objects only in the first"),
        (lambda: run(datasets={}), "not in the second result"),
        (lambda: run(speed={"precision": "bfloat16"}), "computed in float32 and bfloat16"),
    ],
)
def test_what_regress_would_refuse_asks_for_a_new_baseline(today: Callable[[], Result], said: str) -> None:
    found = checked(today())
    assert (found.numbers, found.exit_code) == ("other", 1)
    assert said in found.findings[0].text and found.findings[0].seeds == (0, 1)
    assert str(found).endswith("make the baseline again with: REMAKE")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"torch": "2.15.0"}, "torch 2.14.1 and 2.15.0"),
        ({"threads": 4}, "threads 1 and 4"),
        ({"device": "NVIDIA H100"}, "in the baseline and today: device cpu and NVIDIA H100"),
        ({"vfm_isbench": "9.0"}, "under the same revision of the rules: vfm_isbench 0.2.0 and 9.0"),
        ({"cpu_capability": "AVX512"}, "CPU capability AVX2 and AVX512"),
        ({"platform": "macOS-15.1-arm64-arm-64bit"}, "system Linux glibc2.36 and macOS"),
    ],
)
def test_versions_and_devices_only_round_differently(changes: dict[str, Any], said: str) -> None:
    found = checked(run(environment=changes))
    assert (found.numbers, found.exit_code) == ("rounding", 0)
    assert [finding.effect for finding in found.findings] == ["rounding"] and said in str(found)
    assert "the margin of regress must cover" in str(found) and "at most" not in str(found)
    assert str(found).endswith("safer to make the baseline again where the results are made: REMAKE")


def test_another_kernel_of_the_operating_system_changes_nothing() -> None:
    assert checked(run(environment={"platform": "Linux-6.9.9-generic-x86_64-with-glibc2.36"})).findings == ()


def test_edited_code_of_the_same_version_is_noted_and_the_first_epoch_recommended() -> None:
    found = checked(run(environment={"vfm_isbench_code": "b" * 64}))
    assert [finding.effect for finding in found.findings] == ["unchecked"] and found.exit_code == 0
    assert "vfm_isbench 0.2.0" in str(found) and "aaaaaaaaaaaa and bbbbbbbbbbbb" in str(found)
    assert "--first-epoch" in str(found)
    assert (found.numbers, found.is_complete, found.to_dict()["is_complete"]) == ("same", False, False)
    assert "the baseline holds" not in str(found) and "bit for bit" not in str(found)
    trained = checked(run(environment={"vfm_isbench_code": "b" * 64}), epoch=EpochRecord(0, 0.2, 0.6, None, 1.0))
    assert "The first epoch shows what that changes in training, but not in evaluation" in str(trained)
    assert not trained.is_complete


@pytest.mark.parametrize("part", [*VERSIONS, "threads"])
def test_what_older_results_do_not_record_is_named_as_not_checked(part: str) -> None:
    old = run()
    environment = {name: value for name, value in old.environment.items() if name != part}
    recorded = [Recorded(Path("baseline/seed0.json"), dataclasses.replace(old, environment=environment))]
    found = check_baseline(recorded, Prospect(run(), ()), "REMAKE")
    name = {
        "cpu_capability": "CPU capability",
        "vfm_isbench_code": "hash of this library's code",
        "platform": "system",
    }.get(part, part)
    assert [finding.effect for finding in found.findings] == ["unchecked"]
    assert f"not checked: the baseline does not record {name}; a baseline made again does" in str(found)
    assert (found.numbers, found.exit_code) == ("same", 0) and "bit for bit" not in str(found)


@pytest.mark.parametrize(
    ("changes", "change"),
    [
        ({}, "same"),
        ({"sha256": "ef" * 32}, "code"),
        ({"sha256": "ef" * 32, "behaviour": (0.1, 0.2, 0.3)}, "behaviour"),
        ({"behaviour": (0.1, 0.2, 0.3)}, "behaviour"),
        ({"sha256": None}, "unknown"),
        ({"sha256": "ef" * 32, "behaviour": None}, "unknown"),
    ],
)
def test_a_changed_upsampler_is_no_reason_but_is_said(changes: dict[str, Any], change: str) -> None:
    assert upsampler_change(run(), run(upsampler=changes)) == change
    found = checked(run(upsampler=changes))
    assert (found.numbers, found.upsampler) == ("same", change)
    assert [finding.effect for finding in found.findings][:1] == ([] if change == "same" else ["upsampler"])


def test_what_was_not_checked_is_said() -> None:
    found = checked(with_content(None), "the training data: not here")
    assert found.exit_code == 0
    assert [finding.effect for finding in found.findings] == ["unchecked", "unchecked"]
    assert "baseline of seeds 0, 1: nothing that was checked differs, but not everything could be checked" in str(found)


@pytest.mark.parametrize(("loss", "effect", "code"), [(0.2, "same", 0), (0.2000001, "rounding", 0), (0.21, "other", 1)])
def test_the_first_epoch_is_compared_with_its_record(loss: float, effect: str, code: int) -> None:
    found = checked(run(), epoch=EpochRecord(0, loss, 0.6, None, 1.0))
    assert [(finding.effect, finding.seeds) for finding in found.findings] == [(effect, (0,))]
    assert found.exit_code == code


def test_the_first_epoch_on_another_machine_tells_rounding_from_nothing() -> None:
    """Rounding alone made 2 % with another CPU capability."""
    epoch = EpochRecord(epoch=0, loss=0.204, iou=0.6, validation_iou=None, seconds=1.0)
    assert checked(run(), epoch=epoch).exit_code == 1
    found = checked(run(environment={"cpu_capability": "DEFAULT"}), epoch=epoch)
    assert found.exit_code == 0
    assert {finding.effect for finding in found.findings} == {"rounding", "unchecked"}
    assert "differs by 2%" in str(found) and "make the baseline again on this one" in str(found)


def test_the_first_epoch_of_another_upsampler_says_nothing() -> None:
    other = run(upsampler={"sha256": "ef" * 32, "behaviour": (1.0,)})
    found = checked(other, epoch=EpochRecord(0, 0.9, 0.1, None, 1.0))
    assert [finding.effect for finding in found.findings] == ["upsampler", "unchecked"]
    assert found.exit_code == 0


def save(folder: Path, *results: Result) -> list[Path]:
    return [result.save(folder / f"seed{result.protocol.seed}.json") for result in results]


def test_results_of_another_revision_are_read_and_asked_for_again(tmp_path: Path) -> None:
    paths = save(tmp_path, run(0), run(1))
    content = json.loads(paths[0].read_text(encoding="utf-8"))
    content["fingerprint"] = run().protocol.fingerprint(revision=2)
    paths[0].write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ResultError, match="fingerprint does not match"):
        Result.load(paths[0])
    recorded = load_baseline(paths)
    assert [one.revision for one in recorded] == [2, 1]
    found = check_baseline(recorded, Prospect(run()))
    assert found.exit_code == 1 and "follows revision 2 of this library's rules" in found.findings[0].text
    assert found.findings[0].seeds == (0,) and "(seed 0)" in str(found)


def test_files_must_be_one_baseline(tmp_path: Path) -> None:
    save(tmp_path, run(0), run(1, protocol=run().protocol.replace(seed=1, flip_test=False)))
    with pytest.raises(IncomparableError, match="do not belong to one baseline"):
        load_baseline([tmp_path])
    save(tmp_path, run(0), run(1, upsampler={"name": "other"}))
    with pytest.raises(ComparisonError, match="expected results of one upsampler"):
        load_baseline([tmp_path])
    (tmp_path / "seed1.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ResultError, match=r"seed1\.json: not a result"):
        load_baseline([tmp_path])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ResultError, match="found none"):
        load_baseline([tmp_path / "empty"])


def test_the_protocol_of_today_is_the_newest_preset_with_the_same_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "tiny", TINY)
    changed = TINY.replace(epochs=3, seed=5, test_datasets=("grabcut",))
    assert protocol_today(changed).replace(seed=5) == changed
    own = Protocol.preset("paper").replace(name="mine", epochs=1, milestones=())
    assert protocol_today(own) == own


@pytest.mark.skipif("demo@1" not in PRESETS, reason="the demo has one version")
def test_another_version_of_the_preset_asks_for_a_new_baseline() -> None:
    before = run(protocol=Protocol.preset("demo@1").replace(test_datasets=("davis",)))
    recorded = [Recorded(Path("baseline/seed0.json"), before)]
    today = protocol_today(before.protocol)
    assert today.fingerprint() == Protocol.preset("demo").fingerprint()
    found = check_baseline(recorded, Prospect(run(protocol=today)))
    assert found.exit_code == 1 and "the protocols differ" in found.findings[0].text


def test_files_are_written_after_all_runs_and_work_of_other_versions_is_discarded(tmp_path: Path) -> None:
    plan = BaselinePlan("bilinear", TINY, {0: tmp_path / "b" / "old.json", 1: tmp_path / "b" / "seed1.json"}, tmp_path)
    for seed, versions in ((0, package_versions()), (1, {**package_versions(), "torch": "1.0"})):
        plan.folder(seed).mkdir()
        (plan.folder(seed) / "run.json").write_text(json.dumps({"versions": versions}), encoding="utf-8")
    asked = []

    def made_up(protocol: Protocol, folder: Path, discard: bool) -> Result:
        assert not (tmp_path / "b").exists()
        asked.append((protocol.seed, folder.name, discard))
        return run(protocol.seed)

    make_baseline(plan, made_up)
    assert asked == [(0, "seed0", False), (1, "seed1", True)]
    recorded = load_baseline([tmp_path / "b"])
    assert [(one.path.name, one.seed, one.spec) for one in recorded] == [
        ("old.json", 0, "bilinear"), ("seed1.json", 1, "bilinear")
    ]  # fmt: skip


def test_a_baseline_is_made_checked_and_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The commands, with real runs of the small protocol."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(PRESETS, "tiny", TINY.replace(epochs=1, samples_per_epoch=4))
    mine = Path("mine.py")
    mine.write_text(UPSAMPLER, encoding="utf-8")
    options = ["--quiet", "--device", "cpu"]

    def command(*words: str, ends: int) -> str:
        assert cli.main(["baseline", *words, *options]) == ends
        printed = capsys.readouterr()
        return printed.out + printed.err

    command("make", "mine.py:Upsampler", "--seeds", "0", "1", "--protocol", "tiny", "--limit", "2", ends=0)
    assert [path.name for path in sorted(Path("baseline").iterdir())] == ["seed0.json", "seed1.json"]
    first = [Result.load(path) for path in sorted(Path("baseline").iterdir())]
    assert [result.protocol.object_limit for result in first] == [2, 2]
    assert "already holds seed0.json" in command("make", "mine.py:Upsampler", ends=2)

    # The recorded spec, preset and changes are enough to check everything.
    printed = command("check", "baseline", "--first-epoch", "--json", "check.json", ends=0)
    assert "nothing but the upsampler" in printed and "bit for bit: " in printed
    content = json.loads(Path("check.json").read_text(encoding="utf-8"))
    assert (content["numbers"], content["upsampler"]) == ("same", "same")
    assert {finding["effect"] for finding in content["findings"]} == {"same"}

    printed = command("check", "baseline/seed0.json", "--set", "disk_radius=3", ends=1)
    assert "disk_radius 5.0 and 3.0" in printed
    assert "vfm-isbench baseline make --again baseline --set disk_radius=3" in printed
    assert "vfm-isbench baseline" not in command("check", "baseline", "--protocol", "tiny", "--limit", "2", ends=0)
    assert "could not be read" in command("check", "nothing.json", ends=2)

    # A comment changes the code only; nearest computes something else.
    mine.write_text(UPSAMPLER + "# a comment\n", encoding="utf-8")
    assert "computes the same features" in command("check", "baseline", ends=0)
    mine.write_text(UPSAMPLER.replace("bilinear", "nearest"), encoding="utf-8")
    assert "computes other features" in command("check", "baseline", ends=0)
    assert "would hide whether it became worse" in command("make", "--again", "baseline", ends=2)

    mine.write_text(UPSAMPLER, encoding="utf-8")
    assert "kept" not in command("make", "--again", "baseline", "--set", "disk_radius=3", ends=0)
    assert command("make", "--again", "baseline", ends=0).count("(finished earlier, kept)") == 2
    again = [Result.load(path) for path in sorted(Path("baseline").iterdir())]
    assert [result.protocol for result in again] == [result.protocol.replace(disk_radius=3.0) for result in first]
    assert load_baseline(["baseline"])[0].spec == "mine.py:Upsampler"


def test_a_baseline_without_spec_asks_for_the_upsampler(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save(Path("baseline"), run(0, upsampler={"name": "mine"}))
    assert cli.main(["baseline", "make", "--again", "baseline"]) == 2
    assert "baseline make UPSAMPLER --again baseline" in capsys.readouterr().err
    assert cli.main(["baseline", "make"]) == 2
    assert "expected an upsampler" in capsys.readouterr().err


def test_an_unexpected_error_is_not_taken_for_a_baseline_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path, run(0))

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("unexpected")

    monkeypatch.setattr("vfm_isbench.cli.baseline.prospect_of", fail)
    assert cli.main(["baseline", "check", str(tmp_path)]) == 2
    assert "RuntimeError: unexpected" in capsys.readouterr().err


def test_data_and_weights_that_are_not_here_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(PRESETS, "real", TINY.replace(name="real", train_dataset="sbd", test_datasets=("davis",)))
    protocol = Protocol.preset("real").replace(max_clicks=6)
    result = run(0, protocol=protocol, upsampler={"name": "bilinear"}, backbone={"sha256": None, "behaviour": None})
    save(tmp_path, result)
    code = cli.main(["baseline", "check", str(tmp_path), "--backbone-weights", str(tmp_path / "none.pth")])
    printed = capsys.readouterr().out
    assert "not checked: the training data: data set 'sbd' needs files" in printed
    assert "not checked: data set davis: data set 'davis' needs files" in printed
    assert "not checked: the backbone: " in printed
    assert code == 1 and "not trained alike" in printed, "1 epoch on record, 2 in the protocol"
