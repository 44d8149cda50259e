"""The table and the page's data: built from entries alone, the same for any order, safe to open."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from pathlib import Path

import pytest
from result_builder import CODE, DEMO, synthetic_entry

from vfm_isbench.errors import LeaderboardError
from vfm_isbench.leaderboard import Board, Entry, gzip_json, load_board, page_data, validation
from vfm_isbench.leaderboard import entry as entry_module
from vfm_isbench.leaderboard.findings import Report
from vfm_isbench.leaderboard.removals import remove_entry
from vfm_isbench.leaderboard.reproduction import compare_with, mark
from vfm_isbench.leaderboard.scores import score
from vfm_isbench.leaderboard.submission import make_entry
from vfm_isbench.leaderboard.table import AFTER, BEFORE, head_label, to_csv
from vfm_isbench.leaderboard.validation import check_content
from vfm_isbench.protocol import Protocol
from vfm_isbench.results import Result

ROOT = Path(__file__).parents[2]
BASELINE = synthetic_entry("bilinear")
MINE = synthetic_entry("mine", name="Mine v1", skill=1.0)
NEWEST = Protocol.preset("demo")
LIMITED = synthetic_entry("bilinear", name="A first look", protocol=DEMO.replace(object_limit=5))


@pytest.fixture
def board(tmp_path: Path) -> Board:
    for entry in (BASELINE, MINE, LIMITED):
        entry.save(tmp_path)
    return load_board(tmp_path)


def rows_of(board: Board) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(to_csv(board))))


def test_the_table_has_a_row_per_entry_with_every_column(board: Board) -> None:
    rows = rows_of(board)
    assert [row["name"] for row in rows] == ["Mine v1", "bilinear", "A first look"]
    scores = [
        f"scenes_{metric}{end}" for metric in ("noc80", "noc85", "noc90", "iou_at_1") for end in ("", "_low", "_high")
    ]
    assert list(rows[0]) == [*BEFORE, "scenes_objects", *scores, *AFTER]
    first = rows[0]
    estimate = score(MINE, "scenes", "noc90")
    assert estimate is not None
    assert first["scenes_noc90"] == f"{estimate.value:.4f}"
    assert (first["scenes_noc90_low"], first["scenes_noc90_high"]) == (f"{estimate.low:.4f}", f"{estimate.high:.4f}")
    expected = {
        "upsampler": "mine", "backbone": "efficientnet_lite0@16", "click_encoder": "simple_vit", "injection": "late",
        "head": head_label(MINE), "protocol": DEMO.label, "fingerprint": DEMO.fingerprint(), "seeds": "0 1 2",
        "scenes_objects": "38", "status": "ranked", "why_unranked": "", "mean_rank": "1.0000", "rank": "1",
        "tied_with": "", "parameters": "", "ms_per_image": "2.5000", "timed_on": "made-up processor, threads: 1",
        "code": CODE, "paper": "", "date": "2026-11-25", "submitter": "", "trust": "recomputed", "version": "0.2.0",
        "rank_low": "1", "rank_high": "1", "ranked_by": DEMO.headline,
    }  # fmt: skip
    assert {key: first[key] for key in expected} == expected
    assert [rows[1][key] for key in ("rank", "rank_low", "rank_high")] == ["2", "2", "2"]
    assert list(rows[0])[-3:] == ["rank_low", "rank_high", "ranked_by"]


def test_what_is_not_ranked_stands_last_with_the_reason(board: Board) -> None:
    last = rows_of(board)[-1]
    assert (last["status"], last["rank"], last["mean_rank"], last["trust"]) == ("unranked", "", "", "self-reported")
    assert "only the first 5 objects" in last["why_unranked"]
    assert last["protocol"] == f"{DEMO.label}+changed"


def test_versions_of_a_protocol_are_told_apart_and_never_ranked_together() -> None:
    new = synthetic_entry("mine", name="Mine v1", skill=1.0, protocol="demo")
    board = Board((BASELINE, MINE, new))
    rows = {row["protocol"]: row for row in rows_of(board) if row["name"] == "Mine v1"}
    assert {label: (row["rank"], row["rank_high"], row["ranked_by"]) for label, row in rows.items()} == {
        "demo@1": ("1", "1", "noc90"), NEWEST.label: ("1", "1", NEWEST.headline),
    }  # fmt: skip
    data = page_data(board, version="1")
    assert {group["protocol"] for group in data["groups"]} == {"demo@1", NEWEST.label}
    assert {group["headline"] for group in data["groups"]} == {"noc90", NEWEST.headline}
    groups = {entry["protocol"]: entry["group"] for entry in data["entries"] if entry["status"] != "quoted"}
    assert groups["demo@1"] != groups[NEWEST.label]


def test_upsamplers_without_parameters_have_0_alike_whatever_the_version() -> None:
    old = synthetic_entry("bilinear")
    assert old.upsampler["n_parameters"] is None, "as version 0.4.0 wrote it"
    found = [{**run.upsampler, "n_parameters": 0} for run in old.runs]
    new = dataclasses.replace(
        old, runs=tuple(dataclasses.replace(run, upsampler=one) for run, one in zip(old.runs, found, strict=True))
    )
    for entry in (old, new, dataclasses.replace(old, runs=(old.runs[0], *new.runs[1:]))):
        assert rows_of(Board((entry,)))[0]["parameters"] == "0"
        assert page_data(Board((entry,)), version="1")["entries"][0]["parameters"] == 0
        assert check_content(json.loads(json.dumps(entry.to_dict())), Report("mixed.json.gz")) is not None
    assert rows_of(Board((MINE,)))[0]["parameters"] == "", "of foreign code nobody knows"


def test_code_of_this_library_is_at_the_repository_if_that_has_an_address() -> None:
    written = synthetic_entry("bilinear").to_dict()
    for code in ("https://github.com/OWNER/vfm_isbench", None):
        entry = Entry.from_dict({**written, "code": code})
        assert rows_of(Board((entry,)))[0]["code"] == ""
        for repository in (None, "https://example.org/vfm_isbench"):
            data = page_data(Board((entry,)), version="1", repository=repository)
            assert data["repository"] == data["entries"][0]["code"] == repository
            assert "OWNER" not in json.dumps(data)
    report = Report("mine.json.gz")
    check_content(json.loads(json.dumps({**MINE.to_dict(), "code": None})), report)
    assert [str(found) for found in report.findings] == [
        "mine.json.gz: code: is missing: say where the code of the upsampler is (leaderboard submit --code URL)"
    ]


def test_no_interval_leaves_the_range_of_its_score() -> None:
    """Hard objects: nearly all of them need all clicks."""
    entry = synthetic_entry("bilinear", skill=-2.0, noise=0.3)
    (row,) = page_data(Board((entry,)), version="1")["entries"][:1]
    (csv_row,) = rows_of(Board((entry,)))
    for metric in ("noc80", "noc85", "noc90"):
        found = row["scores"]["scenes"][metric]
        assert 1 <= found["low"] <= found["value"] <= found["high"] <= DEMO.max_clicks
        assert float(csv_row[f"scenes_{metric}_high"]) <= DEMO.max_clicks
    assert row["scores"]["scenes"]["noc90"]["value"] > DEMO.max_clicks - 1.5
    assert row["scores"]["scenes"]["iou_at_1"]["low"] >= 0


def test_the_table_does_not_depend_on_the_order_of_entries(board: Board) -> None:
    assert to_csv(Board(board.entries[::-1])) == to_csv(board)


def test_a_missing_score_is_an_empty_cell() -> None:
    (row,) = rows_of(Board((synthetic_entry("mine", stop_at_iou=(85,)),)))
    assert row["scenes_noc85"] != ""
    assert row["scenes_noc90"] == row["scenes_noc90_low"] == ""


def test_no_cell_is_a_formula() -> None:
    """Spreadsheets run cells that begin with = + - @."""
    for name in ("=HYPERLINK(1)", "+1", "-1", "@SUM(A1)"):
        entry = make_entry(MINE.runs, name=name, code=CODE, date="2026-11-25", submitter=name)
        (row,) = rows_of(Board((entry,)))
        assert row["name"] == row["submitter"] == f"'{name}"
        assert not any(cell.startswith(("=", "+", "-", "@")) for cell in row.values())


def test_a_board_with_a_broken_entry_is_refused_with_every_finding(board: Board, tmp_path: Path) -> None:
    (tmp_path / "broken.json.gz").write_bytes(b"no")
    MINE.save(tmp_path / "b")
    (tmp_path / "b" / MINE.file_name).rename(tmp_path / "copy.json.gz")
    with pytest.raises(LeaderboardError) as caught:
        load_board(tmp_path)
    assert "broken.json.gz: is not a gzip file" in str(caught.value)
    assert "copy.json.gz: the entry's name and protocol determine the file name" in str(caught.value)


def test_the_work_grows_with_the_entries_not_with_their_pairs(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file is read once and the evidence of each run hashed once, though every entry is compared with all."""
    read, hashed = [], []

    def read_file(path: Path) -> object:
        read.append(path.name)
        return gzip_json.read_file(path)

    def run_evidence_sha256(run: Result) -> str:
        hashed.append((run.upsampler["name"], run.protocol.object_limit, run.protocol.seed))
        return f"{len(hashed)}"

    monkeypatch.setattr(validation, "read_file", read_file)
    monkeypatch.setattr(entry_module, "run_evidence_sha256", run_evidence_sha256)
    loaded = load_board(tmp_path)
    assert sorted(read) == sorted(entry.file_name for entry in board.entries)
    assert len(hashed) == len(set(hashed)) == sum(len(entry.runs) for entry in loaded.entries) > 3


