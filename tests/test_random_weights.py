"""Dry runs with random weights: they go the whole way, say what they are, and nothing takes them for a measurement."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from matplotlib.text import Text
from result_builder import made_dataset, made_result, random_ious, seeds_of, synthetic_entry
from tiny import TINY

from vfm_isbench import Benchmark, ExportOptions, Protocol, Result, cli, compare, export_results, regress
from vfm_isbench.baseline.recorded import load_baseline
from vfm_isbench.errors import ComparisonError, IncomparableError, ResultError, RunError, WeightsError
from vfm_isbench.export import FORMATS
from vfm_isbench.leaderboard.findings import Report
from vfm_isbench.leaderboard.gzip_json import to_bytes, unpack
from vfm_isbench.leaderboard.validation import check_content
from vfm_isbench.results import resolution
from vfm_isbench.results.quoted import differences, quoted_tables
from vfm_isbench.runs import evaluate_checkpoint
from vfm_isbench.viz import iou_curves

NO_HUB = TINY.replace(backbone="timm:test_vit", injection="early", click_encoder="patch_embedding")
"""On a network whose weights are on the hub, which tests cannot reach."""


def benchmark(output: Path | None = None, *, random: bool = True, protocol: Protocol = NO_HUB) -> Benchmark:
    return Benchmark(protocol, device="cpu", output_dir=output, progress=False, random_weights=random)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a dry run."""
    output = tmp_path_factory.mktemp("dry") / "run"
    benchmark(output).run("bilinear")
    return output


@pytest.fixture(scope="module")
def result(folder: Path) -> Result:
    return Result.load(folder)


def dry(measured: Result) -> Result:
    """The same as if its backbone had had random weights."""
    return dataclasses.replace(measured, backbone={**measured.backbone, "weights": "random"})


def test_a_dry_run_needs_no_weights_and_says_what_it_is(result: Result) -> None:
    assert result.has_random_weights
    assert (result.backbone["weights"], result.backbone["feature_norm"]) == ("random", "final norm")
    assert "timm:test_vit, random weights: a dry run" in str(result).splitlines()[0]
    assert any("scores say nothing" in note for note in result.notes)
    assert "random weights" in result._repr_html_()


def test_it_is_the_same_every_time(result: Result) -> None:
    again = benchmark().run("bilinear")
    assert again.backbone["sha256"] == result.backbone["sha256"]
    assert again.datasets["scenes"].ious.tolist() == result.datasets["scenes"].ious.tolist()


def test_its_folder_is_continued_with_the_flag_only(folder: Path, tmp_path: Path) -> None:
    assert benchmark(folder).run("bilinear").has_random_weights
    cnn = tmp_path / "cnn"
    benchmark(cnn, random=False, protocol=TINY).train("bilinear")
    with pytest.raises(RunError, match="random_weights: False there, True now"):
        benchmark(cnn, protocol=TINY).train("bilinear")
    manifest = json.loads((cnn / "run.json").read_text())
    del manifest["random_weights"]  # as written by earlier versions
    (cnn / "run.json").write_text(json.dumps(manifest))
    benchmark(cnn, random=False, protocol=TINY).train("bilinear")
    other = tmp_path / "other"
    benchmark(other, protocol=TINY).train("bilinear")
    with pytest.raises(RunError, match="random_weights: True there, False now"):
        benchmark(other, random=False, protocol=TINY).train("bilinear")


def test_its_checkpoint_is_evaluated_with_the_flag_only(folder: Path, result: Result) -> None:
    with pytest.raises(RunError, match="backbone with random weights: give random_weights=True"):
        evaluate_checkpoint(folder, progress=False, device="cpu")
    found = evaluate_checkpoint(folder, progress=False, device="cpu", random_weights=True)
    assert found.has_random_weights
    assert found.datasets["scenes"].ious.tolist() == result.datasets["scenes"].ious.tolist()


def test_a_pretrained_checkpoint_is_not_evaluated_with_the_flag(tmp_path: Path) -> None:
    benchmark(tmp_path / "run", random=False, protocol=TINY).train("bilinear")
    with pytest.raises(RunError, match="backbone with pretrained weights: leave out random_weights=True"):
        evaluate_checkpoint(tmp_path / "run", progress=False, device="cpu", random_weights=True)


