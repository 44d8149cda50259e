"""Training takes the courses recorded from the reference implementation: same backbone and recipe, seeds of its own.

Training takes minutes per seed, so the courses of this library are recorded too (``benchmarks/parity/courses.py``).
The tests compare the two groups as equals, and make sure that the code still takes the recorded course.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from course_statistics import (
    apart,
    compare,
    late_means,
    permutation_p_value,
    typical_spread,
    unequally_spread,
    window_means,
)
from parity_models import Deviation
from scipy import stats
from training_courses import (
    SHARED_SEEDS,
    STEPS,
    TRUE_SEEDS,
    WINDOW,
    Course,
    our_course_path,
    our_courses,
    our_sharing_courses,
    read_course,
    recorded_courses,
    train_course,
)

from vfm_isbench.types import Array

LEVEL = 0.01
"""Probability with which one of these comparisons fails although nothing differs."""

SCORES = ["loss", "iou"]

OURS = our_courses()

FIRST, ROUNDING = 10, 0.02
"""In the first steps, other arithmetic changes loss and IoU little: with SSE in place of AVX by up to 0.005."""

DRIFT = {100: 0.01, 400: 0.05}
"""Then the differences grow, because clicks fall elsewhere. So far may means of 50 steps drift apart, by the length of
the training. In 100 steps, SSE in place of AVX changed them by 0.002; for 400 steps that was not measured."""


@pytest.fixture(scope="module")
def theirs(parity_root: Path) -> list[Course]:
    """The reference's courses with initial weights of their own."""
    return recorded_courses(parity_root, TRUE_SEEDS)


@pytest.fixture(scope="module")
def sharing(parity_root: Path) -> list[Course]:
    """The reference's courses that share their initial weights."""
    return recorded_courses(parity_root, SHARED_SEEDS)


@pytest.mark.parametrize("score", SCORES)
def test_late_means_agree(score: str, theirs: list[Course], deviation: Deviation) -> None:
    """The means of steps 200 to 400 differ by no more than those of two such groups do (99 %, Welch)."""
    found = compare(late_means(OURS, score), late_means(theirs, score))
    deviation(f"training: mean {score} of steps 200 to 400", abs(found.difference), found.reach(1 - LEVEL))


@pytest.mark.parametrize("score", SCORES)
def test_late_means_spread_alike(score: str, theirs: list[Course], deviation: Deviation) -> None:
    """So do the standard deviations between seeds: their ratio stays between the bounds of an F test (99 %)."""
    found = compare(late_means(OURS, score), late_means(theirs, score))
    low, high = found.spread_bounds(1 - LEVEL)
    assert low < found.spread_ratio < high
    # As factors, because the bounds of a ratio are not symmetric about 1.
    ratio, limit = (found.spread_ratio, high) if found.spread_ratio > 1 else (1 / found.spread_ratio, 1 / low)
    deviation(f"training: spread of the seeds' {score}, as a factor", ratio, limit)


@pytest.mark.parametrize("statistic", [apart, unequally_spread])
@pytest.mark.parametrize("score", SCORES)
def test_curves_agree(score: str, statistic: Callable[[Array, Array], float], theirs: list[Course]) -> None:
    """Over all windows of 50 steps, no mean differs, nor does the spread (exact permutation test)."""
    p_value = permutation_p_value(window_means(OURS, score), window_means(theirs, score), statistic)
    assert p_value > LEVEL


def test_courses_are_complete() -> None:
    for course in [*OURS, *our_sharing_courses()]:
        assert len(course.loss) == len(course.iou) == STEPS
    assert len({course.loss.tobytes() for course in OURS}) == len(OURS)


def scaled(courses: list[Course], factor: float, spread: float = 1.0) -> list[Course]:
    """Courses whose IoU is multiplied by a factor, and whose distance from their mean curve by another."""
    curves = np.array([course.iou for course in courses])
    middle = curves.mean(axis=0)
    return [Course(course.loss, factor * (middle + spread * (course.iou - middle))) for course in courses]


