"""Submissions broken on purpose: each is refused with all reasons, and nothing is executed."""

from __future__ import annotations

import contextlib
import copy
import gzip
import json
import os
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from result_builder import DEMO, synthetic_entry

from vfm_isbench import cli
from vfm_isbench.leaderboard import gzip_json
from vfm_isbench.leaderboard.findings import MOST, Finding, Report
from vfm_isbench.leaderboard.gzip_json import to_bytes
from vfm_isbench.leaderboard.trust import trust_of, why_unranked
from vfm_isbench.leaderboard.validation import check_against, check_content, check_file, validate
from vfm_isbench.protocol import Protocol
from vfm_isbench.results import DatasetResult
from vfm_isbench.storage.strict_json import UnreadableError

Content = dict[str, Any]

BASELINE = synthetic_entry("bilinear")
GOOD = synthetic_entry("mine", name="Mine v1", skill=0.5)
GOOD_CONTENT = json.loads(json.dumps(GOOD.to_dict()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of entries with only the baseline."""
    BASELINE.save(tmp_path / "entries")
    return tmp_path / "entries"


def found(path: Path, folder: Path) -> list[Finding]:
    (checked,) = validate([path], folder, are_submissions=True)
    return list(checked.findings)


def scenes(content: Content, run: int = 0) -> Any:
    return content["runs"][run]["datasets"]["scenes"]


def test_a_good_submission_passes(folder: Path) -> None:
    assert found(GOOD.save(folder), folder) == []


def test_a_result_may_say_how_much_memory_it_took_and_what_it_trained(folder: Path) -> None:
    content = copy.deepcopy(GOOD_CONTENT)
    content["runs"][0]["trained_parameters"] = {"click_encoder": 12, "head": 34}
    content["runs"][0]["peak_memory"] = {"training": 2**34, "evaluation": 2**33}
    assert check_content(content, Report("x")) is not None
    report = Report("x")
    content["runs"][0]["peak_memory"]["training"] = -1
    check_content(content, report)
    assert ["peak_memory.training" in str(finding) for finding in report.findings] == [True]


def with_costs_and_boundaries() -> Content:
    """The good entry as versions after 0.4.0 write it."""
    content = copy.deepcopy(GOOD_CONTENT)
    for run in content["runs"]:
        run["upsampler"] |= {"flops_per_image": 3 * 10**9, "peak_bytes": None, "uses_features": True}
        dataset = run["datasets"]["scenes"]
        for item in dataset["objects"]:
            item |= {"boundary_iou": [iou / 2 for iou in item["iou"]], "size": [100, 240, 320]}
        dataset["scores"] = DatasetResult.from_dict("scenes", {**dataset, "scores": dataset["scores"]}).scores()
    return content


def test_costs_sizes_and_boundary_ious_are_accepted_and_checked() -> None:
    content = with_costs_and_boundaries()
    report = Report("x")
    entry = check_content(content, report)
    assert list(map(str, report.findings)) == []
    assert entry is not None and entry.evidence_sha256 == GOOD.evidence_sha256, "the same clicks and IoUs"
    assert "boundary_iou_at_1" in content["runs"][0]["datasets"]["scenes"]["scores"]


def shorter_boundaries(content: Content) -> None:
    scenes(content)["objects"][0]["boundary_iou"] = [0.5]


def size_with_too_many_pixels(content: Content) -> None:
    scenes(content)["objects"][0]["size"] = [10**9, 240, 320]


def negative_flops(content: Content) -> None:
    content["runs"][0]["upsampler"]["flops_per_image"] = -1


# A change to the content, and the expected finding "FIELD: TEXT" as a regular expression.
def wrong_aggregate(content: Content) -> None:
    scenes(content)["scores"]["noc90"] -= 0.5


def missing_object(content: Content) -> None:
    del scenes(content)["objects"][3]


def iou_above_one(content: Content) -> None:
    scenes(content)["objects"][3]["iou"][2] = 1.2


def negative_iou(content: Content) -> None:
    scenes(content)["objects"][0]["iou"][0] = -0.1


def iou_as_text(content: Content) -> None:
    scenes(content)["objects"][0]["iou"][0] = "__import__('os').system('id')"


def iou_as_flag(content: Content) -> None:
    scenes(content)["objects"][0]["iou"][19] = True


def duplicate_object(content: Content) -> None:
    scenes(content)["objects"][1] = copy.deepcopy(scenes(content)["objects"][0])


def unknown_object(content: Content) -> None:
    scenes(content)["objects"][37]["image"] = "test-00099"


def swapped_objects(content: Content) -> None:
    objects = scenes(content)["objects"]
    objects[0], objects[1] = objects[1], objects[0]


def instance_as_text(content: Content) -> None:
    scenes(content)["objects"][5]["instance"] = "1"


def fewer_clicks(content: Content) -> None:
    for key in ("iou", "clicks"):
        scenes(content)["objects"][7][key].pop()


def clicks_without_ious(content: Content) -> None:
    scenes(content)["objects"][7]["clicks"].pop()


def click_outside(content: Content) -> None:
    scenes(content)["objects"][2]["clicks"][4] = [5000, 0, 1]


def click_of_four(content: Content) -> None:
    scenes(content)["objects"][2]["clicks"][4] = [1, 2, 1, 0]


def first_click_negative(content: Content) -> None:
    scenes(content)["objects"][2]["clicks"][0][2] = 0


def noc_out_of_order(content: Content) -> None:
    scenes(content)["scores"]["noc80"] = 19.9


def score_missing(content: Content) -> None:
    del scenes(content)["scores"]["noc85"]


def score_invented(content: Content) -> None:
    scenes(content)["scores"]["elegance"] = 1.0


def score_null(content: Content) -> None:
    scenes(content)["scores"]["iou_at_1"] = None


def other_content(content: Content) -> None:
    scenes(content)["content_sha256"] = "0" * 64


def early_stop_claimed(content: Content) -> None:
    scenes(content).update(early_stop=[80], max_clicks=20)


def changed_fingerprint(content: Content) -> None:
    content["fingerprint"] = Protocol.preset("paper").fingerprint()


def changed_protocol(content: Content) -> None:
    content["runs"][1]["protocol"]["epochs"] = 40


def protocol_field_invented(content: Content) -> None:
    content["runs"][0]["protocol"]["secret"] = 1


def protocol_field_missing(content: Content) -> None:
    del content["runs"][0]["protocol"]["epochs"]


def protocol_out_of_range(content: Content) -> None:
    content["runs"][0]["protocol"]["image_size"] = "128; rm -rf ."


def seeds_twice(content: Content) -> None:
    content["runs"][1]["protocol"]["seed"] = 0


def one_run_twice(content: Content) -> None:
    content["runs"][2] = copy.deepcopy(content["runs"][0])
    content["runs"][2]["protocol"]["seed"] = 2


def other_upsampler(content: Content) -> None:
    content["runs"][2]["upsampler"]["sha256"] = "ab" * 32


def other_backbone(content: Content) -> None:
    for run in content["runs"]:
        run["backbone"]["name"] = "dinov2_vits14"


def no_runs(content: Content) -> None:
    content["runs"] = []


def dataset_missing(content: Content) -> None:
    content["runs"][0]["datasets"] = {}


def dataset_extra(content: Content) -> None:
    content["runs"][0]["datasets"]["grabcut"] = copy.deepcopy(scenes(content))


def false_baseline(content: Content) -> None:
    for run in content["runs"]:
        run["upsampler"]["name"] = "bilinear"


def html_in_name(content: Content) -> None:
    content["name"] = "<img src=x onerror=alert(1)>"


def path_in_name(content: Content) -> None:
    content["name"] = "../../.github/workflows/ci"


def windows_path_in_name(content: Content) -> None:
    content["name"] = "..\\..\\evil"


def newline_in_name(content: Content) -> None:
    content["name"] = "mine\nother.json.gz: recomputed, ranked"


def bidi_in_name(content: Content) -> None:
    content["name"] = "mine\u202egnp.exe"


def escape_in_note(content: Content) -> None:
    content["runs"][0]["notes"].append("\x1b[2J\x1b[Hall is well")


def lone_surrogate(content: Content) -> None:
    content["submitter"] = "\ud800"


def name_too_long(content: Content) -> None:
    content["name"] = "x" * 81


def name_as_list(content: Content) -> None:
    content["name"] = ["mine"]


def javascript_url(content: Content) -> None:
    content["code"] = "javascript:alert(1)"


def data_url(content: Content) -> None:
    content["paper"] = "data:text/html,<script>alert(1)</script>"


def url_with_password(content: Content) -> None:
    content["code"] = "https://me:secret@example.org/"


def url_without_host(content: Content) -> None:
    content["code"] = "https:///etc/passwd"


def no_date(content: Content) -> None:
    content["date"] = "2026-13-45"


def field_invented(content: Content) -> None:
    content["trust"] = "reproduced"


def field_missing(content: Content) -> None:
    del content["code"]


def self_reproduced(content: Content) -> None:
    scores = {key: scenes(content)["scores"][key] for key in ("noc80", "noc85", "noc90", "iou_at_1")}
    content["reproduced"] = {
        "by": "The submitter", "date": "2026-11-25", "version": "0.2.0", "device": "cpu",
        "evidence_sha256": GOOD.evidence_sha256, "scores": {"scenes": scores},
    }  # fmt: skip


def other_schema(content: Content) -> None:
    content["schema_version"] = 2


def pickled_source(content: Content) -> None:
    content["runs"][0]["upsampler"]["source"] = {"reduce me!": "cos\nsystem\n(S'id'\ntR."}


def nested_source(content: Content) -> None:
    content["runs"][0]["upsampler"]["source"] = {"a": {"b": {"c": {"d": {}}}}}


BROKEN: list[tuple[Callable[[Content], None], str]] = [
    (wrong_aggregate, r"runs\[0\].datasets.scenes.scores.noc90: .* is written, but the evidence gives "),
    (missing_object, r"runs\[0\].datasets.scenes.objects: has 37 objects; expected 38 of scenes"),
    (iou_above_one, r"runs\[0\].datasets.scenes.objects\[3\].iou\[2\]: 1.2 lies outside \[0, 1\]"),
    (negative_iou, r"runs\[0\].datasets.scenes.objects\[0\].iou\[0\]: -0.1 lies outside \[0, 1\]"),
    (iou_as_text, r"runs\[0\].datasets.scenes.objects\[0\].iou\[0\]: .* is not a number"),
    (iou_as_flag, r"runs\[0\].datasets.scenes.objects\[0\].iou\[19\]: True is not a number"),
    (duplicate_object, r"objects\[1\]: 'test-00000:1' is already objects\[0\]"),
    (unknown_object, r"objects\[37\]: 'test-00099:\d' is not among the objects of scenes"),
    (swapped_objects, r"objects\[0\]: is test-00000:2; in the order of scenes it is test-00000:1"),
    (instance_as_text, r"objects\[5\].instance: '1' is not a whole number"),
    (fewer_clicks, r"objects\[7\].iou: has 19 IoUs; the protocol places 20 clicks"),
    (clicks_without_ious, r"objects\[7\].clicks: has 19 clicks for 20 IoUs"),
    (click_outside, r"objects\[2\].clicks\[4\]: lies outside the image of 240×320"),
    (click_of_four, r"objects\[2\].clicks\[4\]: is not a click"),
    (first_click_negative, r"objects\[2\].clicks\[0\]: is negative"),
    (noc_out_of_order, r"scenes.scores: noc80 19.9 is above noc85"),
    (score_missing, r"scores.noc85: is missing"),
    (score_invented, r"scores.elegance: is not a score"),
    (score_null, r"scores.iou_at_1: None is written, but the evidence gives 0\.\d+"),
    (other_content, r"scenes.content_sha256: '0{64}' is not the hash of scenes"),
    (early_stop_claimed, r"objects\[\d+\].iou: ends after 20 clicks; an early stop ends at 80 %"),
    (changed_fingerprint, r"fingerprint: '[0-9a-f]{64}' is not that of runs\[0\].protocol"),
    (changed_protocol, r"runs\[1\].fingerprint: '[0-9a-f]{64}' is not that of runs\[1\].protocol"),
    (protocol_field_invented, r"runs\[0\].protocol.secret: is not a field of a protocol"),
    (protocol_field_missing, r"runs\[0\].protocol: the protocol lacks the fields epochs"),
    (protocol_out_of_range, r"runs\[0\].protocol.image_size: protocol field image_size is '128; rm -rf .'; expected"),
    (seeds_twice, r"runs\[1\].protocol.seed: 0 is already the seed of runs\[0\]"),
    (one_run_twice, r"runs\[2\].datasets: contain the same evidence as runs\[0\]: one run twice"),
    (other_upsampler, r"runs\[2\].upsampler.sha256: 'abab.*' is not that of runs\[0\]"),
    (other_backbone, r"runs\[0\].backbone.name: 'dinov2_vits14' is not the backbone of the protocol"),
    (no_runs, r"runs: has 0 items; expected 1 to 20"),
    (dataset_missing, r"runs\[0\].datasets.scenes: is missing: the protocol names it as a test set"),
    (dataset_extra, r"runs\[0\].datasets.grabcut: is not a test set of the protocol"),
    (false_baseline, r"runs\[0\].upsampler.sha256: is not that of 'bilinear', whose name it uses"),
    (html_in_name, r"name: '<img src=x onerror=alert\(1\)>' contains one of < > & \" `"),
    (path_in_name, r"name: '../../.github/workflows/ci' looks like a path"),
    (windows_path_in_name, r"name: '..\\\\+..\\\\+evil' looks like a path"),
    (newline_in_name, r"name: 'mine\\nother.json.gz: recomputed, ranked' contains control or invisible characters"),
    (bidi_in_name, r"name: 'mine\\u202egnp.exe' contains control or invisible characters"),
    (escape_in_note, r"runs\[0\].notes\[1\]: '\\x1b\[2J\\x1b\[Hall is well' contains control or invisible characters"),
    (lone_surrogate, r"contains the text '\\ud800', which has half a character"),
    (shorter_boundaries, r"objects\[0\].boundary_iou: has 1 boundary IoUs for 20 IoUs"),
    (size_with_too_many_pixels, r"objects\[0\].size: is not a size"),
    (negative_flops, r"upsampler.flops_per_image: "),
    (name_too_long, r"name: has 81 characters; at most 80"),
    (name_as_list, r"name: a list of 1 is not a text"),
    (javascript_url, r"code: 'javascript:alert\(1\)' is not a web address: expected https://"),
    (data_url, r"paper: 'data:text/html,<script>alert\(1\)</script>' contains characters"),
    (url_with_password, r"code: .* contains a user name"),
    (url_without_host, r"code: 'https:///etc/passwd' has no host"),
    (no_date, r"date: '2026-13-45': "),
    (field_invented, r"trust: is not a field of this schema"),
    (field_missing, r"code: is missing"),
    (self_reproduced, r"reproduced: must be null"),
    (other_schema, r"schema_version: 2 lies outside \[1, 1\]"),
    (pickled_source, r"runs\[0\].upsampler.source: 'reduce me!' is not a name"),
    (nested_source, r"runs\[0\].upsampler.source.a.b.c: is nested too deeply"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "reason"), BROKEN, ids=lambda value: getattr(value, "__name__", ""))
def test_broken_content_is_refused_with_its_reason(
    folder: Path, change: Callable[[Content], None], reason: str
) -> None:
    content = copy.deepcopy(GOOD_CONTENT)
    change(content)
    assert content != GOOD_CONTENT
    path = folder / GOOD.file_name
    text = json.dumps(content, sort_keys=True)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))
    lines = [str(finding) for finding in found(path, folder)]
    assert any(re.match(rf"{re.escape(str(path))}: .*{reason}", line) for line in lines), lines
    assert all(line.isprintable() for line in lines)


def gz(text: bytes) -> bytes:
    return gzip.compress(text, mtime=0)


TEXT = json.dumps(GOOD_CONTENT).encode()
FILES: list[tuple[str, Callable[[], bytes], str]] = [
    ("NaN", lambda: gz(TEXT.replace(b'"ms_per_image": 1.5', b'"ms_per_image": NaN')), "contains NaN"),
    ("Infinity", lambda: gz(TEXT.replace(b'"training": 10.0', b'"training": -Infinity')), "contains -Infinity"),
    ("1e999", lambda: gz(TEXT.replace(b'"training": 10.0', b'"training": 1e999')), "contains the number '1e999'"),
    ("many digits", lambda: gz(b'{"a": ' + b"9" * 5000 + b"}"), "contains a number of 5000 characters"),
    ("same key twice", lambda: gz(TEXT.replace(b'{"schema', b'{"name": "x", "schema', 1)), "has the key 'name' twice"),
    ("no UTF-8", lambda: gz(TEXT.replace(b"made up", b"made \xff")), "is not UTF-8"),
    ("byte order mark", lambda: gz(b"\xef\xbb\xbf" + TEXT), "begins with a byte order mark"),
    ("UTF-16", lambda: gz(TEXT.decode().encode("utf-16")), "is not UTF-8"),
    ("text behind", lambda: gz(TEXT + b"{}"), "is not JSON: Extra data"),
    ("bytes behind", lambda: gz(TEXT) + b"#!/bin/sh\n", "has 10 bytes after the end of the compressed data"),
    ("second member", lambda: gz(TEXT) + gz(b"{}"), "after the end of the compressed data"),
    ("cut short", lambda: gz(TEXT)[:-20], "is cut short"),
    ("wrong checksum", lambda: gz(TEXT)[:-8] + b"\0" * 8, "is not a gzip file, or a broken one"),
    ("not packed", lambda: TEXT, "is not a gzip file"),
    ("zlib", lambda: zlib.compress(TEXT), "is not a gzip file"),
    ("a pickle", lambda: b"\x80\x04cos\nsystem\n(S'id'\ntR.", "is not a gzip file"),
    ("a packed pickle", lambda: gz(b"cos\nsystem\n(S'id'\ntR."), "is not JSON"),
    ("packed twice", lambda: gz(gz(TEXT)), "is not UTF-8"),
    ("empty", lambda: b"", "is cut short"),
    ("gzip bomb", lambda: gz(b" " * (gzip_json.MOST_BYTES + 1)), "unpacks to more than"),
    ("bomb of a bomb", lambda: gz(gz(b"[" * 50_000_000)), "is not UTF-8"),
    ("deep lists", lambda: gz(b"[" * 100_000 + b"]" * 100_000), "is nested deeper than 16 levels"),
    ("deep objects", lambda: gz(b'{"a":' * 20 + b"1" + b"}" * 20), "is nested deeper than 16 levels"),
    ("many lists", lambda: gz(b"[" + b"[]," * gzip_json.MOST_CONTAINERS + b"[]]"), "contains more than 3000000 lists"),
    ("many values", lambda: gz(b"[" + b"1," * (gzip_json.MOST_VALUES + 1) + b"1]"), "contains more than"),
    ("huge file", lambda: b"\0" * (gzip_json.MOST_COMPRESSED + 1), "is larger than"),
    ("a list", lambda: gz(b"[]"), "a list of 0 is not an object"),
    ("null", lambda: gz(b"null"), "None is not an object"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "reason"), [case[1:] for case in FILES], ids=[case[0] for case in FILES])
def test_a_broken_file_is_refused_with_its_reason(folder: Path, data: Callable[[], bytes], reason: str) -> None:
    path = folder / GOOD.file_name
    path.write_bytes(data())
    findings = found(path, folder)
    assert [finding.text for finding in findings if reason in finding.text], findings
    assert check_file(path).entry is None


def test_a_link_a_folder_and_a_pipe_are_refused(folder: Path, tmp_path: Path) -> None:
    outside = GOOD.save(tmp_path / "outside")
    path = folder / GOOD.file_name
    path.symlink_to(outside)
    assert [finding.text for finding in found(path, folder)] == ["is a symbolic link; expected a regular file"]
    path.unlink()
    path.mkdir()
    assert [finding.text for finding in found(path, folder)] == ["is a folder; expected a file"]
    path.rmdir()
    os.mkfifo(path)  # opening it to read would wait for ever
    assert [finding.text for finding in found(path, folder)] == [
        "is not a regular file, but a pipe or a device; write its content to a file"
    ]


def test_another_file_name_is_refused(folder: Path) -> None:
    path = GOOD.save(folder).rename(folder / "mine.json.gz")
    assert [str(finding) for finding in found(path, folder)] == [
        f"{path}: the entry's name and protocol determine the file name; expected {GOOD.file_name}"
    ]


def test_all_findings_are_told_not_only_the_first(folder: Path) -> None:
    content = copy.deepcopy(GOOD_CONTENT)
    changes = (html_in_name, javascript_url, no_date, negative_iou, missing_object, noc_out_of_order, seeds_twice)
    for change in changes:
        change(content)
    content["runs"][2]["protocol"].update(epochs=0, disk_radius=-1)
    path = folder / GOOD.file_name
    path.write_bytes(to_bytes(content))
    lines = "\n".join(str(finding) for finding in found(path, folder))
    for reason in (
        "name: ", "code: ", "date: ", "iou[0]: -0.1", "has 37 objects", "noc80 19.9 is above",
        "is already the seed of runs[0]", "runs[2].protocol.epochs: ", "runs[2].protocol.disk_radius: ",
    ):  # fmt: skip
        assert reason in lines


def test_the_file_cannot_forge_a_line_of_the_report(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = copy.deepcopy(GOOD_CONTENT)
    content["a\nb: fine\r\x1b[1A"] = 1
    content["runs"][0]["datasets"]["x\ny"] = {}
    path = folder / GOOD.file_name
    path.write_bytes(to_bytes(content))
    assert cli.main(["leaderboard", "validate", str(path), "--entries", str(folder)]) == 1
    *lines, last = capsys.readouterr().out.splitlines()
    assert len(lines) >= 3
    assert all(line.startswith(f"{path}: ") and line.isprintable() for line in lines)
    assert last == f"1 file, {len(lines)} findings"


def test_reading_runs_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a submission says, it never makes the library import, evaluate or start anything."""
    content = copy.deepcopy(GOOD_CONTENT)
    for run in content["runs"]:
        run["upsampler"].update(name="os:system", source={"kind": "hub", "entry": "os:system"})
    content["spec"] = "hub:evil/evil@main:evil"
    path = folder / GOOD.file_name
    path.write_bytes(to_bytes(content))

    def refuse(*_args: object, **_options: object) -> None:
        raise AssertionError("something of the submission was executed")

    for place in ("os.system", "subprocess.Popen", "builtins.eval", "pickle.loads", "pickle.load", "torch.load"):
        monkeypatch.setattr(place, refuse)
    monkeypatch.setattr("vfm_isbench.upsamplers.loading.hub.load_from_hub", refuse)
    assert found(path, folder) == []


SMALL = json.loads(
    json.dumps(synthetic_entry("bilinear", seeds=(0, 1), protocol=DEMO.replace(object_limit=2)).to_dict())
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to everything in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, below in items for place in places(below, (*path, key)))]


PLACES = [place for place in places(SMALL) if place]
HOSTILE = (
    None, True, -1, 10**38, 1e308, 0.5, "", "\ud800", "x" * 3000, "../..", [], [[]], [None] * 25, {}, {"": 0},
    {"a.b": {"c": [1]}}, {str(number): {} for number in range(25)}, [{"scores": 1}] * 25, [[1, 2, 3]], "2026-11-25",
)  # fmt: skip


@settings(max_examples=400)
@given(st.lists(st.tuples(st.sampled_from(PLACES), st.sampled_from(HOSTILE)), min_size=1, max_size=3), st.booleans())
def test_no_content_whatever_makes_validation_fail(
    changes: list[tuple[tuple[Any, ...], Any]], is_removed: bool
) -> None:
    """Any value anywhere gives findings or passes; it never raises."""
    content = copy.deepcopy(SMALL)
    for place, value in changes:
        parent = content
        with contextlib.suppress(KeyError, IndexError, TypeError):  # an earlier change may have taken the place away
            for key in place[:-1]:
                parent = parent[key]
            if is_removed:
                del parent[place[-1]]
            else:
                parent[place[-1]] = copy.deepcopy(value)
    report = Report("mine")
    try:
        entry = check_content(gzip_json.parse(json.dumps(content).encode()), report)
    except UnreadableError as error:
        assert "half a character" in str(error)
        return
    if entry is not None:
        check_against(entry, [entry], [], report)
        assert trust_of(entry) in ("self-reported", "recomputed")
        assert why_unranked(entry)
    assert all(str(finding).isprintable() and len(str(finding)) < 1100 for finding in report.findings)


def test_of_very_many_findings_the_first_are_kept_and_the_rest_counted(folder: Path) -> None:
    content = copy.deepcopy(GOOD_CONTENT)
    for run in range(3):
        for one in scenes(content, run)["objects"]:
            one["iou"] = [2.0] * len(one["iou"])
    report = Report("mine")
    assert check_content(content, report) is None
    shown = report.findings
    assert report.count > MOST and len(shown) == MOST + 1
    assert str(shown[0]) == "mine: runs[0].datasets.scenes.objects[0].iou[0]: 2.0 lies outside [0, 1]"
    assert str(shown[-1]) == f"mine: … and {report.count - MOST:,} more findings"
    path = folder / GOOD.file_name
    path.write_bytes(to_bytes(content))
    assert len(found(path, folder)) == MOST + 1


def test_as_many_findings_as_are_kept_have_no_line_behind_them() -> None:
    report = Report("mine")
    for number in range(MOST):
        report.add(f"runs[{number}]", "is wrong")
    assert [one.path for one in report.findings] == [f"runs[{number}]" for number in range(MOST)]
    assert not report.may_concern("elsewhere")
    report.add("runs[0]", "is wrong")
    assert report.findings[-1].text == "… and 1 more finding"
    assert report.may_concern("elsewhere")


def test_more_runs_or_data_sets_than_the_schema_looks_at() -> None:
    for change in (
        {"runs": [{"datasets": {"scenes": {"objects": [{}]}}}] * 21},
        {"runs": [{**SMALL["runs"][0], "datasets": {f"d{number}": {"objects": [{}]} for number in range(21)}}]},
    ):
        report = Report("mine")
        assert check_content({**SMALL, **change}, report) is None
        assert [finding.path for finding in report.findings if "21" in finding.text]


def test_notes_may_have_several_lines(folder: Path) -> None:
    """PyTorch's warnings do; their printed form still fits on one line."""
    content = copy.deepcopy(GOOD_CONTENT)
    content["runs"][0]["notes"].append("two\nlines")
    path = folder / GOOD.file_name
    path.write_bytes(to_bytes(content))
    assert found(path, folder) == []


# Against other entries.


def test_the_baseline_of_the_same_hash_must_exist(tmp_path: Path) -> None:
    path = GOOD.save(tmp_path)
    (finding,) = found(path, tmp_path)
    assert finding.path == "fingerprint"
    assert "no entry of the bilinear baseline" in finding.text
    BASELINE.save(tmp_path)
    assert found(path, tmp_path) == []


def test_a_baseline_under_another_protocol_does_not_count(tmp_path: Path) -> None:
    synthetic_entry("bilinear", protocol=DEMO.replace(disk_radius=7)).save(tmp_path)
    assert "bilinear baseline" in found(GOOD.save(tmp_path), tmp_path)[0].text


def test_something_else_called_bilinear_is_no_baseline(tmp_path: Path) -> None:
    synthetic_entry("not bilinear at all", name="bilinear").save(tmp_path)
    assert "bilinear baseline" in found(GOOD.save(tmp_path), tmp_path)[0].text


def test_a_copy_under_another_name_is_a_duplicate(folder: Path) -> None:
    GOOD.save(folder)
    content = copy.deepcopy(GOOD_CONTENT)
    content["name"] = "Entirely mine"
    for run in content["runs"]:
        run["upsampler"].update(name="entirely", sha256="12" * 32)
    path = folder / f"entirely-mine-{GOOD.fingerprint[:12]}.json.gz"
    path.write_bytes(to_bytes(content))
    assert [str(finding).removeprefix(f"{path}: ") for finding in found(path, folder)] == [
        f"runs[{run}]: contains the same evidence as seed {run} of {GOOD.id}" for run in range(3)
    ]


def test_the_same_upsampler_with_other_seeds_is_a_duplicate(folder: Path) -> None:
    GOOD.save(folder)
    path = synthetic_entry("mine", name="Mine v2", seeds=(7,), skill=0.5).save(folder)
    (finding,) = found(path, folder)
    assert f"{GOOD.id} already is" in finding.text


def test_a_name_that_is_taken_is_refused(folder: Path, tmp_path: Path) -> None:
    GOOD.save(folder)
    path = synthetic_entry("other", name="mine V1").save(tmp_path / "elsewhere")
    assert [finding.path for finding in found(path, folder)] == ["name"]


def test_test_sets_nobody_ships_are_held_against_the_oldest_entry(tmp_path: Path) -> None:
    protocol = DEMO.replace(test_datasets=("grabcut",), max_clicks=3)
    synthetic_entry("bilinear", protocol=protocol, seeds=(0,), date="2026-01-01").save(tmp_path)
    content = json.loads(json.dumps(synthetic_entry("mine", protocol=protocol, seeds=(0,)).to_dict()))
    grabcut = content["runs"][0]["datasets"]["grabcut"]
    grabcut["objects"][4]["image"] = "another.jpg"
    grabcut["content_sha256"] = "5" * 64
    path = tmp_path / f"mine-{protocol.fingerprint()[:12]}.json.gz"
    path.write_bytes(to_bytes(content))
    lines = "\n".join(map(str, found(path, tmp_path)))
    assert "datasets.grabcut.objects: are not those of bilinear-" in lines
    assert "datasets.grabcut.content_sha256: is not that of bilinear-" in lines


def test_published_numbers_and_the_form_of_ids_are_checked(tmp_path: Path) -> None:
    protocol = DEMO.replace(test_datasets=("grabcut",), max_clicks=3)
    entry = synthetic_entry("bilinear", protocol=protocol, seeds=(0,))
    content = json.loads(json.dumps(entry.to_dict()))
    objects = content["runs"][0]["datasets"]["grabcut"]["objects"]
    objects.pop()
    objects[0]["instance"] = 1
    path = tmp_path / entry.file_name
    path.write_bytes(to_bytes(content))
    lines = "\n".join(map(str, found(path, tmp_path)))
    assert "datasets.grabcut.objects: has 49 objects; expected 50 of grabcut" in lines
    assert "objects[0].instance: 1 is not null" in lines
