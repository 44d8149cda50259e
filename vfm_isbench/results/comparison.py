"""Compares two or more upsamplers object by object: differences, their intervals, and what must not be compared."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vfm_isbench.errors import ComparisonError, IncomparableError
from vfm_isbench.results.difference import Difference, check_confidence, difference_of
from vfm_isbench.results.difference_text import difference_tables
from vfm_isbench.results.display import html_block, html_table, quoted
from vfm_isbench.results.intervals import CONFIDENCE, warn_without_effect
from vfm_isbench.results.markdown import code, escape, markdown_table
from vfm_isbench.results.object_scores import Metric
from vfm_isbench.results.side_ranks import SideRank, rank_sides, rank_tables
from vfm_isbench.results.sides import Given, Pair, Side, check_datasets, distinct, side_of, twins, why_apart
from vfm_isbench.results.signature import score_signature
from vfm_isbench.results.table import lay_out

if TYPE_CHECKING:
    import pandas as pd

METRICS = ("noc80", "noc85", "noc90", "iou_at_1", "iou_at_5", "iou_at_10", "iou_at_20", "mean_iou")
"""Scores compared by default, except IoUs beyond the click cap."""


@dataclass(frozen=True)
class Comparison:
    """What :func:`vfm_isbench.compare` returns: prints as tables, converts to a frame, Markdown and JSON.

    Attributes:
        confidence: Confidence of the two-sided intervals.
        cap: Clicks per object.
        sides: Labels of all sides, in the order given.
        differences: By second side, data set and score.
        signatures: Label and signature of each side on each data set.
        incomparable: Why data sets or sides were left out.
        remarks: Remarks for readers.
        ranks: With three or more sides: rank and range of each, by data set and score.
    """

    confidence: float
    cap: int
    sides: tuple[str, ...]
    differences: tuple[Difference, ...]
    signatures: tuple[tuple[str, str], ...]
    incomparable: tuple[str, ...]
    remarks: tuple[str, ...]
    ranks: tuple[SideRank, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether every other side could be compared with the first on at least one data set."""
        return set(self.sides[1:]) == {difference.second for difference in self.differences}

    def to_frame(self) -> pd.DataFrame:
        """One row per difference: its fields and those of its estimate."""
        import pandas as pd

        rows = []
        for difference in self.differences:
            row = dataclasses.asdict(difference)
            estimate = row.pop("difference")
            row["difference"] = estimate.pop("value")
            seeds_error = estimate.pop("seeds_error")
            rows.append(row | estimate | {"seeds_error": math.nan if seeds_error is None else seeds_error})
        frame: pd.DataFrame = pd.DataFrame(rows)
        return frame

    def to_markdown(self) -> str:
        """Tables in GitHub's Markdown, with signatures and remarks."""
        blocks = [f"### {escape(heading)}\n\n{markdown_table(rows)}" for heading, rows in self._tables()]
        lines = [f"- {escape(label)}: {code(line)}" for label, line in self.signatures]
        lines += [f"- **incomparable**: {escape(reason)}" for reason in self.incomparable]
        lines += [f"- note: {escape(remark)}" for remark in self.remarks]
        return "\n\n".join([*blocks, escape(self._explanation()), "\n".join(lines)]) + "\n"

    def __str__(self) -> str:
        blocks = ["\n".join([heading, "", *lay_out(rows)]) for heading, rows in self._tables()]
        return "\n\n".join([*blocks, "\n".join([self._explanation(), *self._lines()])])

    def _repr_html_(self) -> str:
        tables = [html_table(heading, rows) for heading, rows in self._tables()]
        return html_block(tables, self._explanation(), self._lines())

    def __repr__(self) -> str:
        names = [quoted(name) for name in dict.fromkeys(found.dataset for found in self.differences)]
        scores = list(dict.fromkeys(found.metric for found in self.differences))
        sides = ", ".join(map(quoted, self.sides))
        left_out = f", {len(self.incomparable)} incomparable" if self.incomparable else ""
        return f"<Comparison of {sides} on {', '.join(names)}: {len(scores)} scores{left_out}>"

    def _lines(self) -> list[str]:
        lines = [f"{label}: {line}" for label, line in self.signatures]
        lines += [f"incomparable: {reason}" for reason in self.incomparable]
        return [*lines, *(f"note: {remark}" for remark in self.remarks)]

    def _tables(self) -> Iterator[tuple[str, list[list[str]]]]:
        yield from difference_tables(self.differences, self.confidence, self.cap)
        yield from rank_tables(self.ranks)

    def _explanation(self) -> str:
        ranks = (
            " · ranks: rank (best and worst rank that the evidence leaves open, "
            f"at {100 * self.confidence:g} % for all sides together)"
        )
        return (
            f"NoC in clicks (fewer is better, censored at {self.cap}) · IoU in % · difference: second minus first, "
            "paired by object · ±: standard error from the choice of objects (clustered by image) and from training "
            "seeds · better, equal, worse: share of objects for which the second side is so · "
            f"≥{self.cap}: objects that need all {self.cap} clicks, first → second side" + (ranks if self.ranks else "")
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready content: null for what is missing."""
        return {
            "confidence": self.confidence,
            "max_clicks": self.cap,
            "sides": list(self.sides),
            "differences": [difference.to_dict() for difference in self.differences],
            "signatures": [{"side": label, "signature": line} for label, line in self.signatures],
            "incomparable": list(self.incomparable),
            "remarks": list(self.remarks),
            "ranks": [rank.to_dict() for rank in self.ranks],
        }


def compare(
    first: Given,
    *others: Given,
    datasets: str | Sequence[str] | None = None,
    metrics: str | Sequence[str] | None = None,
    confidence: float = CONFIDENCE,
    resamples: int | None = None,
    seed: int | None = None,
) -> Comparison:
    """Compare upsamplers object by object: each of the others with the first.

    Args:
        first: A result, the path of a result file or run folder, or several of these: one upsampler with several seeds.
        others: One or more further sides, likewise.
        datasets: One or several data sets to compare; None for all that two sides have in common.
        metrics: One or several scores to compare; None for :data:`METRICS`, without IoUs beyond the click cap.
        confidence: Confidence of the two-sided intervals, in (0, 1).
        resamples: Deprecated, without effect.
        seed: Likewise.

    Raises:
        IncomparableError: if nothing may be compared; the message gives every reason.
        ComparisonError: if a side is no result, holds results of different upsamplers, or a metric does not exist.
        ResultError: if a file cannot be read.
        UnknownNameError: if no side has a data set that was asked for.
    """
    if not others:
        raise ComparisonError("one side alone cannot be compared; give at least two")
    datasets = [datasets] if isinstance(datasets, str) else datasets
    metrics = [metrics] if isinstance(metrics, str) else metrics
    warn_without_effect(resamples=resamples, seed=seed)
    check_confidence(confidence)
    given = [side_of(side) for side in (first, *others)]
    side, *rest = distinct(given)
    check_datasets([side, *rest], datasets or ())
    differences: list[Difference] = []
    signatures: dict[tuple[str, str], None] = {}
    incomparable: dict[str, None] = {}
    remarks = dict.fromkeys(twins(given))
    for other in rest:
        for dataset in _datasets(side, other, datasets):
            if reasons := why_apart(side, other, dataset):
                incomparable |= dict.fromkeys(reasons)
                continue
            pair = Pair.of(side, other, dataset)
            wanted = _metrics(pair, metrics)
            found = [difference_of(pair, metric, confidence) for metric in wanted]
            differences += found
            remarks |= dict.fromkeys([*pair.remarks, *_missing(found)])
            names = ",".join(metric.name for metric in wanted)
            for compared in (pair.first, pair.second):
                signatures[compared.label, score_signature(compared.results, dataset, names)] = None
    for compared in (side, *rest):
        if compared.trained_with is not None:
            remarks[
                f"{compared.label} was evaluated with a probe that was trained with another upsampler or version, "
                f"{compared.trained_with!r}: it shows what an edit does to the evaluation, and has no rank"
            ] = None
    if not differences:
        raise IncomparableError(f"incomparable: {'; '.join(incomparable)}")
    ranks: list[SideRank] = []
    if len(rest) > 1:
        compared_on = list(dict.fromkeys(found.dataset for found in differences))
        named = [Metric.named(name) for name in dict.fromkeys(found.metric for found in differences)]
        ranks = rank_sides([side, *rest], compared_on, named, confidence)
    return Comparison(
        confidence=confidence,
        cap=side.results[0].protocol.max_clicks,
        sides=tuple(compared.label for compared in (side, *rest)),
        differences=tuple(differences),
        signatures=tuple(signatures),
        incomparable=tuple(incomparable),
        remarks=tuple(remarks),
        ranks=tuple(ranks),
    )


def _datasets(first: Side, second: Side, chosen: Sequence[str] | None) -> list[str]:
    """The data sets asked for, or all that either side has, so that the comparison says why it leaves one out."""
    if chosen is not None:
        return list(chosen)
    return list(dict.fromkeys(name for side in (first, second) for result in side.results for name in result.datasets))


def _metrics(pair: Pair, chosen: Sequence[str] | None) -> list[Metric]:
    if chosen is not None:
        return [Metric.named(name) for name in chosen]
    cap = pair.first.results[0].protocol.max_clicks
    return [metric for metric in map(Metric.named, METRICS) if metric.clicks is None or metric.clicks <= cap]


def _missing(differences: Sequence[Difference]) -> Iterator[str]:
    missing = [Metric.named(found.metric).label for found in differences if math.isnan(found.difference.value)]
    if missing:
        yield (
            f"{differences[0].dataset}: {', '.join(missing)} missing, because the evaluation stopped early and did not "
            "place all clicks"
        )
