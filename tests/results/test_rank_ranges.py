"""Ranges of ranks hold all true ranks as often as promised, are narrow where entries differ, and are plain to check."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pytest
from simulated_boards import simulated_board, true_ranges

from vfm_isbench.results import rank_ranges
from vfm_isbench.results.rank_ranges import BoardScores, Place, places

IMAGES = [f"{number // 2}" for number in range(40)]


def board(*shifts: float, seeds: int = 3, noise: float = 0.5) -> BoardScores:
    """Entries that differ by a constant and a little noise."""
    rng = np.random.default_rng(5)
    difficulty = rng.uniform(3, 15, 40)
    return BoardScores(tuple(difficulty + shift + noise * rng.normal(size=(seeds, 40)) for shift in shifts), IMAGES)


def ranges(found: Sequence[Place]) -> list[tuple[int, int, int]]:
    return [(place.rank, place.low, place.high) for place in found]


def coverage(levels: Sequence[float], boards: int, *, draws: int = 400, **more: float) -> tuple[float, float]:
    """Share of boards whose ranges hold the true ranks of all entries, and the mean width of the ranges."""
    rng = np.random.default_rng(len(levels))
    low, high = true_ranges(levels)
    hits, widths = 0, 0.0
    for trial in range(boards):
        sets, seeds = simulated_board(rng, levels, **more)  # type: ignore[arg-type]
        found = places(sets, seeds, draws=draws, seed=trial)
        lows, highs = np.array([place.low for place in found]), np.array([place.high for place in found])
        hits += bool((lows <= low).all() and (highs >= high).all())
        widths += float((highs - lows + 1).mean())
    return hits / boards, widths / boards


# The hardest case is that all entries are equal: every pair may go wrong.
@pytest.mark.parametrize(
    ("entries", "boards", "more"),
    [(2, 200, {}), (5, 200, {}), (5, 100, {"seeds_spread": 1.5}), (5, 60, {"sets": 2}), (30, 100, {}),
     (30, 60, {"images": 15}), (200, 12, {})],
)  # fmt: skip
def test_ranges_hold_all_true_ranks_of_equal_entries(entries: int, boards: int, more: dict[str, float]) -> None:
    share, _ = coverage([12.0] * entries, boards, **more)
    # 95 % promised, less two standard errors of so few boards.
    assert share >= 0.95 - 2 * np.sqrt(0.95 * 0.05 / boards)


@pytest.mark.parametrize(("entries", "boards", "widest"), [(5, 60, 2.0), (30, 30, 16.0), (200, 4, 125.0)])
def test_ranges_of_different_entries_hold_all_true_ranks_and_are_narrow(
    entries: int, boards: int, widest: float
) -> None:
    share, width = coverage(list(np.linspace(6, 18, entries)), boards)
    assert share >= 0.95
    assert width <= widest


def test_without_correction_for_all_pairs_ranges_would_be_too_narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    def one_pair(covariance: np.ndarray, scale: np.ndarray, draws: int, seed: int) -> np.ndarray:
        return np.abs(np.random.default_rng(seed).normal(size=draws))

    monkeypatch.setattr(rank_ranges, "_largest_of_all_pairs", one_pair)
    share, _ = coverage([12.0] * 30, 20)
    assert share < 0.5


def test_without_the_seeds_part_ranges_would_be_too_narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        rank_ranges, "_seeds_part", lambda sets, seeds: rank_ranges._SeedsPart(np.zeros(len(seeds)), 1.0)
    )
    share, _ = coverage([12.0] * 5, 60, seeds_spread=1.5, images=80)
    assert share < 0.8


def test_clear_differences_give_ranks_without_doubt() -> None:
    found = places([board(3.0, 0.0, 1.5)], [(0, 1, 2)] * 3)
    assert ranges(found) == [(3, 3, 3), (1, 1, 1), (2, 2, 2)]
    assert [str(place) for place in found] == ["3 (3–3)", "1 (1–1)", "2 (2–2)"]
    assert (found[0].better, found[1].worse) == ((1, 2), (0, 2))


def test_a_chain_of_entries_that_cannot_be_told_apart_keeps_its_ends_apart() -> None:
    """What tie groups could not say: neighbours are level, the first and the last are not."""
    found = places([board(*np.linspace(0, 1.2, 13), noise=1.0)], [(0, 1, 2)] * 13)
    first, last = min(found, key=lambda place: place.rank), max(found, key=lambda place: place.rank)
    assert 1 < first.high <= last.low < 13


def test_for_iou_more_is_better() -> None:
    assert ranges(places([board(3.0, 0.0)], [(0, 1, 2)] * 2, fewer_is_better=False)) == [(1, 1, 1), (2, 2, 2)]


def test_equal_entries_share_the_rank() -> None:
    one = board(0.0).scores[0]
    found = places([BoardScores((one, one, one + 5), IMAGES)], [(0, 1, 2)] * 3)
    assert ranges(found) == [(1, 1, 2), (1, 1, 2), (3, 3, 3)]


def test_a_rank_lies_in_its_range_and_ranges_count_who_is_shown_to_be_better_or_worse() -> None:
    rng = np.random.default_rng(0)
    sets, seeds = simulated_board(rng, list(rng.uniform(5, 18, 25)), sets=2)
    found = places(sets, seeds, draws=500)
    for number, place in enumerate(found):
        assert place.low <= place.rank <= place.high
        assert place.low == 1 + len(place.better) and place.high == 25 - len(place.worse)
        assert all(number in found[other].worse and found[other].value < place.value for other in place.better)
    assert places(sets, seeds, draws=500) == found


def test_over_several_sets_the_mean_of_the_scores_counts_and_not_that_of_ranks() -> None:
    """Better by a click on one set, a little worse on two: first, although its ranks are 1, 2 and 2."""
    far, near = board(0.0, 3.0), board(0.3, 0.0)
    found = places([far, near, near], [(0, 1, 2)] * 2)
    assert [place.rank for place in found] == [1, 2]
    assert found[0].value == pytest.approx(np.mean([part.scores[0].mean() for part in (far, near, near)]))


def test_seeds_may_differ_in_name_and_number() -> None:
    wide, narrow = board(0.0, 3.0), board(0.0, seeds=5)
    found = places([BoardScores((*wide.scores, narrow.scores[0]), IMAGES)], [(0, 1, 2), (0, 1, 2), (4, 5, 6, 7, 8)])
    assert [place.rank for place in found][1] == 3
    single = [BoardScores(tuple(scores[:1] for scores in wide.scores), IMAGES)]
    assert ranges(places(single, [(0,), (0,)])) == [(1, 1, 1), (2, 2, 2)]


def test_what_common_seeds_do_to_all_entries_alike_does_not_count() -> None:
    luck = np.array([[-2.0], [0.0], [2.0]])
    scores = tuple(found + luck for found in board(0.0, 1.5).scores)
    assert ranges(places([BoardScores(scores, IMAGES)], [(0, 1, 2)] * 2)) == [(1, 1, 1), (2, 2, 2)]
    assert ranges(places([BoardScores(scores, IMAGES)], [(0, 1, 2), (3, 4, 5)])) == [(1, 1, 2), (2, 1, 2)]


def test_common_seeds_cost_a_degree_of_freedom_each() -> None:
    scores = [board(*[0.0] * 4)]
    assert rank_ranges._seeds_part(scores, [(0, 1, 2)] * 4).freedom == pytest.approx((4 - 1) * (3 - 1))
    assert rank_ranges._seeds_part(scores, [(0, 1, 2)] * 3 + [(3, 4, 5)]).freedom == pytest.approx(4 * (3 - 1))


def test_variances_of_differences_are_those_of_textbooks() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(2, 1, 12))
    names = [f"{number}" for number in range(12)]
    one = BoardScores(tuple(scores), names)
    errors = rank_ranges._errors([one], [(0,), (0,)])
    variance = (scores[1, 0] - scores[0, 0]).var(ddof=1) / 12
    assert errors.objects[0, 1] == pytest.approx(variance)
    assert errors.objects_freedom[0, 1] == pytest.approx(11)
    twice = rank_ranges._errors([one, one], [(0,), (0,)])
    assert twice.objects[0, 1] == pytest.approx(variance / 2)
    assert twice.objects_freedom[0, 1] == pytest.approx(22)


def test_with_fewer_images_than_entries_scores_are_taken_as_less_dependent() -> None:
    """Otherwise 40 entries on 10 images would be taken for combinations of nine."""
    deviations = rank_ranges._deviations(np.random.default_rng(0).normal(size=(40, 10)), list("abcdefghij"))
    own = deviations - deviations.mean(axis=0)
    covariance = rank_ranges._regularised(deviations)
    np.testing.assert_allclose(np.diag(covariance), np.square(own).sum(axis=1))
    assert np.linalg.matrix_rank(own @ own.T) == 9 and np.linalg.matrix_rank(covariance) == 40


def test_missing_scores_have_no_rank_and_do_not_count() -> None:
    scores = board(0.0, 3.0).scores
    found = places([BoardScores((np.full_like(scores[0], np.nan), *scores), IMAGES)], [(0, 1, 2)] * 3)
    assert ranges(found) == [(0, 0, 0), (1, 1, 1), (2, 2, 2)]
    assert (found[2].better, found[1].worse) == ((1,), (2,)), "indices of all entries"
    assert str(found[0]) == "–"


def test_a_single_image_tells_nothing_apart() -> None:
    found = places([BoardScores(board(0.0, 3.0).scores, ["one"] * 40)], [(0, 1, 2)] * 2)
    assert ranges(found) == [(1, 1, 2), (2, 1, 2)]
    assert ranges(places([board(1.0)], [(0, 1, 2)])) == [(1, 1, 1)]


def test_a_board_of_200_entries_takes_seconds() -> None:
    sets, seeds = simulated_board(np.random.default_rng(0), list(np.linspace(6, 18, 200)))
    before = time.process_time()
    places(sets, seeds)
    assert time.process_time() - before < 20
