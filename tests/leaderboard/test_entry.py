"""Entries on disk: same content, same bytes; they load unchanged, and names cannot escape the folder."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from result_builder import CODE, synthetic_entry, synthetic_result

from vfm_isbench.errors import LeaderboardError
from vfm_isbench.leaderboard.entry import Entry, slug
from vfm_isbench.leaderboard.gzip_json import parse, read_file, to_bytes, unpack
from vfm_isbench.leaderboard.removals import FILE_NAME, read_removals, remove_entry
from vfm_isbench.leaderboard.submission import check_entry, make_entry, steps
from vfm_isbench.storage.printable import printable
from vfm_isbench.storage.strict_json import UnreadableError

ENTRY = synthetic_entry("mine", name="Mine v1")


def test_an_entry_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    path = ENTRY.save(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [ENTRY.file_name]
    again = Entry.from_dict(read_file(path))
    assert again.to_dict() == json.loads(json.dumps(ENTRY.to_dict()))
    assert again.evidence_sha256 == ENTRY.evidence_sha256
    assert again.seeds == (0, 1, 2)
    assert again.save(tmp_path / "again").read_bytes() == path.read_bytes()


def test_equal_entries_give_equal_bytes_without_a_time(tmp_path: Path) -> None:
    path = ENTRY.save(tmp_path)
    results = [synthetic_result("mine", seed=seed) for seed in (2, 0, 1)]  # in any order
    assert make_entry(results, name="Mine v1", code=CODE, date=ENTRY.date).save(tmp_path / "b").read_bytes() == (
        path.read_bytes()
    )
    assert path.read_bytes()[:10] == b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff"
    text = gzip.decompress(path.read_bytes()).decode()
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))


def test_the_evidence_is_complete() -> None:
    content = json.loads(json.dumps(ENTRY.to_dict()))
    for run in content["runs"]:
        found = run["datasets"]["scenes"]
        assert len(found["objects"]) == 38
        assert all(len(one["iou"]) == len(one["clicks"]) == 20 for one in found["objects"])
        assert found["content_sha256"] and run["backbone"]["sha256"] and run["upsampler"]["sha256"]
        assert run["protocol"] and run["environment"] and "warnings" in run["upsampler"]


def test_the_signature_has_all_seeds() -> None:
    assert "|seed:0,1,2|" in ENTRY.signature()
    assert ENTRY.signature().startswith("scenes:38|")


@given(st.text(max_size=60))
def test_no_name_leads_out_of_a_folder(name: str) -> None:
    found = slug(name)
    assert found and set(found) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert found[0] != "-" and len(found) <= 48


def test_names_without_letters_are_told_apart() -> None:
    assert slug("上采样") != slug("升采样")
    assert slug("上采样").startswith("entry-")
    assert slug("Über Ñ") == "uber-n"


@given(st.text(max_size=300))
def test_any_text_is_shown_on_one_short_line(text: str) -> None:
    shown = printable(text, 80)
    assert shown.isprintable() and len(shown) <= 80
    if text.isprintable() and len(text) <= 80:
        assert shown == text


text = st.text(st.characters(exclude_categories=["Cs"]))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(text, below, max_size=3),
    max_leaves=10,
)


@given(json_values)
def test_any_content_survives(content: object) -> None:
    assert unpack(to_bytes(content)) == content


def test_sixteen_levels_are_read_and_seventeen_are_not() -> None:
    assert parse(b"[" * 16 + b"]" * 16)
    with pytest.raises(UnreadableError, match="deeper than 16"):
        parse(b"[" * 17 + b"]" * 17)


# Submitting.


def test_check_entry_finds_what_validation_would(tmp_path: Path) -> None:
    synthetic_entry("bilinear").save(tmp_path)
    assert check_entry(ENTRY, tmp_path) == []
    bad = make_entry(ENTRY.runs, name="../x", code="javascript:alert(1)", date=ENTRY.date, submitter="a\nb")
    assert [finding.path for finding in check_entry(bad, tmp_path)] == ["code", "name", "submitter"]
    ENTRY.save(tmp_path)
    assert "already exists" in check_entry(ENTRY, tmp_path)[0].text


def test_results_of_different_upsamplers_make_no_entry(tmp_path: Path) -> None:
    synthetic_entry("bilinear").save(tmp_path)
    entry = make_entry(
        [synthetic_result("mine"), synthetic_result("other", seed=1)], name="Mix", code=CODE, date="2026-11-25"
    )
    assert [finding.path for finding in check_entry(entry, tmp_path)] == [
        "runs[1].upsampler.name", "runs[1].upsampler.sha256",
    ]  # fmt: skip
    with pytest.raises(LeaderboardError, match="no result"):
        make_entry([], name="None", code=CODE, date="2026-11-25")


def test_the_steps_can_be_pasted_whatever_the_name(tmp_path: Path) -> None:
    entry = make_entry(ENTRY.runs, name="$(touch owned); it's", code=CODE, date=ENTRY.date)
    text = "\n".join(steps(tmp_path / "a folder" / entry.file_name, entry))
    assert "-m 'Leaderboard entry: $(touch owned); it'\"'\"'s'" in text
    assert f"'{tmp_path}/a folder/" in text
    assert len(text.splitlines()) == 4


# Removing.


def test_a_removed_entry_is_logged_and_known_again(tmp_path: Path) -> None:
    synthetic_entry("bilinear").save(tmp_path)
    ENTRY.save(tmp_path)
    assert read_removals(tmp_path) == ()
    removal = remove_entry(ENTRY, tmp_path, "trained on the test set", "2026-11-26")
    assert not (tmp_path / ENTRY.file_name).exists()
    assert read_removals(tmp_path) == (removal,)
    assert (removal.id, removal.why, len(removal.evidence_sha256)) == (ENTRY.id, "trained on the test set", 3)
    again = make_entry(ENTRY.runs, name="Another name", code=CODE, date=ENTRY.date)
    (finding,) = check_entry(again, tmp_path, read_removals(tmp_path))
    assert "was removed on 2026-11-26: 'trained on the test set'" in finding.text


@pytest.mark.parametrize("why", ["", "  ", "two\nlines", "x" * 501])
def test_a_reason_must_fit_the_log(why: str, tmp_path: Path) -> None:
    ENTRY.save(tmp_path)
    with pytest.raises(LeaderboardError):
        remove_entry(ENTRY, tmp_path, why, "2026-11-26")
    assert [file.name for file in tmp_path.iterdir()] == [ENTRY.file_name]


def test_a_broken_removal_log_is_refused_line_by_line(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text('{"id": 3}\nnonsense\n')
    with pytest.raises(LeaderboardError) as caught:
        read_removals(tmp_path)
    text = str(caught.value)
    assert "line 1.id: 3 is not a text" in text
    assert "line 1.why: is missing" in text
    assert "line 2: is not JSON" in text
