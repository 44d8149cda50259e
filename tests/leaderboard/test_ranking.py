"""Ranks: tie groups follow their rule, for made-up scores and for entries in any order."""

from __future__ import annotations

import random
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from result_builder import synthetic_entry

from vfm_isbench.leaderboard.board import Board, group_id
from vfm_isbench.leaderboard.ranking import paired_difference, rank_entries, ranks_with_ties
from vfm_isbench.leaderboard.scores import at_the_cap, curve, images_of, per_object, score
from vfm_isbench.protocol import PRESETS, Protocol
from vfm_isbench.results.bootstrap import Estimate, estimate_mean


@st.composite
def standings(draw: st.DrawFn) -> tuple[list[float], set[frozenset[int]]]:
    """Mean scores, and any set of inseparable pairs: inseparability is not transitive."""
    means = draw(st.lists(st.integers(0, 20).map(float), min_size=1, max_size=8))
    pairs = [frozenset(pair) for pair in combinations(range(len(means)), 2)]
    tied = set(draw(st.lists(st.sampled_from(pairs), unique=True))) if pairs else set()
    return means, tied | {pair for pair in pairs if len({means[index] for index in pair}) == 1}


@given(standings())
def test_what_cannot_be_told_apart_shares_a_rank(case: tuple[list[float], set[frozenset[int]]]) -> None:
    means, tied = case
    ranks = ranks_with_ties(means, lambda a, b: frozenset((a, b)) not in tied)
    for pair in tied:
        first, second = pair
        assert ranks[first] == ranks[second]


@given(standings())
def test_ranks_follow_the_scores_and_count_those_above(case: tuple[list[float], set[frozenset[int]]]) -> None:
    means, tied = case
    ranks = ranks_with_ties(means, lambda a, b: frozenset((a, b)) not in tied)
    for first, second in combinations(range(len(means)), 2):
        if means[first] < means[second]:
            assert ranks[first] <= ranks[second]
    for rank in ranks:
        assert rank == 1 + sum(other < rank for other in ranks)


@given(standings())
def test_groups_are_no_larger_than_they_must_be(case: tuple[list[float], set[frozenset[int]]]) -> None:
    """Within a group, every cut of the order has an inseparable pair across it."""
    means, tied = case
    ranks = ranks_with_ties(means, lambda a, b: frozenset((a, b)) not in tied)
    order = sorted(range(len(means)), key=lambda index: means[index])
    for cut in range(1, len(order)):
        above, below = order[cut - 1], order[cut]
        if ranks[above] == ranks[below]:
            assert any({a, b} in tied for a in order[:cut] for b in order[cut:])


@given(standings(), st.randoms(use_true_random=False))
def test_ranks_do_not_depend_on_the_order_of_entries(
    case: tuple[list[float], set[frozenset[int]]], shuffler: random.Random
) -> None:
    means, tied = case
    ranks = ranks_with_ties(means, lambda a, b: frozenset((a, b)) not in tied)
    places = list(range(len(means)))
    shuffler.shuffle(places)
    shuffled = ranks_with_ties(
        [means[place] for place in places], lambda a, b: frozenset((places[a], places[b])) not in tied
    )
    assert shuffled == [ranks[place] for place in places]


def test_a_chain_of_ties_shares_a_rank() -> None:
    """A and B are inseparable, and B and C; A and C are separable."""
    tied = ({0, 1}, {1, 2})
    assert ranks_with_ties([1.0, 2.0, 3.0, 9.0], lambda a, b: {a, b} not in tied) == [1, 1, 1, 4]


def test_all_separable_and_none() -> None:
    assert ranks_with_ties([3.0, 1.0, 2.0], lambda a, b: True) == [3, 1, 2]
    assert ranks_with_ties([3.0, 1.0, 2.0], lambda a, b: False) == [1, 1, 1]


SEEDS = (0, 1, 2)
FAR = synthetic_entry("far", skill=1.2)
GOOD = synthetic_entry("good", skill=0.5)
ALIKE = synthetic_entry("alike", skill=0.5)
BASELINE = synthetic_entry("bilinear")


def test_entries_are_ranked_with_ties() -> None:
    found = rank_entries([BASELINE, ALIKE, FAR, GOOD], ["scenes"])
    assert {one: standing.rank for one, standing in found.items()} == {
        FAR.id: 1, GOOD.id: 2, ALIKE.id: 2, BASELINE.id: 4,
    }  # fmt: skip
    assert found[GOOD.id].tied_with == (ALIKE.id,)
    assert found[ALIKE.id].tied_with == (GOOD.id,)
    assert found[FAR.id].tied_with == ()
    assert found[BASELINE.id].ranks == {"scenes": 4}
    assert found[BASELINE.id].mean_rank == 4


@settings(max_examples=6)
@given(st.permutations([FAR, GOOD, ALIKE, BASELINE]))
def test_standings_do_not_depend_on_the_order_of_entries(entries: list) -> None:
    assert rank_entries(entries, ["scenes"]) == rank_entries([FAR, GOOD, ALIKE, BASELINE], ["scenes"])


def test_separable_means_that_the_interval_leaves_out_zero() -> None:
    assert Estimate(1.0, 0.1, 2.0, 0.5, None).excludes_zero
    assert Estimate(-1.0, -2.0, -0.1, 0.5, None).excludes_zero
    assert not Estimate(1.0, -0.1, 2.0, 0.5, None).excludes_zero
    assert not Estimate(1.0, float("nan"), float("nan"), float("nan"), None).excludes_zero
    assert paired_difference(BASELINE, FAR, "scenes").excludes_zero
    assert not paired_difference(GOOD, ALIKE, "scenes").excludes_zero
    assert paired_difference(BASELINE, FAR, "scenes").value < 0


def test_over_several_test_sets_entries_are_ranked_by_their_mean_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    two = Protocol.preset("demo").replace(name="two", test_datasets=("scenes", "grabcut"), disk_radius=7.0)
    monkeypatch.setitem(PRESETS, "two", two)
    best = synthetic_entry("best", protocol=two, skill=1.0)
    alike = synthetic_entry("alike", protocol=two, skill=1.0)
    worse = synthetic_entry("bilinear", protocol=two)
    found = Board((best, alike, worse)).standings
    assert found[worse.id].ranks == {"scenes": 3, "grabcut": 3}
    assert (found[best.id].rank, found[alike.id].rank, found[worse.id].rank) == (1, 1, 3)
    assert found[best.id].tied_with == (alike.id,)
    # Better on one, worse on the other.
    mixed = rank_entries([best, worse], ["scenes", "grabcut"])
    assert mixed[worse.id].mean_rank == 2


def test_only_comparable_entries_are_ranked_together(monkeypatch: pytest.MonkeyPatch) -> None:
    other = Protocol.preset("demo").replace(name="other", disk_radius=7.0)
    monkeypatch.setitem(PRESETS, "other", other)
    apart = synthetic_entry("far", skill=1.2, protocol=other)
    board = Board((BASELINE, apart))
    assert board.standings[BASELINE.id].rank == board.standings[apart.id].rank == 1
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
