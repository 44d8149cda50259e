"""Compare two groups of trainings as equals: neither is the truth, and both spread."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import stats
from training_courses import LATE, WINDOW, Course

from vfm_isbench.types import Array


def window_means(courses: Sequence[Course], score: str, start: int = 0) -> Array:
    """Means of :data:`WINDOW` steps each, from step ``start`` on: courses × windows."""
    curves = np.array([course.score(score) for course in courses])[:, start:]
    means: Array = curves.reshape(len(courses), -1, WINDOW).mean(axis=2)
    return means


def late_means(courses: Sequence[Course], score: str) -> Array:
    """Mean of each course from step :data:`LATE` on."""
    means: Array = window_means(courses, score, LATE).mean(axis=1)
    return means


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two groups of numbers, compared by mean and by spread.

    Attributes:
        difference: Mean of ours minus mean of theirs.
        standard_error: Of the difference, from the spreads of both groups.
        freedom: Degrees of freedom of the standard error, by Welch and Satterthwaite.
        spread_ratio: Standard deviation of ours by that of theirs.
        sizes: Numbers of courses, ours and theirs.
    """

    difference: float
    standard_error: float
    freedom: float
    spread_ratio: float
    sizes: tuple[int, int]

    def reach(self, confidence: float) -> float:
        """How far the means of two such groups lie apart at most, with this probability, if nothing differs."""
        return float(stats.t.ppf((1 + confidence) / 2, self.freedom) * self.standard_error)

    def spread_bounds(self, confidence: float) -> tuple[float, float]:
        """Between which bounds the ratio of spreads lies, with this probability, if nothing differs (F test)."""
        ours, theirs = (size - 1 for size in self.sizes)
        tail = (1 - confidence) / 2
        low, high = np.sqrt(stats.f.ppf([tail, 1 - tail], ours, theirs))
        return float(low), float(high)


def compare(ours: Array, theirs: Array) -> Comparison:
    """Compare one number per course, such as :func:`late_means`."""
    parts = [group.var(ddof=1) / len(group) for group in (ours, theirs)]
    freedom = sum(parts) ** 2 / sum(
        part**2 / (len(group) - 1) for part, group in zip(parts, (ours, theirs), strict=True)
    )
    return Comparison(
        difference=float(ours.mean() - theirs.mean()),
        standard_error=float(np.sqrt(sum(parts))),
        freedom=float(freedom),
        spread_ratio=float(ours.std(ddof=1) / theirs.std(ddof=1)),
        sizes=(len(ours), len(theirs)),
    )


def apart(ours: Array, theirs: Array) -> float:
    """Largest difference of two mean curves over all windows, in standard errors; curves are courses × windows."""
    count = len(ours) + len(theirs)
    squares = sum(((group - group.mean(axis=0)) ** 2).sum(axis=0) for group in (ours, theirs))
    errors = np.sqrt(squares / (count - 2) * (1 / len(ours) + 1 / len(theirs)))
    return float((abs(ours.mean(axis=0) - theirs.mean(axis=0)) / errors).max())


def typical_spread(curves: Array) -> float:
    """Standard deviation between courses, as the geometric mean over windows; curves are courses × windows."""
    return float(np.exp(np.log(curves.std(axis=0, ddof=1)).mean()))


def unequally_spread(ours: Array, theirs: Array) -> float:
    """Logarithm of the ratio of typical spreads, whichever group spreads more."""
    return abs(math.log(typical_spread(ours) / typical_spread(theirs)))


def permutation_p_value(ours: Array, theirs: Array, statistic: Callable[[Array, Array], float]) -> float:
    """Share of all divisions of these courses into groups of these sizes whose statistic is as large as the real one.

    It is exact: if nothing distinguishes ours from theirs, it is at most p with probability p.
    """
    together = np.concatenate([ours, theirs])
    real, found = statistic(ours, theirs), []
    for chosen in combinations(range(len(together)), len(ours)):
        is_chosen = np.isin(np.arange(len(together)), chosen)
        found.append(statistic(together[is_chosen], together[~is_chosen]))
    return float(np.mean(np.array(found) >= real - 1e-12))
