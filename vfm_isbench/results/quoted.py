"""Figures quoted from papers, shown beside measured results. Every row is marked as either measured or quoted."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from types import MappingProxyType

from vfm_isbench.protocol import NOT_IN_FINGERPRINT, Protocol
from vfm_isbench.results.record import Result
from vfm_isbench.results.table import lay_out

METRICS = MappingProxyType({"noc90": "NoC90", "iou_at_1": "IoU@1 in %"})
"""Names of the quoted scores in a result's frame, and in tables."""

TRAINING_DATA_FIELDS = ("sample_weights",)
"""Fields that describe how training images were drawn. A difference is reported, but scores stay comparable."""


@dataclass(frozen=True, slots=True)
class QuotedTable:
    """One table of a paper.

    Attributes:
        metric: "noc90" (mean clicks) or "iou_at_1" (percent).
        protocol: The preset that describes how the figures were obtained.
        setting: The same in words.
        citation: Title, arXiv number, table.
        second_hand: Whether they were copied from someone who quotes the paper, not from the paper itself.
        provenance: Where the figures were copied from.
        datasets: Columns.
        objects: Number of objects in each data set.
        rows: Scores by upsampler, in the order of ``datasets``.
    """

    metric: str
    protocol: str
    setting: str
    citation: str
    second_hand: bool
    provenance: str
    datasets: tuple[str, ...]
    objects: tuple[int, ...]
    rows: Mapping[str, tuple[float, ...]]

    @property
    def origin(self) -> str:
        """Where the figures come from, in a word or two: never measured by this library."""
        return "quoted, second-hand" if self.second_hand else "quoted"

    @property
    def injection(self) -> str:
        """Where the clicks enter: "early" or "late"."""
        return Protocol.preset(self.protocol).injection


@lru_cache(maxsize=1)
def quoted_tables() -> tuple[QuotedTable, ...]:
    """All quoted tables of ``vfm_isbench/results/quoted.json``."""
    text = resources.files("vfm_isbench.results").joinpath("quoted.json").read_text(encoding="utf-8")
    return tuple(
        QuotedTable(
            metric=table["metric"],
            protocol=table["protocol"],
            setting=table["setting"],
            citation=table["citation"],
            second_hand=table["second_hand"],
            provenance=table["provenance"],
            datasets=tuple(table["datasets"]),
            objects=tuple(table["objects"]),
            rows=MappingProxyType({name: tuple(scores) for name, scores in table["rows"].items()}),
        )
        for table in json.loads(text)["tables"]
    )


def beside_quoted(results: Sequence[Result]) -> str:
    """Lay out measured results beside the quoted figures of the same protocol.

    A result appears in the tables whose preset has its click encoder and injection, or in all tables if no preset has
    them. Every field in which its protocol differs from the preset is listed below, because such figures are not
    comparable.
    """
    blocks = []
    for table in quoted_tables():
        measured = [result for result in results if _belongs(result, table)]
        if measured:
            blocks.append(_block(table, measured))
    return "\n\n".join(blocks)


def _belongs(result: Result, table: QuotedTable) -> bool:
    def kind(name: str) -> tuple[str, str]:
        preset = Protocol.preset(name)
        return preset.click_encoder, preset.injection

    mine = (result.protocol.click_encoder, result.protocol.injection)
    return kind(table.protocol) == mine or all(kind(other.protocol) != mine for other in quoted_tables())


def differences(result: Result, table: QuotedTable) -> list[str]:
    """How a result differs from a quoted table: protocol, number of objects, training."""
    mine, quoted = result.protocol.to_dict(), Protocol.preset(table.protocol).to_dict()
    # The papers' code omits FeatUp's channel norm; for other upsamplers the field has no effect.
    is_featup = (result.upsampler.get("source") or {}).get("kind") == "featup"
    quoted["featup_channel_norm"] = False if is_featup else mine["featup_channel_norm"]
    fields = [key for key in quoted if key not in NOT_IN_FINGERPRINT and mine[key] != quoted[key]]
    found = [f"{key} {mine[key]!r} for {quoted[key]!r}" for key in fields]
    for name, count in zip(table.datasets, table.objects, strict=True):
        measured = len(result.datasets[name].objects) if name in result.datasets else count
        if measured != count:
            found.append(f"{measured} of {count} objects of {name}")
    if result.has_random_weights:
        found.append("random weights of the backbone, in a dry run")
    return found if result.training else [*found, "an unknown training"]


def _block(table: QuotedTable, results: Sequence[Result]) -> str:
    rows = [["", "injection", *table.datasets]]
    remarks = []
    for result in results:
        name = f"{result.upsampler['name']} (measured, seed {result.protocol.seed})"
        different = differences(result, table)
        if any(field.partition(" ")[0] not in TRAINING_DATA_FIELDS for field in different):
            name += " *"
            remarks.append(f"* not comparable: {result.upsampler['name']} was measured with {', '.join(different)}")
        elif different:
            remarks.append(f"{result.upsampler['name']} was measured with {', '.join(different)}")
        scores = (_score(result, dataset, table.metric) for dataset in table.datasets)
        rows.append([name, result.protocol.injection, *scores])
    for name, figures in table.rows.items():
        rows.append([f"{name} ({table.origin})", table.injection, *(f"{figure:.2f}" for figure in figures)])
    heading = f"{METRICS[table.metric]} · {table.setting}"
    source = f"{table.origin}: from {table.citation} ({table.provenance}); not measured here"
    return "\n".join([heading, *lay_out(rows), source, *remarks])


def _score(result: Result, dataset: str, metric: str) -> str:
    found = result.datasets.get(dataset)
    if found is None:
        return "–"
    score = found.scores().get(metric, math.nan)
    if math.isnan(score):
        return "–"
    return f"{100 * score:.2f}" if metric.startswith("iou") else f"{score:.2f}"