def test_the_page_has_the_form_that_was_agreed_on(board: Board, tmp_path: Path) -> None:
    remove_entry(LIMITED, tmp_path, "only a look", "2026-11-26")
    data = page_data(load_board(tmp_path), version="1.2.3", generated="2026-11-27")
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert (data["generated"], data["version"]) == ("2026-11-27", "1.2.3")
    assert data["removed"] == [{"name": "A first look", "date": "2026-11-26", "why": "only a look"}]
    (group,) = data["groups"]
    assert group["fingerprint"] == MINE.fingerprint and group["id"].startswith(MINE.fingerprint[:12])
    assert (group["protocol"], group["headline"], group["head"]) == (DEMO.label, DEMO.headline, head_label(MINE))
    assert (group["image_size"], group["max_clicks"]) == (DEMO.image_size, DEMO.max_clicks)
    assert group["datasets"] == [
        {"name": "scenes", "objects": 38, "content_sha256": MINE.datasets["scenes"].content_sha256}
    ]
    assert "seed" not in group["signature"]
    entries = {entry["id"]: entry for entry in data["entries"]}
    mine = entries[MINE.id]
    assert set(mine) == {
        "id", "group", "protocol", "name", "upsampler", "status", "why_unranked", "rank", "rank_low", "rank_high",
        "mean_headline", "better",
        "seeds", "trust", "parameters", "ms_per_image", "timed_on", "code", "paper", "citation", "date", "submitter",
        "version", "signature", "rerun", "reproduce", "notes", "scores", "injection", "origin",
        "flops_per_image", "upsampler_bytes", "training_bytes",
    }  # fmt: skip
    assert all(set(entry) == set(mine) for entry in data["entries"])
    assert (mine["group"], mine["protocol"]) == (group["id"], group["protocol"])
    assert (mine["rank_low"], mine["rank_high"], mine["better"]) == (1, 1, [])
    assert entries[BASELINE.id]["better"] == [MINE.id]
    assert mine["mean_headline"] == mine["scores"]["scenes"][DEMO.headline]["value"]
    assert (mine["status"], mine["rank"], mine["trust"], mine["seeds"]) == ("ranked", 1, "recomputed", [0, 1, 2])
    scenes = mine["scores"]["scenes"]
    assert set(scenes) == {
        "objects",
        "rank",
        "rank_low",
        "rank_high",
        "noc80",
        "noc85",
        "noc90",
        "iou_at_1",
        "not_reached90",
        "further",
        "curve",
    }
    assert scenes["noc90"]["low"] < scenes["noc90"]["value"] < scenes["noc90"]["high"]
    assert len(scenes["curve"]) == 20
    assert mine["rerun"] is None  # nobody said how to load it
    assert mine["reproduce"] == f"vfm-isbench leaderboard reproduce {MINE.id} --upsampler UPSAMPLER"
    bilinear = entries[BASELINE.id]
    assert bilinear["rerun"][1:] == [
        f"vfm-isbench run bilinear --protocol {DEMO.label} --seed {seed}" for seed in (0, 1, 2)
    ]
    assert (bilinear["injection"], bilinear["origin"]) == ("late", "measured")
    assert any("demo numbers" in note for note in mine["notes"])


