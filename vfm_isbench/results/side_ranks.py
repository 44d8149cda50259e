"""Ranks of the sides of a comparison, with the ranges that the evidence leaves open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from vfm_isbench.results.difference import json_ready
from vfm_isbench.results.object_scores import Metric
from vfm_isbench.results.rank_ranges import BoardScores, Place, places
from vfm_isbench.results.sides import Side, why_apart

OVERALL = "all"
"""Stands for the mean over all data sets."""


@dataclass(frozen=True)
class SideRank:
    """Rank of a side by one score, see :mod:`vfm_isbench.results.rank_ranges`.

    Attributes:
        dataset: Data set, or :data:`OVERALL`.
        metric: Name of the score.
        side: Label of the side.
        place: Score, rank and range.
    """

    dataset: str
    metric: str
    side: str
    place: Place

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: null for what is missing."""
        place = self.place
        content = {
            "dataset": self.dataset, "metric": self.metric, "side": self.side, "value": place.value,
            "rank": place.rank or None, "rank_low": place.low or None, "rank_high": place.high or None,
        }  # fmt: skip
        ready: dict[str, Any] = json_ready(content)
        return ready


def rank_sides(
    sides: Sequence[Side], datasets: Sequence[str], metrics: Sequence[Metric], confidence: float
) -> list[SideRank]:
    """Rank the sides that may be compared with the first one, on each data set and over all of them.

    Over all data sets only sides are ranked that can be compared on each of them. All seeds of a side count. A side
    whose probes were trained with another upsampler has no rank.
    """
    sides = [side for side in sides if side.trained_with is None]
    if not sides:
        return []
    comparable = {
        dataset: [side for side in sides if side is sides[0] or not why_apart(sides[0], side, dataset)]
        for dataset in datasets
    }
    everywhere = [side for side in sides if all(side in members for members in comparable.values())]
    ranks: list[SideRank] = []
    for dataset, members in comparable.items():
        ranks += _rank(members, [dataset], metrics, confidence, dataset)
    if len(datasets) > 1:
        ranks += _rank(everywhere, datasets, metrics, confidence, OVERALL)
    return ranks


def _rank(
    sides: Sequence[Side], datasets: Sequence[str], metrics: Sequence[Metric], confidence: float, name: str
) -> Iterator[SideRank]:
    if len(sides) < 2:
        return
    for metric in metrics:
        boards = [
            BoardScores.of([[result.datasets[dataset] for result in side.results] for side in sides], metric)
            for dataset in datasets
        ]
        seeds = [side.seeds for side in sides]
        found = places(boards, seeds, fewer_is_better=metric.is_noc, confidence=confidence)
        yield from (SideRank(name, metric.name, side.label, place) for side, place in zip(sides, found, strict=True))


def rank_tables(ranks: Sequence[SideRank]) -> Iterator[tuple[str, list[list[str]]]]:
    """Heading and rows of a table per data set: a row per side, a column per score; the first row is the header."""
    for dataset, group in groupby(ranks, lambda rank: rank.dataset):
        members = list(group)
        metrics = list(dict.fromkeys(rank.metric for rank in members))
        cells = {(rank.side, rank.metric): str(rank.place) for rank in members}
        sides = dict.fromkeys(rank.side for rank in members)
        rows = [["", *(Metric.named(metric).label for metric in metrics)]]
        rows += [[side, *(cells[side, metric] for metric in metrics)] for side in sides]
        yield f"ranks · {'mean over the data sets' if dataset == OVERALL else dataset}", rows
