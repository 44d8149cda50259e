"""Results: scores follow from the evidence, files load unchanged, and tampered ones are refused."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfm_isbench.errors import ResultError
from vfm_isbench.protocol import Protocol
from vfm_isbench.results import DatasetResult, Result
from vfm_isbench.results.evidence_json import evidence_from_dict, evidence_to_dict
from vfm_isbench.types import Click, ObjectEvidence, ObjectId, ObjectSize

CLICKS = 5
PROTOCOL = Protocol.preset("paper").replace(max_clicks=CLICKS, test_datasets=("davis", "sbd"))


def evidence(image: str, instance: int | None, *ious: float) -> ObjectEvidence:
    clicks = tuple(Click(3 * number, number, number % 2 == 0) for number in range(len(ious)))
    return ObjectEvidence(ObjectId(image, instance), clicks, ious)


DAVIS = (evidence("bear", None, 0.5, 0.7, 0.82, 0.9, 0.96), evidence("swan", None, 0.2, 0.3, 0.4, 0.5, 0.91))
SBD = (evidence("2008", 1, 0.85, 0.85, 0.85, 0.85, 0.85), evidence("2008", 2, 0.1, 0.2, 0.8, 0.8, 0.8))


@pytest.fixture
def result() -> Result:
    return Result(
        protocol=PROTOCOL,
        upsampler={"name": "bilinear", "kind": "function", "sha256": "ab"},
        backbone={"name": "dinov2_vits14", "width": 384, "patch_size": 14, "sha256": "cd"},
        datasets={"davis": DatasetResult("davis", DAVIS, 0.25, "ef"), "sbd": DatasetResult("sbd", SBD)},
        training=({"epoch": 0, "loss": 0.5, "iou": 0.3, "validation_iou": None, "seconds": 1.5},),
        environment={"vfm_isbench": "0.1.0", "torch": "2.4", "cuda": None},
        timings={"training": 12.5},
        peak_memory={"training": 2**31, "evaluation": 2**30},
        trained_parameters={"click_encoder": 1000, "head": 2_655_361},
        created="2025-01-01T00:00:00+00:00",
        notes=("ümlauts are kept",),
    )


def test_scores_follow_from_the_evidence() -> None:
    scores = DatasetResult("davis", DAVIS).scores()
    assert scores["objects"] == 2
    assert (scores["noc80"], scores["noc80_std"]) == (4.0, 1.0)
    assert (scores["noc85"], scores["noc90"], scores["noc95"]) == (4.5, 4.5, 5.0)
    assert (scores["not_reached80"], scores["not_reached90"], scores["not_reached95"]) == (1, 1, 2)
    assert scores["iou_at_1"] == pytest.approx(0.35)
    assert scores["iou_at_5"] == pytest.approx(0.935)
    assert scores["mean_iou"] == pytest.approx(np.mean([found.ious for found in DAVIS]))
    assert "iou_at_10" not in scores


def test_single_scores() -> None:
    found = DatasetResult("sbd", SBD)
    assert found.max_clicks == CLICKS
    assert found.noc(85) == 3.0
    assert found.iou_at(3) == pytest.approx(0.825)
    assert math.isnan(found.iou_at(6))


def test_a_file_gives_back_what_was_saved(result: Result, tmp_path: Path) -> None:
    path = result.save(tmp_path / "new" / "result.json")
    loaded = Result.load(path)
    assert loaded.to_dict() == result.to_dict()
    assert loaded.protocol == PROTOCOL
    assert loaded.datasets["sbd"].objects == SBD
    assert loaded.notes == result.notes
    assert str(loaded) == str(result)
    assert [file.name for file in path.parent.iterdir()] == ["result.json"]
    assert Result.load(loaded.save(tmp_path / "again.json")).to_dict() == result.to_dict()


def test_files_of_earlier_versions_say_nothing_of_memory(result: Result, tmp_path: Path) -> None:
    content = {key: value for key, value in result.to_dict().items() if key != "peak_memory"}
    (tmp_path / "old.json").write_text(json.dumps(content), encoding="utf-8")
    loaded = Result.load(tmp_path / "old.json")
    assert loaded.to_dict() == content
    assert "peak memory: training 2.00 GiB, evaluation 1.00 GiB" in str(result)
    assert "peak memory" not in str(loaded)
    with pytest.raises(ResultError, match=r"'peak_memory.training' has the wrong type: expected a number"):
        Result.from_dict({**content, "peak_memory": {"training": "much"}})


def test_files_of_earlier_versions_do_not_count_trained_parameters(result: Result) -> None:
    content = {key: value for key, value in result.to_dict().items() if key != "trained_parameters"}
    assert Result.from_dict(content).to_dict() == content
    columns = ["click_encoder_parameters", "head_parameters"]
    assert {"0.001", "2.655"} <= set(result.table(columns).split())
    assert "2.655" not in Result.from_dict(content).table(columns)
    with pytest.raises(ResultError, match=r"'trained_parameters.head' has the wrong type: expected a number"):
        Result.from_dict({**content, "trained_parameters": {"head": "many"}})


def test_the_file_is_plain_json_with_evidence_and_derived_scores(result: Result, tmp_path: Path) -> None:
    content = json.loads(result.save(tmp_path / "result.json").read_text(encoding="utf-8"))
    assert content["schema_version"] == 1
    assert content["fingerprint"] == PROTOCOL.fingerprint()
    assert content["signature"] == result.signature()
    bear = content["datasets"]["davis"]["objects"][0]
    assert bear == {
        "image": "bear", "instance": None, "iou": [0.5, 0.7, 0.82, 0.9, 0.96],
        "clicks": [[0, 0, 1], [3, 1, 0], [6, 2, 1], [9, 3, 0], [12, 4, 1]],
    }  # fmt: skip
    assert content["datasets"]["davis"]["scores"]["noc80"] == 4.0


def test_a_broken_write_leaves_the_old_file(result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = result.save(tmp_path / "result.json")
    before = path.read_bytes()

    def half(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[:4])
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(ResultError, match="no space"):
        result.save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(min_size=1), st.none() | st.integers(1, 9),
            st.lists(st.floats(0, 1), min_size=CLICKS, max_size=CLICKS),
        ),
        min_size=1, max_size=4, unique_by=lambda one: one[:2],
    )
)  # fmt: skip
def test_any_evidence_survives(rows: list[tuple[str, int | None, list[float]]]) -> None:
    objects = tuple(evidence(image, instance, *ious) for image, instance, ious in rows)
    for one in objects:
        assert evidence_from_dict(json.loads(json.dumps(evidence_to_dict(one)))) == one
    result = Result(PROTOCOL, {"name": "x"}, {"name": "y"}, {"davis": DatasetResult("davis", objects)})
    loaded = Result.from_dict(json.loads(json.dumps(result.to_dict())))
    assert loaded.datasets["davis"].objects == objects
    assert loaded.datasets["davis"].scores() == result.datasets["davis"].scores()


Change = Callable[[dict[str, Any]], None]


def davis(content: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = content["datasets"]["davis"]
    return found


def set_score(content: dict[str, Any]) -> None:
    davis(content)["scores"]["noc90"] = 1.0


def set_iou(content: dict[str, Any]) -> None:
    davis(content)["objects"][0]["iou"][4] = 0.97


def set_iou_beyond(content: dict[str, Any]) -> None:
    davis(content)["objects"][0]["iou"][0] = 1.5


def set_iou_to_text(content: dict[str, Any]) -> None:
    davis(content)["objects"][0]["iou"][0] = "high"


def drop_click(content: dict[str, Any]) -> None:
    davis(content)["objects"][0]["clicks"].pop()


def shorten_click(content: dict[str, Any]) -> None:
    davis(content)["objects"][0]["clicks"][0].pop()


def repeat_object(content: dict[str, Any]) -> None:
    davis(content)["objects"][1] = copy.deepcopy(davis(content)["objects"][0])


def drop_object(content: dict[str, Any]) -> None:
    davis(content)["objects"].pop()


def drop_all_objects(content: dict[str, Any]) -> None:
    davis(content)["objects"].clear()


def shorten_object(content: dict[str, Any]) -> None:
    for part in ("iou", "clicks"):
        davis(content)["objects"][0][part].pop()


def shorten_all(content: dict[str, Any]) -> None:
    """Fewer clicks than in the protocol, with matching scores."""
    objects = tuple(ObjectEvidence(one.object_id, one.clicks[:4], one.ious[:4]) for one in DAVIS)
    for one in davis(content)["objects"]:
        for part in ("iou", "clicks"):
            one[part].pop()
    davis(content)["scores"] = DatasetResult("davis", objects).scores()


def set_fingerprint(content: dict[str, Any]) -> None:
    content["fingerprint"] = Protocol.preset("paper").fingerprint()


def set_protocol(content: dict[str, Any]) -> None:
    content["protocol"]["epochs"] = 1


def set_protocol_to_nonsense(content: dict[str, Any]) -> None:
    content["protocol"]["epochs"] = "many"


def drop_protocol_field(content: dict[str, Any]) -> None:
    del content["protocol"]["epochs"]


def drop_score(content: dict[str, Any]) -> None:
    del davis(content)["scores"]["mean_iou"]


def drop_backbone(content: dict[str, Any]) -> None:
    del content["backbone"]


def set_schema(content: dict[str, Any]) -> None:
    content["schema_version"] = 2


def set_datasets_to_list(content: dict[str, Any]) -> None:
    content["datasets"] = []


@pytest.mark.parametrize(("change", "reason"), [
    (set_score, "'davis'.*noc90 is written as 1.0, but its evidence gives 4.5"),
    (set_iou, "'davis'.* is written as .* but its evidence gives"),
    (set_iou_beyond, r"bear: an IoU lies outside \[0, 1\]"),
    (set_iou_to_text, "wrong type.*high"),
    (drop_click, "bear: 4 clicks but 5 IoUs"),
    (shorten_click, "wrong type"),
    (repeat_object, "'davis': an object occurs twice"),
    (drop_object, "'davis'.* is written as .* but its evidence gives"),
    (drop_all_objects, "'davis' needs at least one object"),
    (shorten_object, "'davis'.* as many clicks for each"),
    (shorten_all, "'davis'.* 4 clicks.* protocol.* 5"),
    (set_fingerprint, "fingerprint does not match the protocol"),
    (set_protocol, "fingerprint does not match the protocol .* Run it again; for another protocol, use --set"),
    (set_protocol_to_nonsense, "epochs is 'many'"),
    (drop_protocol_field, "lacks the fields epochs"),
    (drop_score, "mean_iou is written as None"),
    (drop_backbone, "the field 'backbone' is missing"),
    (set_schema, "schema version 1: found 2"),
    (set_datasets_to_list, "wrong type"),
])  # fmt: skip
def test_a_tampered_file_is_refused_with_the_reason(
    result: Result, tmp_path: Path, change: Change, reason: str
) -> None:
    content = json.loads(json.dumps(result.to_dict()))
    change(content)
    path = tmp_path / "result.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ResultError, match=f"result.json: .*{reason}"):
        Result.load(path)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        *((name, value) for name in ("protocol", "upsampler", "backbone", "environment") for value in ([], None, "x")),
        *(("timings", value) for value in ([], None, {"training": "long"}, {"training": None})),
        ("speed", None),
        ("created", 3),
        ("notes", "a note"),
        ("notes", [3]),
        ("training", {"epoch": 0}),
        ("training", [3]),
        ("datasets", None),
        ("datasets.davis", []),
        ("upsampler.sha256", 5),
        ("upsampler.source", "hub"),
        ("backbone.sha256", ["cd"]),
        ("datasets.davis.content_sha256", 5),
        ("datasets.davis.seconds_per_click", "fast"),
        ("datasets.davis.scores", [1]),
        ("datasets.davis.objects", {}),
    ],
)
def test_a_field_of_another_type_is_named(result: Result, place: str, value: object) -> None:
    content = json.loads(json.dumps(result.to_dict()))
    *parents, last = place.split(".")
    parent = content
    for key in parents:
        parent = parent[key]
    parent[last] = value
    with pytest.raises(ResultError, match=f"the field '{place.replace('.', '[.]')}.*' has the wrong type"):
        Result.from_dict(content)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("clicks", [["0", 0, 1]] * CLICKS, "'clicks'"),
        ("clicks", [[0, None, 1]] * CLICKS, "'clicks'"),
        ("clicks", [[True, 0, 1]] * CLICKS, "'clicks'"),
        ("clicks", [[0, math.inf, 1]] * CLICKS, "'clicks'"),
        ("clicks", [[0, 0, "0"]] * CLICKS, "'clicks'"),
        ("iou", ["0.5"] * CLICKS, "'iou'"),
        ("iou", [True] * CLICKS, "'iou'"),
        ("image", ["bear"], "'image'"),
        ("instance", "1", "'instance'"),
        ("instance", [1], "'instance'"),
    ],
)
def test_evidence_of_another_type_is_named(key: str, value: object, said: str) -> None:
    content = evidence_to_dict(DAVIS[0])
    assert evidence_from_dict(content) == DAVIS[0]
    with pytest.raises(ResultError, match=said):
        evidence_from_dict({**content, key: value})


def test_json_that_is_nested_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text("[" * 200_000 + "]" * 200_000)
    with pytest.raises(ResultError, match="result.json is not a result: it is nested deeper than 32 levels"):
        Result.load(path)


def test_files_that_are_no_results_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    with pytest.raises(ResultError, match="result.json could not be read"):
        Result.load(path)
    path.write_text("{")
    with pytest.raises(ResultError, match="result.json is not a result: it is not JSON"):
        Result.load(path)
    for content in ("[]", "{}", "3"):
        path.write_text(content)
        with pytest.raises(ResultError, match="schema version 1: found"):
            Result.load(path)


def test_the_frame_has_a_row_per_data_set(result: Result) -> None:
    frame = result.to_frame()
    assert list(frame["dataset"]) == ["davis", "sbd"]
    for name, row in zip(("davis", "sbd"), frame.to_dict("records"), strict=True):
        for key, value in result.datasets[name].scores().items():
            assert row[key] == value
    assert frame["seconds_per_click"][0] == 0.25
    assert math.isnan(frame["seconds_per_click"][1])


def test_the_signature_names_data_sets_protocol_version_and_hashes(result: Result) -> None:
    assert result.signature() == (
        f"davis:2,sbd:2|{PROTOCOL.signature()}|up:ab|v:0.1.0|hash:{PROTOCOL.fingerprint()[:12]}|data:ef,unknown"
    )


STOPPED = (evidence("bear", None, 0.5, 0.7, 0.82, 0.91), evidence("swan", None, 0.2, 0.3, 0.4, 0.5, 0.89))


def stopped() -> DatasetResult:
    return DatasetResult("davis", STOPPED, stop_at_iou=(80, 90), click_cap=CLICKS)


def test_scores_of_clicks_that_were_not_placed_are_missing() -> None:
    whole = (evidence("bear", None, 0.5, 0.7, 0.82, 0.91, 0.97), STOPPED[1])
    scores, expected = stopped().scores(), DatasetResult("davis", whole).scores()
    known = {"objects", "noc80", "noc85", "noc90", "iou_at_1", "iou_at_2", "iou_at_3"}
    for name, value in scores.items():
        if re.sub("not_reached|nof", "noc", name.removesuffix("_std")) in known:
            assert value == expected[name], name
        else:
            assert math.isnan(value), name


def test_missing_scores_are_null_in_the_file_and_dashes_in_the_table(result: Result, tmp_path: Path) -> None:
    result = dataclasses.replace(result, datasets={"davis": stopped()}, speed={"early_stop": [80, 90]})
    path = result.save(tmp_path / "result.json")
    written = json.loads(path.read_text())["datasets"]["davis"]
    assert written["scores"]["mean_iou"] is None and written["early_stop"] == [80, 90]
    loaded = Result.load(path)
    assert loaded.datasets["davis"] == stopped() and loaded.speed == {"early_stop": [80, 90]}
    row = str(result).splitlines()[4].split()
    assert row == ["davis", "2", "4.00", "4.50", "4.50", "35.00", "–", "1", "–"]


@pytest.mark.parametrize(
    ("ious", "problem"),
    [((0.5, 0.95, 0.96), "3 clicks"), ((0.5, 0.7), "2 clicks"), ((0.1,) * (CLICKS + 1), "6 clicks")],
)
def test_evidence_that_does_not_end_where_it_should_is_refused(
    result: Result, ious: tuple[float, ...], problem: str
) -> None:
    broken = DatasetResult(
        "davis", (evidence("bear", None, *ious),), stop_at_iou=(90,), click_cap=max(CLICKS, len(ious))
    )
    content = dataclasses.replace(result, datasets={"davis": broken}).to_dict()
    content["datasets"]["davis"]["max_clicks"] = CLICKS
    with pytest.raises(ResultError, match=problem):
        Result.from_dict(content)


def test_a_run_folder_is_read_by_its_result(result: Result, tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="has no result.json; give a result file"):
        Result.load(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(ResultError, match="this run is not finished"):
        Result.load(tmp_path)
    result.save(tmp_path / "result-stop90.json")
    with pytest.raises(ResultError, match=r"name it: .*result-stop90\.json"):
        Result.load(tmp_path)
    result.save(tmp_path / "result.json")
    assert Result.load(tmp_path) == Result.load(str(tmp_path)) == result
    with pytest.raises(ResultError, match=r"run\.json: not a result .*; the result of this run is in .*result\.json"):
        Result.load(tmp_path / "run.json")


def test_the_path_of_a_missing_file_is_named_once(tmp_path: Path) -> None:
    path = tmp_path / "absent.json"
    with pytest.raises(ResultError) as caught:
        Result.load(path)
    assert str(caught.value) == f"{path} could not be read: No such file or directory"


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        ("datasets.davis.scores.noc80", 10**400, "a number of 401 characters"),
        ("datasets.davis.seconds_per_click", True, "expected a number or null, found bool"),
        ("datasets.davis.objects.0.iou.0", 10**39, "outside"),
        ("datasets.davis.objects.0.clicks.0.0", -1, "'clicks' must list"),
        ("datasets.davis.objects.0.instance", -1, "do not name an object"),
        ("datasets.davis.early_stop", 3, "'datasets.davis.early_stop' has the wrong type"),
        ("upsampler", {"sha256": "ab"}, "'upsampler.name' is missing"),
        ("backbone", {"sha256": "ab"}, "'backbone.name' is missing"),
        ("created", "\ud800", "half a character"),
        ("protocol.image_size", 10**6, "image_size is 1000000; expected a whole number from 16 to 4096"),
        ("protocol.name", "a\x1b[2J", "name is .* expected a name"),
        ("notes", ["x" * 30_000], "30000 characters"),
        ("training", [{}] * 100_001, "100001 items"),
    ],
)
def test_hostile_values_are_refused_with_the_reason(
    result: Result, tmp_path: Path, place: str, value: object, reason: str
) -> None:
    content = json.loads(json.dumps(result.to_dict()))
    *parents, last = [int(part) if part.isdigit() else part for part in place.split(".")]
    parent: Any = content
    for key in parents:
        parent = parent[key]
    parent[last] = value
    (tmp_path / "result.json").write_text(json.dumps(content))
    with pytest.raises(ResultError, match=rf"result\.json.*{reason}"):
        Result.load(tmp_path / "result.json")


def test_too_many_objects_are_refused(result: Result) -> None:
    content = json.loads(json.dumps(result.to_dict()))
    davis = content["datasets"]["davis"]
    davis["objects"] = [davis["objects"][0]] * 300_000
    with pytest.raises(ResultError, match="'datasets.davis.objects' has 300000 items; at most 100000 are allowed"):
        Result.from_dict(content)


def test_texts_of_strangers_cannot_command_a_terminal(result: Result) -> None:
    content = json.loads(json.dumps(result.to_dict()))
    content["upsampler"]["name"] = "mine\x1b[2J"
    content["notes"] = ["a\x07b\nc"]
    loaded = Result.from_dict(content)
    for shown in (str(loaded), repr(loaded), loaded._repr_html_()):
        assert "\x1b" not in shown and "\x07" not in shown
    assert "mine\\x1b[2J" in str(loaded) and "a\\x07b\nc" in str(loaded)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "result.json")
    with pytest.raises(ResultError, match="is not a regular file"):
        Result.load(tmp_path / "result.json")


WITH_BOUNDARIES = tuple(
    dataclasses.replace(found, boundary_ious=tuple(iou / 2 for iou in found.ious), size=ObjectSize(pixels, 100, 100))
    for found, pixels in zip(DAVIS, (50, 2000), strict=True)
)


def test_boundary_ious_and_sizes_are_kept(result: Result, tmp_path: Path) -> None:
    result = dataclasses.replace(result, datasets={"davis": DatasetResult("davis", WITH_BOUNDARIES)})
    loaded = Result.load(result.save(tmp_path / "result.json"))
    assert loaded.datasets["davis"].objects == WITH_BOUNDARIES
    scores = loaded.datasets["davis"].scores()
    assert scores["boundary_iou_at_1"] == pytest.approx(scores["iou_at_1"] / 2)
    assert scores["mean_boundary_iou"] == pytest.approx(scores["mean_iou"] / 2)
    shares = loaded.datasets["davis"].size_shares
    assert shares is not None and shares.tolist() == [0.005, 0.2]


def test_boundary_iou_of_some_objects_is_no_score() -> None:
    found = DatasetResult("davis", (WITH_BOUNDARIES[0], DAVIS[1]))
    assert found.boundary_ious is None and found.size_shares is None
    assert not any("boundary" in name for name in found.scores())


def test_failures_and_the_area_follow_from_the_evidence() -> None:
    scores = DatasetResult("davis", DAVIS).scores()
    assert (scores["nof80"], scores["nof90"], scores["nof95"]) == (0, 0, 1)
    assert scores["not_reached90"] == 1, "counts the object that gets there at the last click"
    trapezoids = [(0.25 + 0.7 + 0.82 + 0.9 + 0.48) / 4, (0.1 + 0.3 + 0.4 + 0.5 + 0.455) / 4]
    assert scores["iou_auc"] == pytest.approx(sum(trapezoids) / 2)
    after = DatasetResult("davis", DAVIS).failures_after(90)
    assert after is not None and after.tolist() == [2, 2, 2, 1, 0]
    assert stopped().failures_after(95) is None


def test_files_of_earlier_versions_lack_the_new_scores(result: Result) -> None:
    content = json.loads(json.dumps(result.to_dict()))
    old = {"objects", "mean_iou"} | {f"iou_at_{k}" for k in (1, 2, 3, 5)}
    old |= {f"{name}{percent}{end}" for percent in (80, 85, 90, 95) for name, end in NAMES_OF_0_4}
    scores = content["datasets"]["davis"]["scores"]
    content["datasets"]["davis"]["scores"] = {name: scores[name] for name in old}
    assert Result.from_dict(content).datasets == result.datasets
    for name in old:
        changed = copy.deepcopy(content)
        del changed["datasets"]["davis"]["scores"][name]
        with pytest.raises(ResultError, match=f"{name} is written as None"):
            Result.from_dict(changed)


NAMES_OF_0_4 = (("noc", ""), ("noc", "_std"), ("not_reached", ""))


@pytest.mark.parametrize("name", ["nof80", "iou_auc", "boundary_iou_at_1", "mean_boundary_iou"])
def test_a_new_score_that_is_written_is_checked(name: str, result: Result) -> None:
    result = dataclasses.replace(result, datasets={"davis": DatasetResult("davis", WITH_BOUNDARIES)})
    content = json.loads(json.dumps(result.to_dict()))
    content["datasets"]["davis"]["scores"][name] += 0.5
    with pytest.raises(ResultError, match=f"{name} is written as"):
        Result.from_dict(content)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("boundary_iou", [0.5], "5 IoUs but 1 boundary IoUs"),
        ("boundary_iou", [0.5, 0.5, 0.5, 0.5, 1.5], "must list numbers in"),
        ("boundary_iou", [0.5, 0.5, 0.5, 0.5, True], "must list numbers in"),
        ("boundary_iou", "half", "must list numbers in"),
        ("size", [5, 2, 2], "no more pixels than the image has"),
        ("size", [0, 2, 2], "expected .pixels of the object, rows"),
        ("size", [1, 2.0, 2], "expected .pixels of the object, rows"),
        ("size", [1, 2, 10**9], "expected .pixels of the object, rows"),
        ("size", 4, "expected .pixels of the object, rows"),
    ],
)
def test_damaged_boundary_ious_and_sizes_are_refused(field: str, value: object, says: str) -> None:
    content = {**evidence_to_dict(DAVIS[0]), field: value}
    with pytest.raises(ResultError, match=f"object bear.*{says}"):
        evidence_from_dict(content)


def test_some_of_the_objects_are_a_result_of_their_own() -> None:
    found = DatasetResult("davis", WITH_BOUNDARIES).of_objects(np.array([False, True]))
    assert found.object_ids == [ObjectId("swan")]
    assert found.scores()["noc90"] == 5