def test_early_stop_leaves_gaps_on_the_page() -> None:
    entry = synthetic_entry("mine", stop_at_iou=(85,))
    data = page_data(Board((entry,)), version="1")["entries"][0]
    scenes = data["scores"]["scenes"]
    assert scenes["noc90"] is None and scenes["not_reached90"] is None
    assert scenes["noc85"] is not None
    assert scenes["curve"][0] is not None and scenes["curve"][-1] is None
    assert data["status"] == "unranked"


def test_quoted_figures_are_marked_cited_and_never_ranked(board: Board) -> None:
    entries = page_data(board, version="1")["entries"]
    quoted = [entry for entry in entries if entry["status"] == "quoted"]
    assert len(quoted) == 15
    assert len({entry["id"] for entry in entries}) == len(entries)
    for entry in quoted:
        assert (entry["group"], entry["rank"], entry["mean_headline"], entry["trust"]) == (None, None, None, None)
        assert "arXiv 250" in entry["citation"]
        for found in entry["scores"].values():
            given = [found[metric] for metric in ("noc80", "noc85", "noc90", "iou_at_1") if found[metric] is not None]
            assert len(given) == 1
            assert given[0]["low"] is given[0]["high"] is None
        assert f"(protocol {entry['protocol']}: " in entry["notes"][0]
        assert entry["injection"] == ("early" if entry["protocol"] == "paper-early" else "late")
        assert ("second-hand" in entry["origin"]) == ("third-party notes" in entry["citation"])
    assert {entry["protocol"] for entry in quoted} == {"paper", "paper-early"}
    loftup = next(entry for entry in quoted if entry["id"] == "quoted-loftup-paper-noc90")
    assert loftup["scores"]["grabcut"]["noc90"]["value"] == 3.76
    at_one = next(entry for entry in quoted if entry["id"] == "quoted-loftup-paper-early-iou-at-1")
    assert at_one["scores"]["davis"]["iou_at_1"]["value"] == 0.6731
    assert "quoted" not in to_csv(board)