def test_random_weights_and_given_ones_contradict_each_other(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="leave out random_weights=True"):
        Benchmark(TINY, random_weights=True, backbone_weights=tmp_path)


def test_it_is_not_compared_with_a_measurement() -> None:
    first, second = (made_result(made_dataset(random_ious(seed)), sha256=f"{seed}0" * 32) for seed in (1, 2))
    assert compare(first, second)
    assert compare(dry(first), dry(second))
    for pair in ((dry(first), second), (first, dry(second))):
        with pytest.raises(IncomparableError, match="is a dry run: its backbone has random weights"):
            compare(*pair)


@pytest.fixture(scope="module")
def dry_pair() -> list[Result]:
    """Dry runs of two upsamplers."""
    return [dry(made_result(made_dataset(random_ious(seed)), sha256=f"{seed}0" * 32)) for seed in (1, 2)]


def test_two_dry_runs_are_compared_with_a_remark(dry_pair: list[Result]) -> None:
    assert "note: these are dry runs" in str(compare(*dry_pair))
    assert "dry run" not in str(compare(*(dataclasses.replace(run, backbone={"name": "b"}) for run in dry_pair)))


def test_a_picture_of_dry_runs_says_so(dry_pair: list[Result]) -> None:
    caption = " ".join(text.get_text() for text in iou_curves(dry_pair).findobj(Text))
    assert "so the numbers mean nothing" in " ".join(caption.split())


@pytest.mark.parametrize("are_dry", [(True, True), (True, False), (False, True)])
def test_no_regression_test_takes_it(are_dry: tuple[bool, bool]) -> None:
    run = made_result(made_dataset(random_ious(1)))
    result, baseline = (dry(run) if is_dry else run for is_dry in are_dry)
    assert regress(run, run).verdict == "pass"
    with pytest.raises(ComparisonError, match="is a dry run.*Run it again without --random-weights"):
        regress(result, baseline)


@pytest.mark.parametrize("name", FORMATS)
def test_it_is_not_exported(name: str, dry_pair: list[Result], tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="dry runs are not exported.*Run again without --random-weights"):
        export_results(dry_pair[0], name, tmp_path / "out", ExportOptions(hub_datasets={"": "a/b"}))
    assert not list(tmp_path.iterdir())


def test_only_its_signature_names_the_weights(dry_pair: list[Result]) -> None:
    measured = made_result(made_dataset(random_ious(1)), sha256="10" * 32)
    assert "weights" not in measured.signature()
    assert dry_pair[0].signature() == measured.signature().replace("|up:", "|weights:random|up:")


def test_the_resolution_of_dry_runs_has_a_remark() -> None:
    found = resolution(seeds_of("jbu", [0, 1]))
    assert not any("dry run" in remark for remark in found.remarks)
    found = resolution(list(map(dry, seeds_of("jbu", [0, 1]))))
    assert any("dry run" in remark for remark in found.remarks)


def test_it_does_not_stand_beside_published_figures_unmarked(dry_pair: list[Result]) -> None:
    table = quoted_tables()[0]
    assert any("random weights" in text for text in differences(dry_pair[0], table))


def test_backbones_with_other_feature_norms_are_not_compared() -> None:
    first, second = (made_result(made_dataset(random_ious(seed)), sha256=f"{seed}0" * 32) for seed in (1, 2))
    named = [
        dataclasses.replace(run, backbone={**run.backbone, "feature_norm": norm})
        for run, norm in ((first, "final norm"), (second, "standardised"))
    ]
    with pytest.raises(IncomparableError, match=r"in different ways \(final norm and standardised\)"):
        compare(*named)
    assert compare(first, named[1]), "earlier results do not say"


