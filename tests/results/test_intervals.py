"""Intervals depend only on what they should, end where scores end, and are missing if unknown.

Whether they cover the truth as often as promised is tested in ``test_variance.py``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from result_builder import result_of
from scipy import stats

from vfm_isbench import compare, regress
from vfm_isbench.errors import VfmIsbenchWarning
from vfm_isbench.results.intervals import Estimate, estimate_difference, estimate_mean
from vfm_isbench.viz import iou_curves

IMAGES = ["a", "a", "b", "c", "c", "c", "d", "e"]
SCORES = np.random.default_rng(3).uniform(1, 20, (3, len(IMAGES)))


def test_the_errors_are_those_of_textbooks() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(1, 400))
    estimate = estimate_mean(scores, [f"{number}" for number in range(400)])
    expected = scores.std(ddof=1) / 20
    assert estimate.objects_error == pytest.approx(expected, rel=0.03)
    assert estimate.high - estimate.value == pytest.approx(stats.t.ppf(0.975, 399) * expected, rel=0.05)
    assert estimate.value - estimate.low == pytest.approx(stats.t.ppf(0.975, 399) * expected, rel=0.05)


def test_seeds_alone_give_the_interval_of_students_t() -> None:
    """Objects do not differ, so only seeds matter."""
    scores = np.array([[1.0], [2.0], [6.0]]) * np.ones((1, 8))
    estimate = estimate_mean(scores, IMAGES)
    expected = stats.ttest_1samp([1.0, 2.0, 6.0], 0.0).confidence_interval(0.95)
    assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high), rel=0.01)
    assert estimate.objects_error == pytest.approx(0, abs=1e-12)
    assert estimate.seeds_error == pytest.approx(np.std([1, 2, 6], ddof=1) / math.sqrt(3))

    other = np.array([[4.0], [5.0], [5.0], [9.0]]) * np.ones((1, 8))
    difference = estimate_difference(scores, other, IMAGES)
    expected = stats.ttest_ind([4.0, 5.0, 5.0, 9.0], [1.0, 2.0, 6.0]).confidence_interval(0.95)
    assert (difference.low, difference.high) == pytest.approx((expected.low, expected.high), rel=0.01)


def test_a_side_with_one_seed_borrows_the_spread_of_the_other() -> None:
    first = SCORES[:1] + np.array([[0.0], [1.0], [5.0]])
    spread = np.std([0, 1, 5], ddof=1)
    assert estimate_difference(first, first[:1], IMAGES).seeds_error == pytest.approx(spread * math.sqrt(1 / 3 + 1))
    assert estimate_difference(first[:1], first[:1], IMAGES).seeds_error is None
    assert estimate_mean(first[:1], IMAGES).seeds_error is None


def test_the_spread_of_the_seeds_counts_only_as_far_as_it_exceeds_that_of_object_and_seed() -> None:
    rng = np.random.default_rng(0)
    noise = estimate_mean(rng.normal(size=(3, 50)), [f"{number}" for number in range(50)])
    assert noise.seeds_error is not None and noise.seeds_error < 0.1
    assert noise.error == pytest.approx(1 / math.sqrt(150), rel=0.35)
    # Once more with seeds that cannot agree by chance: their mean squares are below what objects and seeds explain.
    scores = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert estimate_mean(scores, ["a", "b", "c"]).seeds_error == 0.0


def test_paired_seeds_lose_what_they_share() -> None:
    luck = np.array([[0.0], [5.0], [-3.0]])
    difference = estimate_difference(SCORES + luck, SCORES + luck + 1.0, IMAGES, paired_seeds=True)
    assert difference.value == pytest.approx(1.0)
    assert (difference.low, difference.high) == pytest.approx((1.0, 1.0))
    assert estimate_difference(SCORES + luck, SCORES + luck + 1.0, IMAGES).high > 3
    assert estimate_difference(SCORES, SCORES, IMAGES, paired_seeds=True) == Estimate(0.0, 0.0, 0.0, 0.0, 0.0)


def numbers(estimate: Estimate) -> list[float]:
    return [estimate.value, estimate.low, estimate.high, estimate.objects_error, estimate.seeds_error or 0.0]


@settings(max_examples=30)
@given(
    st.permutations(range(len(IMAGES))), st.permutations(range(3)), st.floats(-5, 5), st.floats(0.1, 10), st.booleans()
)
def test_order_does_not_matter_and_units_carry_through(
    objects: list[int], seeds: list[int], shift: float, factor: float, is_mirrored: bool
) -> None:
    plain = numbers(estimate_mean(SCORES, IMAGES))
    shuffled = SCORES[seeds][:, objects]
    names = [IMAGES[place] for place in objects]
    assert numbers(estimate_mean(shuffled, names)) == pytest.approx(plain)
    moved = numbers(estimate_mean(factor * shuffled + shift, names))
    expected = [factor * number + shift for number in plain[:3]] + [factor * number for number in plain[3:]]
    assert moved == pytest.approx(expected)
    # The difference from a constant is the mean itself.
    constant = np.full((1, len(IMAGES)), shift)
    apart = estimate_mean(SCORES - shift, IMAGES)
    paired = estimate_difference(np.repeat(constant, 3, axis=0), SCORES, IMAGES, paired_seeds=True)
    assert numbers(paired) == pytest.approx(numbers(apart))


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.floats(0.5, 0.94), st.integers(1, 4))
def test_more_confidence_never_narrows(seed: int, confidence: float, seeds: int) -> None:
    scores = np.random.default_rng(seed).normal(size=(seeds, len(IMAGES)))
    wide = estimate_mean(scores, IMAGES, confidence=0.95)
    narrow = estimate_mean(scores, IMAGES, confidence=confidence)
    assert wide.low <= narrow.low <= narrow.high <= wide.high
    assert wide.objects_error == narrow.objects_error


@pytest.mark.parametrize(("low", "high"), [(1, 20), (0, 1)])
def test_intervals_end_where_scores_end(low: float, high: float) -> None:
    """One object far from the others, which are at the limit."""
    for end, other in ((low, high), (high, low)):
        scores = np.full((2, 8), float(end))
        scores[:, 0] = other
        free, cut = estimate_mean(scores, IMAGES), estimate_mean(scores, IMAGES, limits=(low, high))
        assert free.low < low or free.high > high
        assert low <= cut.low <= cut.value <= cut.high <= high
        assert (cut.low, cut.high) == (max(free.low, low), min(free.high, high))
        apart = estimate_difference(scores, np.full((2, 8), float(other)), IMAGES, limits=(low, high))
        assert low - high <= apart.low <= apart.value <= apart.high <= high - low
        assert end in (cut.low, cut.high) and other - end in (apart.low, apart.high)


def test_skewed_scores_move_both_ends_towards_the_long_tail() -> None:
    scores = np.array([[1.0] * 17 + [20.0] * 3])
    names = [f"{number}" for number in range(20)]
    estimate, mirrored = estimate_mean(scores, names), estimate_mean(-scores, names)
    assert estimate.high - estimate.value > 1.5 * (estimate.value - estimate.low) > 0
    assert (mirrored.low, mirrored.high) == pytest.approx((-estimate.high, -estimate.low))


def test_no_global_random_numbers_are_touched() -> None:
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    estimate_mean(SCORES, IMAGES)
    assert (np.random.get_state()[1] == before).all()


@pytest.mark.parametrize("value", [0.0, 0.1, 20.0])
def test_equal_scores_leave_no_doubt(value: float) -> None:
    estimate = estimate_mean(np.full((2, 8), value), IMAGES)
    assert numbers(estimate) == pytest.approx([value, value, value, 0.0, 0.0], abs=1e-12)


@pytest.mark.parametrize("objects", [1, 4])
def test_one_image_gives_no_interval(objects: int) -> None:
    estimate = estimate_mean(SCORES[:, :objects], ["a"] * objects)
    assert estimate.value == pytest.approx(SCORES[:, :objects].mean())
    assert math.isnan(estimate.low) and math.isnan(estimate.high) and math.isnan(estimate.objects_error)
    assert estimate.seeds_error is not None


def test_a_missing_score_makes_everything_missing() -> None:
    scores = SCORES.copy()
    scores[1, 4] = math.nan
    for estimate in (estimate_mean(scores, IMAGES), estimate_difference(SCORES, scores, IMAGES)):
        assert all(math.isnan(number) for number in numbers(estimate))


def test_a_set_as_large_as_sbd_takes_no_time() -> None:
    """6671 objects in 2857 images. Measured: 0.01 s; the bound allows for busy machines."""
    rng = np.random.default_rng(0)
    images = [f"{number:05d}" for number in np.sort(np.append(np.arange(2857), rng.integers(0, 2857, 6671 - 2857)))]
    scores = rng.uniform(1, 20, (3, 6671))
    start = time.process_time()
    estimate = estimate_mean(scores, images)
    assert time.process_time() - start < 1
    assert estimate.low < scores.mean() < estimate.high


@pytest.mark.parametrize(
    ("scores", "images", "more"),
    [
        (SCORES[0], IMAGES, {}),
        (SCORES, IMAGES[1:], {}),
        (np.empty((0, 8)), IMAGES, {}),
        (np.empty((1, 0)), [], {}),
        (SCORES, IMAGES, {"confidence": 1.0}),
        (SCORES, IMAGES, {"confidence": 0.0}),
    ],
)
def test_what_makes_no_sense_is_refused(scores: np.ndarray, images: list[str], more: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        estimate_mean(scores, images, **more)


def test_unequal_numbers_of_seeds_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="3 and 2 rows"):
        estimate_difference(SCORES, SCORES[:2], IMAGES, paired_seeds=True)


@pytest.mark.parametrize(
    ("function", "given"),
    [
        (compare, {"resamples": 7}),
        (compare, {"seed": 0}),
        (regress, {"resamples": 7, "seed": 1}),
        (iou_curves, {"resamples": 7}),
    ],
)
def test_options_of_draws_only_cause_a_warning(function: Callable[..., object], given: dict[str, int]) -> None:
    first, second = (result_of(name, {"davis": SCORES.T / 20}, sha256=name) for name in "ab")
    said = " and ".join(f"`{name}`" for name in given) + ".* no effect any more"
    with pytest.warns(VfmIsbenchWarning, match=said):
        found = function([first, second], **given) if function is iou_curves else function(first, second, **given)
    if function is not iou_curves:
        assert str(found) == str(function(first, second))
