"""Ranks of entries: with ranges, by the mean score over test sets, for entries in any order."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from result_builder import DEMO, synthetic_entry

from vfm_isbench.leaderboard.board import Board, group_id
from vfm_isbench.leaderboard.ranking import rank_entries
from vfm_isbench.leaderboard.reproduction import paired_difference
from vfm_isbench.leaderboard.scores import at_the_cap, curve, images_of, per_object, score
from vfm_isbench.protocol import PRESETS, Protocol
from vfm_isbench.protocol.protocol import HEADLINES
from vfm_isbench.results.intervals import Estimate, estimate_mean

FAR = synthetic_entry("far", skill=1.2)
GOOD = synthetic_entry("good", skill=0.5)
ALIKE = synthetic_entry("alike", skill=0.5)
BASELINE = synthetic_entry("bilinear")


def test_entries_are_ranked_with_ranges() -> None:
    found = rank_entries([BASELINE, ALIKE, FAR, GOOD], ["scenes"], "noc90")
    assert str(found[FAR.id].overall) == "1 (1–1)"
    assert str(found[BASELINE.id].overall) == "4 (4–4)"
    assert {str(found[entry.id].overall) for entry in (GOOD, ALIKE)} == {"2 (2–3)", "3 (2–3)"}
    assert found[GOOD.id].better == (FAR.id,)
    assert found[FAR.id].worse == (*sorted((GOOD.id, ALIKE.id), key=lambda one: found[one].overall.rank), BASELINE.id)
    assert found[GOOD.id].tied_with == ()
    assert found[BASELINE.id].places == {"scenes": found[BASELINE.id].overall}
    assert found[BASELINE.id].mean_rank == 4


def test_entries_with_the_same_score_share_a_rank() -> None:
    twin = dataclasses.replace(GOOD, name="twin")
    found = rank_entries([GOOD, twin, BASELINE], ["scenes"], "noc90")
    assert found[twin.id].tied_with == (GOOD.id,)
    assert [str(found[entry.id].overall) for entry in (GOOD, twin, BASELINE)] == ["1 (1–2)", "1 (1–2)", "3 (3–3)"]


@settings(max_examples=6)
@given(st.permutations([FAR, GOOD, ALIKE, BASELINE]))
def test_standings_do_not_depend_on_the_order_of_entries(entries: list) -> None:
    found = rank_entries(entries, ["scenes"], "noc90")
    assert found == rank_entries([FAR, GOOD, ALIKE, BASELINE], ["scenes"], "noc90")


@pytest.mark.parametrize("metric", ["noc80", "iou_at_1"])
def test_entries_are_ranked_by_any_metric_best_first(metric: str) -> None:
    found = rank_entries([BASELINE, FAR, GOOD], ["scenes"], metric)
    assert [found[entry.id].overall.rank for entry in (FAR, GOOD, BASELINE)] == [1, 2, 3]
    assert {standing.metric for standing in found.values()} == {metric}
    assert found[FAR.id].overall.value == pytest.approx(per_object(FAR, "scenes", metric).mean())


def test_versions_of_a_preset_are_ranked_apart_by_their_own_headlines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(HEADLINES, ("demo", Protocol.preset("demo").version), "iou_at_1")
    new = [synthetic_entry(name, protocol="demo", skill=skill) for name, skill in (("new", 0.5), ("bilinear", 0))]
    board = Board((BASELINE, FAR, *new))
    assert [len(members) for members in board.groups.values()] == [2, 2]
    ranks = {entry.id: (found.overall.rank, found.metric) for entry in board.entries
             if (found := board.standings[entry.id])}  # fmt: skip
    assert ranks == {
        BASELINE.id: (2, "noc90"), FAR.id: (1, "noc90"), new[0].id: (1, "iou_at_1"), new[1].id: (2, "iou_at_1"),
    }  # fmt: skip


def test_separable_means_that_the_interval_leaves_out_zero() -> None:
    assert Estimate(1.0, 0.1, 2.0, 0.5, None).excludes_zero
    assert Estimate(-1.0, -2.0, -0.1, 0.5, None).excludes_zero
    assert not Estimate(1.0, -0.1, 2.0, 0.5, None).excludes_zero
    assert not Estimate(1.0, float("nan"), float("nan"), float("nan"), None).excludes_zero
    assert paired_difference(BASELINE, FAR, "scenes", "noc90").excludes_zero
    assert not paired_difference(GOOD, ALIKE, "scenes", "noc90").excludes_zero
    assert paired_difference(BASELINE, FAR, "scenes", "noc90").value < 0


def test_over_several_test_sets_the_mean_score_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    two = DEMO.replace(name="two", test_datasets=("scenes", "grabcut"), disk_radius=7.0)
    monkeypatch.setitem(PRESETS, "two", two)
    best = synthetic_entry("best", protocol=two, skill=1.0)
    alike = synthetic_entry("alike", protocol=two, skill=1.0)
    worse = synthetic_entry("bilinear", protocol=two)
    found = Board((best, alike, worse)).standings
    assert {name: str(place) for name, place in found[worse.id].places.items()} == {
        "scenes": "3 (3–3)", "grabcut": "3 (3–3)",
    }  # fmt: skip
    assert str(found[worse.id].overall) == "3 (3–3)"
    means = [per_object(worse, name, "noc90").mean() for name in ("scenes", "grabcut")]
    assert found[worse.id].overall.value == pytest.approx(np.mean(means))
    assert {found[best.id].overall.rank, found[alike.id].overall.rank} == {1, 2}
    assert all((found[entry.id].overall.low, found[entry.id].overall.high) == (1, 2) for entry in (best, alike))


def test_only_comparable_entries_are_ranked_together(monkeypatch: pytest.MonkeyPatch) -> None:
    other = DEMO.replace(name="other", disk_radius=7.0)
    monkeypatch.setitem(PRESETS, "other", other)
    apart = synthetic_entry("far", skill=1.2, protocol=other)
    board = Board((BASELINE, apart))
    assert board.standings[BASELINE.id].overall.rank == board.standings[apart.id].overall.rank == 1
    assert group_id(BASELINE) != group_id(apart)
    assert group_id(BASELINE) == group_id(FAR)


def test_scores_are_means_over_seeds_with_the_interval_of_the_library() -> None:
    for metric, percent in (("noc80", 80), ("noc85", 85), ("noc90", 90)):
        estimate = score(GOOD, "scenes", metric)
        assert estimate is not None
        assert estimate.value == pytest.approx(np.mean([run.datasets["scenes"].noc(percent) for run in GOOD.runs]))
        assert estimate == estimate_mean(per_object(GOOD, "scenes", metric), images_of(GOOD, "scenes"), limits=(1, 20))
        assert estimate.low < estimate.value < estimate.high
    at_one = score(GOOD, "scenes", "iou_at_1")
    assert at_one is not None
    assert at_one.value == pytest.approx(np.mean([run.datasets["scenes"].iou_at(1) for run in GOOD.runs]))
    assert curve(GOOD, "scenes")[0] == pytest.approx(at_one.value)
    assert at_the_cap(GOOD, "scenes") == pytest.approx(
        np.mean([run.datasets["scenes"].scores()["not_reached90"] for run in GOOD.runs])
    )


def test_what_an_early_stop_leaves_unknown_is_missing() -> None:
    """Never zero, never the mean of the existing values."""
    entry = synthetic_entry("good", skill=0.5, stop_at_iou=(80, 85))
    assert score(entry, "scenes", "noc85") == score(GOOD, "scenes", "noc85")
    assert score(entry, "scenes", "iou_at_1") == score(GOOD, "scenes", "iou_at_1")
    assert score(entry, "scenes", "noc90") is None
    assert at_the_cap(entry, "scenes") is None
    means = curve(entry, "scenes")
    assert means[0] == pytest.approx(curve(GOOD, "scenes")[0])
    assert means[-1] is None
    board = Board((BASELINE, entry))
    assert set(board.standings) == {BASELINE.id}