@pytest.mark.parametrize("factor", [0.85, 1.15])
def test_a_wrong_mean_would_be_noticed(factor: float, theirs: list[Course]) -> None:
    wrong = scaled(theirs, factor)
    found = compare(late_means(wrong, "iou"), late_means(theirs, "iou"))
    assert abs(found.difference) > found.reach(1 - LEVEL)
    assert permutation_p_value(window_means(wrong, "iou"), window_means(theirs, "iou"), apart) < LEVEL


@pytest.mark.parametrize("spread", [0.2, 5.0])
def test_a_wrong_spread_would_be_noticed(spread: float, theirs: list[Course]) -> None:
    wrong = scaled(theirs, 1.0, spread)
    found = compare(late_means(wrong, "iou"), late_means(theirs, "iou"))
    low, high = found.spread_bounds(1 - LEVEL)
    assert not low < found.spread_ratio < high
    assert permutation_p_value(window_means(wrong, "iou"), window_means(theirs, "iou"), unequally_spread) < LEVEL


@pytest.mark.parametrize("statistic", [apart, unequally_spread])
def test_the_permutation_test_is_exact(statistic: Callable[[Array, Array], float]) -> None:
    """With nothing to find, p-values of at most 3/35 come in 3 of 35 cases; three standard errors are 0.06."""
    rng = np.random.default_rng(0)
    groups = [rng.normal(size=(7, 3)) * rng.gamma(4, size=3) for _ in range(200)]
    found = [permutation_p_value(group[:4], group[4:], statistic) for group in groups]
    assert 3 / 35 - 0.06 < np.mean(np.array(found) < 0.1) < 3 / 35 + 0.06


@pytest.mark.parametrize("score", SCORES)
def test_recorded_seeds_that_share_initial_weights_are_no_replicates(
    score: str, sharing: list[Course], theirs: list[Course]
) -> None:
    """They stay closer together than any three of the six seeds with initial weights of their own."""
    curves = window_means(theirs, score)
    triples = [typical_spread(curves[list(three)]) for three in combinations(range(len(curves)), len(sharing))]
    assert typical_spread(window_means(sharing, score)) < min(triples)
    if score == "iou":
        found = compare(late_means(sharing, score), late_means(theirs, score))
        assert found.spread_ratio < found.spread_bounds(1 - LEVEL)[0], "the test of spreads would reject them"


def check_against_record(seed: int, steps: int, parity_root: Path, real_root: Path, deviation: Deviation) -> Course:
    """Train again, and compare with the record of this library."""
    course, kept = train_course(parity_root, real_root, seed, seed, steps), read_course(our_course_path(seed, seed))
    for score in SCORES:
        differences = course.score(score) - kept.score(score)[:steps]
        first = np.abs(differences[:FIRST]).max()
        deviation(f"training: {score} of the first {FIRST} steps, as in our record", first, ROUNDING)
        drift = np.abs(differences.reshape(-1, WINDOW).mean(axis=1)).max()
        deviation(f"training: {score} of {WINDOW} steps, as in our record", drift, DRIFT[steps])
    return course


def test_training_follows_the_record(parity_root: Path, real_root: Path, deviation: Deviation) -> None:
    check_against_record(0, 2 * WINDOW, parity_root, real_root, deviation)


@pytest.mark.slow
def test_a_whole_training_follows_the_record_and_is_one_of_theirs(
    parity_root: Path, real_root: Path, theirs: list[Course], deviation: Deviation
) -> None:
    """The seed's late means lie where a seventh recording would (99 % prediction interval)."""
    course = check_against_record(1, STEPS, parity_root, real_root, deviation)
    for score in SCORES:
        means = late_means(theirs, score)
        reach = stats.t.ppf(1 - LEVEL / 2, len(means) - 1) * means.std(ddof=1) * np.sqrt(1 + 1 / len(means))
        difference = abs(late_means([course], score).item() - means.mean())
        deviation(f"training: mean {score} of steps 200 to 400, one seed", difference, reach)
