"""``vfm-isbench compare`` and ``vfm-isbench regress`` as users see them: every exit code and the written files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from result_builder import PROTOCOL, made_dataset, made_result, random_ious, seeds_of, stopping_early

from vfm_isbench import Result, cli


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ignore the job summary of the machine that runs these tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


def saved(results: Sequence[Result], name: str) -> list[str]:
    """Run folders with these results."""
    folders = []
    for result in results:
        folder = Path("runs") / f"{name}-seed{result.protocol.seed}"
        result.save(folder / "result.json")
        folders.append(str(folder))
    return folders


def test_compare_combines_seeds_and_compares_with_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    bilinear = saved(seeds_of("bilinear", [0, 1, 2]), "bilinear")
    jbu = saved(seeds_of("jbu", [0, 1, 2], shift=0.05), "jbu")
    files = ["--json", "new/compare.json", "--markdown", "new/compare.md"]
    assert cli.main(["compare", *bilinear, *jbu, *files]) == 0
    printed = capsys.readouterr().out
    assert "jbu against bilinear · davis: 40 objects in 20 images · seed 0,1,2, paired" in printed
    assert "NoC90" in printed and "|seed:0,1,2|" in printed
    content = json.loads(Path("new/compare.json").read_text(encoding="utf-8"))
    assert {one["metric"] for one in content["differences"]} >= {"noc80", "noc85", "noc90", "iou_at_1", "iou_at_5"}
    assert "| NoC90 |" in Path("new/compare.md").read_text(encoding="utf-8")


@pytest.mark.filterwarnings("default::vfm_isbench.errors.VfmIsbenchWarning")
@pytest.mark.parametrize("command", ["compare", "regress"])
def test_the_number_of_draws_is_accepted_but_only_causes_a_warning(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    base, new = saved(seeds_of("bilinear", [0]), "bilinear"), saved(seeds_of("mine", [0], shift=0.3), "mine")
    arguments = [*base, *new] if command == "compare" else [*new, "--baseline", *base]
    assert cli.main([command, *arguments]) == 0
    plain = capsys.readouterr()
    assert cli.main([command, *arguments, "--resamples", "7"]) == 0
    warned = capsys.readouterr()
    assert warned.out == plain.out and not plain.err
    assert warned.err.startswith("warning: `resamples` has no effect any more")
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    assert "resamples" not in capsys.readouterr().out


def test_compare_of_one_upsampler_shows_tables(capsys: pytest.CaptureFixture[str]) -> None:
    runs = saved(seeds_of("bilinear", [0, 1]), "bilinear")
    assert cli.main(["compare", *runs]) == 0
    assert capsys.readouterr().out.count("bilinear · paper protocol") == 2
    assert cli.main(["compare", *runs, "--json", "x.json"]) == 2
    assert "only one upsampler" in capsys.readouterr().err
    assert not Path("x.json").exists()


def test_compare_says_what_is_incomparable_with_code_3(capsys: pytest.CaptureFixture[str]) -> None:
    bilinear = saved(seeds_of("bilinear", [0]), "bilinear")
    jbu = saved(seeds_of("jbu", [0]), "jbu")
    other = saved(seeds_of("nearest", [0], protocol=PROTOCOL.replace(disk_radius=4)), "nearest")
    assert cli.main(["compare", *bilinear, *other]) == 3
    assert "disk_radius 5.0 and 4.0" in capsys.readouterr().err
    # Only one of the two can be compared: it is shown, and the other is named.
    assert cli.main(["compare", *bilinear, *jbu, *other]) == 3
    printed = capsys.readouterr().out
    assert "jbu against bilinear" in printed
    assert "nearest against" not in printed
    assert "incomparable: bilinear and nearest: the protocols differ" in printed


def test_compare_refuses_what_it_cannot_read_with_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    bilinear = saved(seeds_of("bilinear", [0]), "bilinear")
    Path("broken.json").write_text("{", encoding="utf-8")
    assert cli.main(["compare", *bilinear, "broken.json"]) == 2
    assert "broken.json is not a result: it is not JSON" in capsys.readouterr().err
    assert cli.main(["compare", *bilinear, *saved(seeds_of("jbu", [0]), "jbu"), "--confidence", "95"]) == 2
    assert "confidence between 0 and 1" in capsys.readouterr().err


def regress(new: Sequence[str], base: Sequence[str], *more: str) -> int:
    return cli.main(["regress", *new, "--baseline", *base, *more, "--json", "out.json", "--summary", "out.md"])


@pytest.mark.parametrize(
    ("shift", "code", "verdict"), [(0.02, 0, "pass"), (-0.2, 1, "regression"), (-0.05, 4, "inconclusive")]
)
def test_regress_gives_its_verdict_as_exit_code_and_in_files(
    shift: float, code: int, verdict: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = Path("job.md")
    summary.write_text("before\n", encoding="utf-8")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    base = saved(seeds_of("bilinear", [0, 1, 2]), "bilinear")
    new = saved(seeds_of("mine", [3, 4, 5], shift=shift), "mine")
    assert regress(new, base, "--metric", "mean_iou", "--margin", "0.05") == code
    assert capsys.readouterr().out.startswith(f"{verdict}: ")
    content = json.loads(Path("out.json").read_text(encoding="utf-8"))
    assert (content["verdict"], content["exit_code"], content["margin"]) == (verdict, code, 0.05)
    markdown = Path("out.md").read_text(encoding="utf-8")
    assert f"vfm-isbench regress: {verdict}" in markdown
    assert summary.read_text(encoding="utf-8") == "before\n" + markdown


def test_regress_of_the_same_runs_is_a_pass() -> None:
    base = saved(seeds_of("bilinear", [0, 1, 2]), "bilinear")
    assert regress(base, base) == 0
    assert regress(base, base, "--margin", "0") == 0
    assert regress(base[1:2], base) == 0


def test_inconclusive_passes_only_with_the_option(capsys: pytest.CaptureFixture[str]) -> None:
    base = saved(seeds_of("bilinear", [0, 1, 2]), "bilinear")
    new = saved(seeds_of("mine", [3, 4, 5], shift=-0.05), "mine")
    assert regress(new, base, "--metric", "mean_iou", "--margin", "0.05") == 4
    assert "This fails (exit code 4)" in capsys.readouterr().out
    assert regress(new, base, "--metric", "mean_iou", "--margin", "0.05", "--allow-inconclusive") == 0
    assert capsys.readouterr().out.startswith("inconclusive: ")
    content = json.loads(Path("out.json").read_text(encoding="utf-8"))
    assert (content["verdict"], content["exit_code"]) == ("inconclusive", 0)
    worse = saved(seeds_of("worse", [3, 4, 5], shift=-0.2), "worse")
    assert regress(worse, base, "--metric", "mean_iou", "--allow-inconclusive") == 1


def test_regress_says_how_many_objects_would_settle_it(capsys: pytest.CaptureFixture[str]) -> None:
    base = saved(seeds_of("bilinear", [0]), "bilinear")
    new = saved([made_result(made_dataset(random_ious(8)), name="mine", sha256=None)], "mine")
    assert regress(new, base, "--metric", "noc80") == 4
    needed = json.loads(Path("out.json").read_text(encoding="utf-8"))["datasets"][0]["objects_needed"]
    assert needed > 40
    assert f"about {needed:,} objects would settle it" in capsys.readouterr().out


def test_regress_of_incomparable_results_is_code_3(capsys: pytest.CaptureFixture[str]) -> None:
    base = saved(seeds_of("bilinear", [0]), "bilinear")
    new = saved(seeds_of("mine", [0], protocol=PROTOCOL.replace(disk_radius=4), backbone_sha256="e" * 64), "mine")
    assert regress(new, base) == 3
    printed = capsys.readouterr().out
    assert printed.startswith("incomparable: the results must not be compared")
    assert printed.count("\n- bilinear (baseline) and mine: ") == 2
    content = json.loads(Path("out.json").read_text(encoding="utf-8"))
    assert (content["verdict"], content["datasets"], len(content["reasons"])) == ("incomparable", [], 2)
    assert Path("out.md").read_text(encoding="utf-8").count("\n- bilinear") == 2


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--metric", "mean_iou"], "Run it without early stop"),
        (["--metric", "noc"], "unknown metric 'noc'"),
        (["--metric", "iou_at_20"], "6 clicks per object"),
        (["--margin", "-1"], "margin of at least 0"),
        (["--margin", "nan"], "margin of at least 0"),
        (["--metric", "iou_at_1", "--margin", "5"], "for 5 points, use 0.05"),
        (["--confidence", "0.4"], "between 0.5 and 1"),
    ],
)
def test_regress_used_wrongly_is_code_2(more: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    base = saved(seeds_of("bilinear", [0]), "bilinear")
    early = [stopping_early(run) for run in seeds_of("mine", [0])]
    assert regress(saved(early, "mine"), base, *more) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1
    assert not Path("out.json").exists()


def test_a_data_set_that_nobody_has_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    base, new = saved(seeds_of("bilinear", [0]), "bilinear"), saved(seeds_of("mine", [0]), "mine")
    assert regress(new, base, "--dataset", "daviss") == 2
    assert "davis" in capsys.readouterr().err.replace("daviss", "")
    assert cli.main(["compare", *base, *new, "--dataset", "davis", "--dataset", "sdb"]) == 2
    assert "sdb" in capsys.readouterr().err
    # A data set that only one side has makes the results incomparable.
    two = made_result(made_dataset(random_ious(1)), made_dataset(random_ious(2), name="sbd"), name="two", seed=1)
    assert regress(saved([two], "two"), base, "--dataset", "sbd") == 3
    assert cli.main(["compare", *base, *saved([two], "two"), "--dataset", "sbd"]) == 3


def test_regress_of_bad_files_is_code_2(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    base = saved(seeds_of("bilinear", [0]), "bilinear")
    assert regress(["absent"], base) == 2
    assert "absent could not be read" in capsys.readouterr().err
    tampered = json.loads(Path(base[0], "result.json").read_text(encoding="utf-8"))
    tampered["datasets"]["davis"]["objects"][0]["iou"][0] = 0.99
    Path("tampered.json").write_text(json.dumps(tampered), encoding="utf-8")
    assert regress(["tampered.json"], base) == 2
    assert "its evidence gives" in capsys.readouterr().err
    assert regress([*base, *saved(seeds_of("jbu", [1]), "jbu")], base) == 2
    assert "one upsampler, got 2" in capsys.readouterr().err
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(Path("absent") / "job.md"))
    assert regress(base, base) == 2
    assert "GITHUB_STEP_SUMMARY" in capsys.readouterr().err


@pytest.mark.parametrize("field", ["upsampler", "backbone"])
@pytest.mark.parametrize("value", [[], {}, None, "text"])
def test_no_file_makes_regress_end_with_a_verdict_by_accident(field: str, value: object) -> None:
    """Code 1 is a verdict, and also what an uncaught exception would give."""
    base = saved(seeds_of("bilinear", [0]), "bilinear")
    content = json.loads(Path(base[0], "result.json").read_text(encoding="utf-8"))
    content[field] = value
    Path("odd.json").write_text(json.dumps(content), encoding="utf-8")
    assert regress(["odd.json"], base) == 2


def test_regress_without_a_baseline_is_code_2() -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["regress", "runs/mine-seed0"])
    assert exit_.value.code == 2
