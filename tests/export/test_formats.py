"""Results in the formats of others: valid there, with our numbers, and safe with names of strangers."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub._eval_results import eval_result_entries_to_yaml, parse_eval_result_entries
from result_builder import made_dataset, made_result, random_ious, seeds_of, stopping_early

import vfm_isbench
from vfm_isbench import ExportOptions, Result, cli, export_results
from vfm_isbench.datasets.download.sources import SOURCES
from vfm_isbench.errors import ComparisonError, IncomparableError, ResultError, UnknownNameError
from vfm_isbench.export import FORMATS, scores_of
from vfm_isbench.export.latex import escape
from vfm_isbench.results import Side, estimate_mean

HERE = Path(__file__).parent
NASTY = "=1+1 {up}_50% \\end | \"a': <b>&`c` #x~^é"
HUB = ExportOptions(
    model="me/my-model",
    hub_datasets={"": "bench/clicks@abc123"},
    source_url="https://example.org/run",
    source_name="Me",
)


@pytest.fixture(scope="module")
def jbu() -> list[Result]:
    return seeds_of("jbu", [0, 1], shift=0.03)


@pytest.fixture(scope="module")
def bilinear() -> list[Result]:
    return seeds_of("bilinear", [0, 1])


@pytest.fixture(scope="module")
def nasty() -> Result:
    """A result whose names were chosen by someone with bad intentions; it goes through a file, as such results do."""
    dataset = made_dataset(random_ious(3), name="+da_vis%&")
    return Result.from_dict(json.loads(json.dumps(made_result(dataset, name=NASTY).to_dict())))


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


# Hugging Face


def test_eval_results_are_read_by_the_hub_s_own_functions(jbu: list[Result]) -> None:
    content = yaml.safe_load(export_results(jbu, "eval-results", options=HUB))
    entries = parse_eval_result_entries(content)
    assert eval_result_entries_to_yaml(entries) == content, "nothing that the hub would not know"
    assert [entry.task_id.rpartition("davis_")[2] for entry in entries] == [
        "noc80", "noc85", "noc90", "iou_at_1", "iou_at_5", "mean_iou",
    ]  # fmt: skip
    noc, iou = entries[2], entries[3]
    assert (noc.dataset_id, noc.dataset_revision) == ("bench/clicks", "abc123")
    assert (noc.source_url, noc.source_name, noc.date) == ("https://example.org/run", "Me", jbu[0].created)
    assert noc.value == pytest.approx(np.mean([each.datasets["davis"].noc(90) for each in jbu]), abs=1e-4)
    assert iou.value == pytest.approx(100 * np.mean([each.datasets["davis"].iou_at(1) for each in jbu]), abs=1e-3)
    assert noc.notes and "95 % interval" in noc.notes and "seed:0,1" in noc.notes


def test_an_unknown_id_of_a_data_set_is_asked_for_and_not_made_up(jbu: list[Result]) -> None:
    with pytest.raises(ResultError, match=r"--hub-dataset davis=OWNER/NAME"):
        export_results(jbu, "eval-results")
    named = ExportOptions(hub_datasets={"davis": "a/davis"}, metrics=["noc90"])
    (entry,) = parse_eval_result_entries(yaml.safe_load(export_results(jbu, "eval-results", options=named)))
    assert (entry.dataset_id, entry.dataset_revision, entry.source_url) == ("a/davis", None, None)


def test_a_model_card_has_valid_metadata_and_a_table(jbu: list[Result]) -> None:
    text = export_results(jbu, "model-card", options=HUB)
    card = ModelCard(text)
    card.validate = None  # type: ignore[assignment, method-assign]  # it would ask the hub
    results = card.data.eval_results
    assert results is not None and card.data.model_name == "my-model"
    (noc90,) = [each for each in results if each.metric_type == "noc90"]
    assert noc90.dataset_type == "bench/clicks" and noc90.source_url == "https://example.org/run"
    (score,) = scores_of(Side("jbu", tuple(jbu)), ["noc90"])
    assert noc90.metric_value == pytest.approx(score.value, abs=0.005)
    assert noc90.metric_args["low"] == pytest.approx(score.estimate.low, abs=0.005)
    assert rf"{score.value:.2f} \[{score.estimate.low:.2f}, {score.estimate.high:.2f}\]" in card.text
    assert "over objects and training seeds" in card.text


# Every Eval Ever


def schema(name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads((HERE / f"{name}.schema.json").read_text(encoding="utf-8")))


def test_every_eval_ever_writes_a_record_and_a_line_per_object(jbu: list[Result], tmp_path: Path) -> None:
    text = export_results(jbu, "every-eval-ever", tmp_path, HUB)
    (record_file,) = tmp_path.rglob("*.json")
    (lines_file,) = tmp_path.rglob("*.jsonl")
    assert record_file.read_text(encoding="utf-8") == text
    record = json.loads(text)
    schema("every_eval_ever").validate(record)
    reference = record["detailed_evaluation_results"]
    assert tmp_path / reference["file_path"] == lines_file
    assert record_file.parent == tmp_path / "data" / "vfm_isbench" / "me" / "my-model"
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", record_file.stem)
    content = lines_file.read_bytes()
    assert hashlib.sha256(content).hexdigest() == reference["checksum"]
    lines = [json.loads(line) for line in content.decode().splitlines()]
    assert len(lines) == reference["total_rows"] == 2 * 40, "two seeds, forty objects"
    for line in lines:
        schema("every_eval_ever_line").validate(line)
        assert (line["evaluation_id"], line["model_id"]) == (record["evaluation_id"], record["model_info"]["id"])
    assert {line["evaluation_result_id"] for line in lines} <= {
        result["evaluation_result_id"] for result in record["evaluation_results"]
    }
    export_results(jbu, "every-eval-ever", tmp_path, HUB)
    assert len(list(tmp_path.rglob("*.json*"))) == 2, "a second export replaces the first"


@pytest.mark.parametrize("name", [*SOURCES, "folder:mine"])
def test_every_eval_ever_says_where_any_data_set_comes_from(name: str) -> None:
    record = json.loads(export_results(made_result(made_dataset(random_ious(1), name=name)), "every-eval-ever"))
    schema("every_eval_ever").validate(record)
    if name == "hqseg44k":
        assert record["evaluation_results"][0]["source_data"]["url"] == [SOURCES["hqseg44k"].page]


def test_the_lines_hold_the_evidence(jbu: list[Result], tmp_path: Path) -> None:
    export_results(jbu[0], "every-eval-ever", tmp_path, HUB)
    (lines_file,) = tmp_path.rglob("*.jsonl")
    found = jbu[0].datasets["davis"]
    for line, evidence, clicks in zip(
        map(json.loads, lines_file.read_text().splitlines()), found.objects, found.clicks_to(90), strict=True  # type: ignore[arg-type]
    ):  # fmt: skip
        masks = [message["content"] for message in line["messages"] if message["role"] == "assistant"]
        assert tuple(float(mask.rpartition(" ")[2]) for mask in masks) == evidence.ious
        assert line["evaluation"]["score"] == clicks
        assert line["evaluation"]["is_correct"] == (max(evidence.ious) >= 0.9)


def test_scores_of_every_eval_ever_lie_in_their_bounds_and_intervals(jbu: list[Result]) -> None:
    record = json.loads(export_results(jbu, "every-eval-ever"))
    schema("every_eval_ever").validate(record)
    assert "detailed_evaluation_results" not in record, "no lines were written"
    assert record["model_info"]["id"] == "unknown/jbu-on-dinov2_vits14"
    for result in record["evaluation_results"]:
        config, details = result["metric_config"], result["score_details"]
        interval = details["uncertainty"]["confidence_interval"]
        assert config["min_score"] <= interval["lower"] <= details["score"] <= interval["upper"] <= config["max_score"]
        assert config["lower_is_better"] == config["metric_id"].startswith("vfm_isbench.noc")
        assert result["source_data"]["source_type"] == "url", "davis has a published address"


def test_a_data_set_without_an_address_has_none_made_up() -> None:
    record = json.loads(export_results(made_result(made_dataset(random_ious(1), name="scenes")), "every-eval-ever"))
    schema("every_eval_ever").validate(record)
    assert record["evaluation_results"][0]["source_data"]["source_type"] == "other"


def test_the_schemas_refuse_what_they_should(jbu: list[Result]) -> None:
    record: dict[str, Any] = json.loads(export_results(jbu, "every-eval-ever"))
    for change in ({"evaluation_results": []}, {"schema_version": "0.1"}, {"extra": 1}):
        with pytest.raises(jsonschema.ValidationError):
            schema("every_eval_ever").validate({**record, **change})


# Tables


def test_csv_is_tidy_with_the_intervals_of_this_library(jbu: list[Result], bilinear: list[Result]) -> None:
    found = rows(export_results([*jbu, *bilinear], "csv"))
    keys = [(row["upsampler"], row["dataset"], row["metric"]) for row in found]
    assert len(set(keys)) == len(keys) and {key[0] for key in keys} == {"jbu", "bilinear"}
    (row,) = [row for row in found if (row["upsampler"], row["metric"]) == ("jbu", "noc90")]
    datasets = [each.datasets["davis"] for each in jbu]
    scores = np.stack([each.clicks_to(90) for each in datasets])  # type: ignore[arg-type]
    expected = estimate_mean(scores, [each.image for each in datasets[0].object_ids], limits=(1, 6))
    written = tuple(float(row[name]) for name in ("value", "low", "high", "objects_error"))
    assert written == (expected.value, expected.low, expected.high, expected.objects_error)
    assert (row["seeds"], row["objects"], row["unit"], row["lower_is_better"]) == ("0 1", "40", "clicks", "true")
    assert "seed:0,1" in row["signature"]
    (seconds,) = [row for row in found if (row["upsampler"], row["metric"]) == ("jbu", "seconds_per_click")]
    assert (seconds["value"], seconds["low"], seconds["unit"]) == ("0.1", "", "s")


def test_csv_has_every_score_of_the_result(jbu: list[Result]) -> None:
    names = {row["metric"] for row in rows(export_results(jbu[0], "csv"))}
    known = {name for name in jbu[0].datasets["davis"].scores() if name != "objects" and not name.endswith("_std")}
    assert known <= names


def with_boundary(run: Result) -> Result:
    """The same run, with boundary IoU measured."""
    found = run.datasets["davis"]
    objects = tuple(
        dataclasses.replace(each, boundary_ious=tuple(iou / 2 for iou in each.ious)) for each in found.objects
    )
    return dataclasses.replace(run, datasets={"davis": dataclasses.replace(found, objects=objects)})


def test_csv_has_the_scores_that_all_seeds_have(jbu: list[Result]) -> None:
    both = [row["metric"] for row in rows(export_results(list(map(with_boundary, jbu)), "csv"))]
    for some in ([with_boundary(jbu[0]), jbu[1]], [jbu[0], with_boundary(jbu[1])]):
        names = [row["metric"] for row in rows(export_results(some, "csv"))]
        assert names == [name for name in both if "boundary" not in name]
        with pytest.raises(ComparisonError, match="jbu has boundary_iou_at_1 for seed . only, of seeds 0, 1"):
            export_results(some, "csv", options=ExportOptions(metrics=["boundary_iou_at_1"]))


def test_every_row_of_csv_has_a_unit(jbu: list[Result]) -> None:
    units = {
        row["metric"]: (row["unit"], row["lower_is_better"])
        for row in rows(export_results(list(map(with_boundary, jbu)), "csv"))
    }
    assert all(unit and is_lower for unit, is_lower in units.values()), units
    assert units["nof90"] == units["not_reached90"] == ("objects", "true")
    assert units["boundary_iou_at_1"] == units["mean_boundary_iou"] == units["iou_auc"] == ("fraction", "false")


def test_the_area_under_the_curve_is_no_mean(jbu: list[Result]) -> None:
    auc, mean = scores_of(Side("jbu", tuple(jbu)), ["iou_auc", "mean_iou"])
    assert auc.description.startswith("normalised area under the curve") and "over clicks 1 to 6," in auc.description
    assert mean.description.startswith("mean intersection over union")


def test_what_early_stopping_left_unknown_is_empty(jbu: list[Result]) -> None:
    stopped = stopping_early(jbu[0])
    by_metric = {row["metric"]: row for row in rows(export_results(stopped, "csv"))}
    assert by_metric["mean_iou"]["value"] == by_metric["mean_iou"]["low"] == ""
    assert float(by_metric["noc90"]["value"]) > 1
    assert "--" in export_results(stopped, "latex", options=ExportOptions(metrics=["mean_iou"]))
    assert "mean_iou" not in export_results(stopped, "eval-results", options=HUB)


def test_latex_has_a_row_per_upsampler_and_half_widths(jbu: list[Result], bilinear: list[Result]) -> None:
    text = export_results([*jbu, *bilinear], "latex")
    (score,) = scores_of(Side("jbu", tuple(jbu)), ["noc90"])
    half = (score.estimate.high - score.estimate.low) / 2
    assert rf"${score.value:.2f} \pm {half:.2f}$" in text
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")].splitlines()[1:]
    assert [row.partition(" ")[0] for row in body] == ["jbu", "bilinear"]
    assert all(row.count("&") == 3 and row.endswith(r"\\") for row in body)
    assert r"\toprule" in text and r"\cmidrule(lr){2-4}" in text
    assert "% jbu: davis:40|" in text, "the signature stands in a comment"


def test_one_image_gives_no_interval_and_no_plus_minus() -> None:
    alone = made_result(made_dataset(random_ious(1), per_image=40))
    assert r"\pm" not in export_results(alone, "latex").partition(r"\midrule")[2]
    assert "[" not in export_results(alone, "model-card", options=HUB).partition("| davis")[2].splitlines()[0]
    for result in json.loads(export_results(alone, "every-eval-ever"))["evaluation_results"]:
        assert "confidence_interval" not in result["score_details"]["uncertainty"]


# Names of strangers


def test_names_cannot_break_a_table(nasty: Result) -> None:
    latex = export_results(nasty, "latex")
    escaped = escape(" ".join(nasty.upsampler["name"].split()))
    assert f"{escaped} & " in latex
    plain = re.sub(r"\\[{}$&#%_]|\\[a-z]+\{\}", "", escaped)
    assert not set(plain) & set(r"\{}$&#%_^~<>|`")
    (row, *_) = rows(export_results(nasty, "csv"))
    assert row["upsampler"].startswith("'=1+1") and row["dataset"] == "'+da_vis%&", "no formula for spreadsheets"
    card = ModelCard(export_results(nasty, "model-card"))
    assert card.data.model_name == NASTY
    assert "<b>" not in card.text.replace(r"\<b\>", "")
    (line,) = [line for line in card.text.splitlines() if "vis" in line and line.startswith("|")]
    assert len(re.findall(r"(?<!\\)\|", line)) == 9, "a name adds no column"


def test_names_cannot_break_yaml_or_leave_the_folder(nasty: Result, tmp_path: Path) -> None:
    entries = parse_eval_result_entries(yaml.safe_load(export_results(nasty, "eval-results", options=HUB)))
    assert NASTY in str(entries[0].notes)
    assert re.fullmatch(r"[a-z0-9_]+", entries[0].task_id)
    export_results(nasty, "every-eval-ever", tmp_path / "out")
    (record,) = tmp_path.rglob("*.json")
    assert len(record.relative_to(tmp_path).parts) == 6
    assert re.fullmatch(r"[A-Za-z0-9._-]+", record.parent.name)
    for name in ("../../x", "..", ""):
        with pytest.raises(ResultError, match="OWNER/NAME"):
            ExportOptions(model=name)


# What cannot be exported


def test_what_does_not_belong_together_is_refused(jbu: list[Result], bilinear: list[Result]) -> None:
    for name in set(FORMATS) - {"csv", "latex"}:
        with pytest.raises(ComparisonError, match="describes one upsampler, but the results are of 2: jbu, bilinear"):
            export_results([*jbu, *bilinear], name, options=HUB)
    other = seeds_of("bilinear", [0], protocol=jbu[0].protocol.replace(click_encoder="distances"))
    with pytest.raises(IncomparableError, match="click_encoder"):
        export_results([*jbu, *other], "latex")
    assert {row["upsampler"] for row in rows(export_results([*jbu, *other], "csv"))} == {"jbu", "bilinear"}
    third = two_sets("third", "33" * 32)
    with pytest.raises(IncomparableError, match="second and third are incomparable.*grabcut: the same ids"):
        export_results([jbu[0], two_sets("second", "22" * 32), third], "latex")
    assert "third" in export_results([jbu[0], third], "latex")
    fewer = made_result(made_dataset(random_ious(9), name="grabcut"), name="jbu", sha256=jbu[0].upsampler["sha256"])
    with pytest.raises(ComparisonError, match="different data sets"):
        export_results([jbu[1], fewer], "csv")


def two_sets(name: str, content: str) -> Result:
    """A result on davis, and on a second data set with this content."""
    datasets = made_dataset(random_ious(7)), made_dataset(random_ious(7), name="grabcut", content=content)
    return made_result(*datasets, name=name, sha256=content)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"confidence": 1.0}, "between 0 and 1"),
        ({"source_name": "Me"}, "--source-url"),
        ({"source_url": "javascript:alert(1)"}, "not an address"),
        ({"hub_datasets": {"": "nowhere"}}, "OWNER/NAME@REVISION"),
    ],
)
def test_options_that_cannot_be_used(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ResultError, match=message):
        ExportOptions(**options)


def test_unknown_names_are_listed(jbu: list[Result]) -> None:
    with pytest.raises(UnknownNameError, match="latex"):
        export_results(jbu, "latx")
    for name in ("csv", "latex"):
        with pytest.raises(ComparisonError, match="unknown metric 'noc'"):
            export_results(jbu, name, options=ExportOptions(metrics=["noc"]))
    with pytest.raises(ComparisonError, match="no result to export"):
        export_results([], "csv")


# The command


def test_on_the_command_line(jbu: list[Result], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(result.save(tmp_path / f"seed{number}.json")) for number, result in enumerate(jbu)]
    assert cli.main(["export", *files, "--format", "latex", "--metric", "noc90"]) == 0
    printed = capsys.readouterr()
    assert printed.out == export_results(jbu, "latex", options=ExportOptions(metrics=["noc90"]))
    written = tmp_path / "new" / "scores.csv"
    assert cli.main(["export", *files, "--format", "csv", "--output", str(written)]) == 0
    assert written.read_text(encoding="utf-8") == export_results(jbu, "csv")
    assert capsys.readouterr().out == ""
    assert cli.main(["export", *files, "--format", "eval-results"]) == 2
    assert "--hub-dataset davis=OWNER/NAME" in capsys.readouterr().err
    hub = ["--hub-dataset", "davis=a/davis", "--hub-dataset", "b/all"]
    assert cli.main(["export", *files, "--format", "eval-results", *hub]) == 0
    assert "id: a/davis" in capsys.readouterr().out
    assert cli.main(["export", *files, "--format", "eval-results", "--hub-dataset", "a/b", "--hub-dataset", "c/d"]) == 2


def test_the_help_tells_both_exports_apart(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("export", "export-reference"):
        with pytest.raises(SystemExit):
            cli.main([command, "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "see export-reference" in shown
    assert all(f"{name} " in shown for name in FORMATS)


def test_it_is_public() -> None:
    assert vfm_isbench.export_results is export_results
