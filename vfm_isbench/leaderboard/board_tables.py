"""The board as tables of text, for notebooks; ``leaderboard.csv`` and the page say more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vfm_isbench.leaderboard.entry import Entry
from vfm_isbench.leaderboard.ranking import Standing
from vfm_isbench.leaderboard.scores import score
from vfm_isbench.leaderboard.trust import headline_of, why_unranked
from vfm_isbench.results.difference_text import MISSING, number
from vfm_isbench.results.intervals import CONFIDENCE
from vfm_isbench.results.object_scores import Metric

EXPLANATION = (
    "rank: rank (best and worst rank that the evidence leaves open) · scores are means over objects and seeds with "
    f"their {100 * CONFIDENCE:g} % intervals, NoC in clicks (fewer is better), IoU in % · entries of different tables "
    "must not be compared"
)


def group_table(
    entries: Sequence[Entry], datasets: Sequence[str], standings: Mapping[str, Standing]
) -> tuple[str, list[list[str]]]:
    """Heading and rows of one group: ranked entries first, best first; the first row is the header.

    Args:
        entries: Members of the group, at least one.
        datasets: Test sets that they are ranked by.
        standings: Standing of the ranked ones, by id.
    """
    first = entries[0].protocol
    metric = Metric.named(headline_of(first))
    rows = [["rank", "entry", *(f"{metric.label} on {name}" for name in datasets), "seeds", "why unranked"]]

    def place(entry: Entry) -> tuple[bool, int, str]:
        standing = standings.get(entry.id)
        return standing is None, 0 if standing is None else standing.overall.rank, entry.id

    for entry in sorted(entries, key=place):
        standing = standings.get(entry.id)
        rows.append(
            [
                MISSING if standing is None else str(standing.overall),
                entry.name,
                *(_score_text(entry, name, metric) for name in datasets),
                ", ".join(map(str, entry.seeds)),
                "; ".join(why_unranked(entry)),
            ]
        )
    if not any(row[-1] for row in rows[1:]):
        rows = [row[:-1] for row in rows]
    return f"{first.label} · {first.backbone}", rows


def _score_text(entry: Entry, dataset: str, metric: Metric) -> str:
    estimate = score(entry, dataset, metric.name)
    if estimate is None:
        return MISSING
    return f"{number(estimate.value, metric)} [{number(estimate.low, metric)}, {number(estimate.high, metric)}]"
