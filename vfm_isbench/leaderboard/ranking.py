"""Ranks with tie groups.

Within a group of comparable entries, on each test set:

1. Entries are ordered by mean NoC90, fewest clicks first.
2. Two entries are *separable* if the confidence interval of their paired difference, as in ``vfm-isbench compare``,
   excludes zero.
3. The order is cut between two neighbours only if every entry above is separable from every entry below. The entries
   between two cuts form a tie group; its members share the rank 1 + the number of entries above them.

So entries that are not separable always share a rank, and entries of different rank are always separable. The converse
does not hold, because separability is not transitive: if A and B are not separable, nor B and C, all three share a rank
even if A and C are separable.

Over several test sets an entry's *mean rank* is the mean of its ranks, and entries are ranked by it; equal mean ranks
share a rank. Entries that are separable on no test set have equal ranks on all, so they share a rank here too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations

from vfm_isbench.leaderboard.entry import Entry
from vfm_isbench.leaderboard.scores import per_object
from vfm_isbench.results.bootstrap import Estimate
from vfm_isbench.results.object_scores import Metric
from vfm_isbench.results.sides import Pair, Side

RANKED_BY = "noc90"


@dataclass(frozen=True, slots=True)
class Standing:
    """Position of an entry in its group.

    Attributes:
        rank: Rank over all test sets.
        tied_with: Ids of the entries that share the rank.
        mean_rank: Mean of the ranks on the test sets.
        ranks: Rank by test set.
    """

    rank: int
    tied_with: tuple[str, ...]
    mean_rank: float
    ranks: Mapping[str, int]


def rank_entries(entries: Sequence[Entry], datasets: Sequence[str]) -> dict[str, Standing]:
    """Rank comparable entries, which share protocol, backbone and test data.

    Args:
        entries: In any order, with distinct ids and no missing scores.
        datasets: Test sets that every entry has.

    Returns:
        Standing by id.
    """
    ordered = sorted(entries, key=lambda entry: entry.id)
    ids = [entry.id for entry in ordered]
    ranks = {dataset: _ranks_on(ordered, dataset) for dataset in datasets}
    means = [Fraction(sum(ranks[dataset][index] for dataset in datasets), len(datasets)) for index in range(len(ids))]
    standings = {}
    for index, own in enumerate(means):
        standings[ids[index]] = Standing(
            rank=1 + sum(other < own for other in means),
            tied_with=tuple(ids[other] for other, mean in enumerate(means) if mean == own and other != index),
            mean_rank=float(own),
            ranks={dataset: ranks[dataset][index] for dataset in datasets},
        )
    return standings


def _ranks_on(entries: Sequence[Entry], dataset: str) -> list[int]:
    means = [float(per_object(entry, dataset, RANKED_BY).mean()) for entry in entries]
    apart = {
        (first, second)
        for first, second in combinations(range(len(entries)), 2)
        if paired_difference(entries[first], entries[second], dataset).excludes_zero
    }
    return ranks_with_ties(means, lambda first, second: (min(first, second), max(first, second)) in apart)


def paired_difference(first: Entry, second: Entry, dataset: str, metric: str = RANKED_BY) -> Estimate:
    """Second − first, paired by object, and by training seed if both have the same seeds."""
    pair = Pair.of(Side(first.id, first.runs), Side(second.id, second.runs), dataset)
    return pair.difference(Metric.named(metric))


def ranks_with_ties(means: Sequence[float], separable: Callable[[int, int], bool]) -> list[int]:
    """Rank of each entry, 1 for the lowest mean, by the rule in the module's docstring.

    Args:
        means: Mean scores, fewer is better.
        separable: Whether two entries, given by index, are separable; symmetric.

    >>> ranks_with_ties([3.0, 1.0, 2.0], lambda first, second: 0 in (first, second))
    [3, 1, 1]
    """
    order = sorted(range(len(means)), key=lambda index: means[index])
    ranks = [1] * len(means)
    start = 0
    for cut in range(1, len(order)):
        if all(separable(above, below) for above in order[:cut] for below in order[cut:]):
            start = cut
        ranks[order[cut]] = start + 1
    return ranks