@pytest.mark.parametrize(("field", "said"), [("mean", "mean"), ("std", "deviation")])
def test_backbones_with_other_normalisations_of_the_input_are_not_compared(field: str, said: str) -> None:
    first, second = (made_result(made_dataset(random_ious(seed)), sha256=f"{seed}0" * 32) for seed in (1, 2))
    imagenet, half = (
        dataclasses.replace(run, backbone={**run.backbone, field: values})
        for run, values in ((first, [0.485, 0.456, 0.406]), (second, (0.5, 0.5, 0.5)))
    )
    with pytest.raises(IncomparableError, match=rf"another {said} \(0\.485, 0\.456, 0\.406 and 0\.5, 0\.5, 0\.5\)"):
        compare(imagenet, half)
    assert compare(first, half), "earlier results do not say"
    assert Result.from_dict(half.to_dict()).backbone[field] == (0.5, 0.5, 0.5)
    with pytest.raises(ResultError, match=rf"backbone\.{field}.*expected a list of numbers"):
        Result.from_dict({**half.to_dict(), "backbone": {**half.backbone, field: ["x"]}})


def test_results_and_checkpoints_record_the_normalisation_of_the_input(folder: Path, result: Result) -> None:
    half = [0.5, 0.5, 0.5]
    assert [list(result.backbone[field]) for field in ("mean", "std")] == [half, half]
    manifest = json.loads((folder / "run.json").read_text())
    assert manifest["backbone_input"] == {"mean": half, "std": half}


def test_a_checkpoint_is_not_evaluated_with_another_normalisation(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vfm_isbench.runs.checkpoints.input_normalisation", lambda _: {"mean": [0.4], "std": [0.5]})
    with pytest.raises(WeightsError, match=r"whose input was normalised with .*0\.5.* has .*0\.4"):
        evaluate_checkpoint(folder, progress=False, device="cpu", random_weights=True)


def test_entries_keep_the_normalisation_of_the_input() -> None:
    entry = synthetic_entry("Some upsampler")
    runs = [
        dataclasses.replace(run, backbone={**run.backbone, "mean": [0.5] * 3, "std": [0.2] * 3, "commit": "1" * 40})
        for run in entry.runs
    ]
    report = Report("entry")
    content = dataclasses.replace(entry, runs=tuple(runs)).to_dict()
    assert check_content(unpack(to_bytes(content)), report) is not None, report.findings
    runs[1] = dataclasses.replace(runs[1], backbone={**runs[1].backbone, "mean": [0.4] * 3})
    content = dataclasses.replace(entry, runs=tuple(runs)).to_dict()
    assert check_content(unpack(to_bytes(content)), report) is None
    assert any("backbone.mean" in str(finding) for finding in report.findings)


def test_the_leaderboard_refuses_it() -> None:
    entry = synthetic_entry("Some upsampler")
    report = Report("entry")
    assert check_content(unpack(to_bytes(entry.to_dict())), report) is not None, report.findings
    entry = dataclasses.replace(entry, runs=tuple(map(dry, entry.runs)))
    assert check_content(unpack(to_bytes(entry.to_dict())), report) is None
    assert any("run again without --random-weights" in str(finding) for finding in report.findings)


def test_no_baseline_is_made_of_it(folder: Path) -> None:
    with pytest.raises(ResultError, match="dry run.*vfm-isbench baseline make"):
        load_baseline([folder])


def test_nothing_is_downloaded_for_it() -> None:
    assert benchmark().estimate("bilinear").downloads == ()
    assert benchmark(random=False).estimate("bilinear").downloads[0].what == "weights of timm:test_vit"


OPTIONS = [
    f"--set={key}={json.dumps(value)}"
    for key, value in NO_HUB.to_dict().items()
    if key not in ("name", "version", "seed", "test_datasets")
]


def test_the_command_line_says_so_before_and_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["bilinear", "--random-weights", "--device", "cpu", *OPTIONS]
    assert cli.main(["run", *words, "--datasets", "scenes"]) == 0
    printed = capsys.readouterr()
    assert "dry run     the backbone has random weights" in printed.err
    assert "random weights: a dry run" in printed.out
    (run,) = (tmp_path / "runs").iterdir()
    assert "timm-test_vit" in run.name
    assert "-random-seed0" in run.name
    assert cli.main(["eval", str(run), "--device", "cpu", "--quiet"]) == 2
    assert "--random-weights" in capsys.readouterr().err
    assert cli.main(["eval", str(run), "--random-weights", "--device", "cpu", "--quiet"]) == 0
    assert cli.main(["check", *words]) == 0
    assert "as asked for with --random-weights" in capsys.readouterr().err
