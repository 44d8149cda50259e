"""Ranks with ranges, within a group of comparable entries.

Entries are ordered by the headline metric of their protocol, best first; over several test sets, by the mean of their
scores on each. The range beside a rank says which ranks the evidence leaves open, see
:mod:`vfm_isbench.results.rank_ranges`: with 95 % confidence, the true ranks of all entries of the group lie in their
ranges.

Two entries are *told apart* if one of them is shown to be better, corrected for looking at all pairs. That is stricter
than ``vfm-isbench compare``, whose intervals hold for one pair at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vfm_isbench.leaderboard.entry import Entry
from vfm_isbench.results.object_scores import Metric
from vfm_isbench.results.rank_ranges import BoardScores, Place, places


@dataclass(frozen=True, slots=True)
class Standing:
    """Position of an entry in its group.

    Attributes:
        metric: Score that the entry is ranked by.
        overall: Score, rank and range over all test sets.
        better: Ids of the entries shown to be better over all test sets, best first.
        worse: Ids of the entries shown to be worse, best first.
        tied_with: Ids of the entries with the same score and therefore the same rank.
        mean_rank: Mean of the ranks on the test sets; for information, it decides nothing.
        places: Score, rank and range by test set.
    """

    metric: str
    overall: Place
    better: tuple[str, ...]
    worse: tuple[str, ...]
    tied_with: tuple[str, ...]
    mean_rank: float
    places: Mapping[str, Place]


def rank_entries(entries: Sequence[Entry], datasets: Sequence[str], metric: str) -> dict[str, Standing]:
    """Rank comparable entries, which share protocol, backbone and test data.

    Args:
        entries: In any order, with distinct ids and no missing scores.
        datasets: Test sets that every entry has.
        metric: Score to rank by.

    Returns:
        Standing by id.
    """
    ordered = sorted(entries, key=lambda entry: entry.id)
    seeds = [entry.seeds for entry in ordered]
    by = Metric.named(metric)
    scored = {
        dataset: BoardScores.of([[run.datasets[dataset] for run in entry.runs] for entry in ordered], by)
        for dataset in datasets
    }

    def placed(boards: Sequence[BoardScores]) -> list[Place]:
        return places(boards, seeds, fewer_is_better=by.is_noc)

    on_each = {dataset: placed([found]) for dataset, found in scored.items()}
    overall = placed(list(scored.values())) if len(datasets) > 1 else on_each[datasets[0]]

    def ids(found: Sequence[int]) -> tuple[str, ...]:
        return tuple(ordered[other].id for other in sorted(found, key=lambda other: overall[other].rank))

    standings = {}
    for index, place in enumerate(overall):
        ranks = [on_each[dataset][index].rank for dataset in datasets]
        tied = [other for other, found in enumerate(overall) if found.rank == place.rank and other != index]
        standings[ordered[index].id] = Standing(
            metric=metric,
            overall=place,
            better=ids(place.better),
            worse=ids(place.worse),
            tied_with=ids(tied),
            mean_rank=sum(ranks) / len(ranks),
            places={dataset: on_each[dataset][index] for dataset in datasets},
        )
    return standings
