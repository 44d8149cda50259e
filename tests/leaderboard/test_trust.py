"""Trust tiers and reasons against ranking, derived from the evidence."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from result_builder import DEMO, synthetic_entry

from vfm_isbench.leaderboard.board import load_board
from vfm_isbench.leaderboard.entry import Entry
from vfm_isbench.leaderboard.reproduction import compare_with, mark
from vfm_isbench.leaderboard.trust import evidence_gaps, preset_of, trust_of, why_unranked
from vfm_isbench.protocol import Protocol

MINE = DEMO.replace(name="mine", disk_radius=7)


def with_runs(entry: Entry, **changes: object) -> Entry:
    return dataclasses.replace(entry, runs=tuple(dataclasses.replace(run, **changes) for run in entry.runs))


def test_complete_evidence_is_recomputed_and_ranked() -> None:
    entry = synthetic_entry("mine")
    assert evidence_gaps(entry) == []
    assert trust_of(entry) == "recomputed"
    assert why_unranked(entry) == []


@pytest.mark.parametrize(
    ("entry", "reason", "tier"),
    [
        (synthetic_entry(protocol=DEMO.replace(object_limit=5)), "only the first 5 objects", "self-reported"),
        (synthetic_entry(protocol=DEMO.replace(disk_radius=7)), f"{DEMO.label} protocol in disk_radius", "recomputed"),
        (synthetic_entry(protocol=MINE), f"'{MINE.label}', is not one of", "recomputed"),
        (synthetic_entry(stop_at_iou=(90,)), "clicks were skipped on scenes", "self-reported"),
        (with_runs(synthetic_entry(), speed={"precision": "bfloat16"}), "computed in bfloat16", "recomputed"),
        (with_runs(synthetic_entry(), training=()), "seed 0 was not trained by this library", "recomputed"),
        (with_runs(synthetic_entry(), training=({"epoch": 0},)), f"for 1 of {DEMO.epochs} epochs", "recomputed"),
        (synthetic_entry(seeds=(0,)), "a single training seed: the spread between seeds is unknown", "recomputed"),
        (
            synthetic_entry(protocol=Protocol.preset("paper").replace(test_datasets=("grabcut",)), seeds=(0,)),
            "lacks the test sets berkeley, davis, sbd",
            "recomputed",
        ),
    ],
    ids=[
        "limit", "changed", "no preset", "stopped", "bfloat16", "trained elsewhere", "half trained", "one seed",
        "one set",
    ],
)  # fmt: skip
def test_what_is_never_ranked(entry: Entry, reason: str, tier: str, tmp_path: Path) -> None:
    assert any(reason in one for one in why_unranked(entry)), why_unranked(entry)
    assert trust_of(entry) == tier
    bilinear = entry if entry.upsampler["name"] == "bilinear" else synthetic_entry(protocol=entry.protocol)
    bilinear.save(tmp_path)
    entry.save(tmp_path)
    board = load_board(tmp_path)  # valid all the same
    assert entry.id not in board.standings


@pytest.mark.parametrize("uses", [True, False])
def test_what_ignores_the_backbone_s_features_is_not_ranked(uses: bool, tmp_path: Path) -> None:
    entry = synthetic_entry()
    entry = with_runs(entry, upsampler={**entry.upsampler, "uses_features": uses})
    entry.save(tmp_path)
    board = load_board(tmp_path)  # valid either way
    assert (entry.id in board.standings) == uses
    reasons = why_unranked(board.entries[0])
    assert [reason.partition(",")[0] for reason in reasons] == (
        [] if uses else ["its upsampler ignores the features of the protocol's backbone"]
    )


def test_two_seeds_are_enough_to_be_ranked() -> None:
    assert why_unranked(synthetic_entry(seeds=(3, 5))) == []


def test_parts_of_other_packages_may_be_named(tmp_path: Path) -> None:
    origin = {"kind": "backbone", "name": "tiny", "package": "other", "version": "1.0", "code_sha256": None}
    environment = {**synthetic_entry().runs[0].environment, "plugins": [origin]}
    entry = with_runs(synthetic_entry(), environment=environment)
    entry.save(tmp_path)
    assert load_board(tmp_path).entries[0].runs[0].environment["plugins"] == [origin]


def test_the_label_of_a_protocol_changes_nothing() -> None:
    entry = synthetic_entry(protocol=DEMO.replace(name="mine"))
    assert preset_of(entry.protocol) == DEMO
    assert why_unranked(entry) == []


def test_what_cannot_be_identified_stays_self_reported() -> None:
    entry = synthetic_entry("mine")
    unknown = with_runs(entry, upsampler={**entry.upsampler, "sha256": None})
    assert trust_of(unknown) == "self-reported"
    assert trust_of(with_runs(entry, backbone={**entry.runs[0].backbone, "sha256": None})) == "self-reported"


def test_a_mark_makes_it_reproduced() -> None:
    entry = synthetic_entry("mine")
    marked = entry.marked(mark(compare_with(entry, entry.runs), "A maintainer", "2026-11-26"))
    assert trust_of(marked) == "reproduced"