def test_a_mark_is_told_and_is_worth_nothing_for_other_evidence(tmp_path: Path) -> None:
    marked = MINE.marked(mark(compare_with(MINE, MINE.runs), "A maintainer", "2026-11-26"))
    BASELINE.save(tmp_path)
    marked.save(tmp_path)
    data = page_data(load_board(tmp_path), version="1")
    entry = next(entry for entry in data["entries"] if entry["id"] == MINE.id)
    assert entry["trust"] == "reproduced"
    assert "reproduced by A maintainer on 2026-11-26 with version 0.2.0 (cpu)" in entry["notes"]
    other = synthetic_entry("mine", name="Mine v1", skill=0.9).marked(marked.reproduced)
    other.save(tmp_path)
    with pytest.raises(LeaderboardError, match="reproduced.evidence_sha256: belongs to other evidence"):
        load_board(tmp_path)


@pytest.mark.skipif(not any(ROOT.glob("benchmarks/entries/*.json.gz")), reason="no entries are committed yet")
def test_the_committed_table_is_built_from_the_committed_entries() -> None:
    assert (ROOT / "leaderboard.csv").read_text(encoding="utf-8") == to_csv(load_board(ROOT / "benchmarks/entries"))


def test_the_page_knows_costs_and_further_scores_of_an_entry() -> None:
    entry = synthetic_entry("mine", skill=0.5)
    runs = [dataclasses.replace(run, peak_memory={"training": 2**30 + run.protocol.seed}) for run in entry.runs]
    runs[0] = dataclasses.replace(runs[0], upsampler={**runs[0].upsampler, "flops_per_image": 7, "peak_bytes": 9})
    (row,) = page_data(Board((dataclasses.replace(entry, runs=tuple(runs)),)), version="1")["entries"][:1]
    seeds = [run.protocol.seed for run in runs]
    assert (row["flops_per_image"], row["upsampler_bytes"], row["training_bytes"]) == (7, 9, 2**30 + max(seeds))
    found = [run.datasets["scenes"].scores() for run in runs]
    further = row["scores"]["scenes"]["further"]
    for name in ("noc95", "nof90", "iou_auc"):
        assert further[name] == pytest.approx(sum(scores[name] for scores in found) / len(found))
    assert further["boundary_iou_at_5"] is None, "not measured"
    (old,) = page_data(Board((entry,)), version="1")["entries"][:1]
    assert (old["flops_per_image"], old["training_bytes"]) == (None, None)
