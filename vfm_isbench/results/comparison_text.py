"""A comparison for a terminal, and for a page in Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from vfm_isbench.results.markdown import code, escape, markdown_table
from vfm_isbench.results.object_scores import Metric
from vfm_isbench.results.table import lay_out

if TYPE_CHECKING:
    from vfm_isbench.results.comparison import Comparison, Difference

MISSING = "–"


def comparison_text(comparison: Comparison) -> str:
    """Lay out a comparison for a terminal: one table per data set and pair of sides, signatures, remarks."""
    blocks = ["\n".join([heading, "", *lay_out(rows)]) for heading, rows in _tables(comparison)]
    lines = [_explanation(comparison), *(f"{label}: {line}" for label, line in comparison.signatures)]
    lines += [f"incomparable: {reason}" for reason in comparison.incomparable]
    lines += [f"note: {remark}" for remark in comparison.remarks]
    return "\n\n".join([*blocks, "\n".join(lines)])


def comparison_markdown(comparison: Comparison) -> str:
    """The same in GitHub's Markdown."""
    blocks = [f"### {escape(heading)}\n\n{markdown_table(rows)}" for heading, rows in _tables(comparison)]
    lines = [f"- {escape(label)}: {code(line)}" for label, line in comparison.signatures]
    lines += [f"- **incomparable**: {escape(reason)}" for reason in comparison.incomparable]
    lines += [f"- note: {escape(remark)}" for remark in comparison.remarks]
    return "\n\n".join([*blocks, escape(_explanation(comparison)), "\n".join(lines)]) + "\n"


def number(value: float | None, metric: Metric, *, signed: bool = False) -> str:
    """A value in the unit of tables: clicks, or IoU in percent."""
    if value is None or math.isnan(value):
        return MISSING
    text = f"{value if metric.is_noc else 100 * value:{'+' if signed else ''}.2f}"
    # A rounded nothing has no sign.
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", "−")


def interval(low: float, high: float, metric: Metric) -> str:
    """Both ends."""
    if math.isnan(low) or math.isnan(high):
        return MISSING
    return f"[{number(low, metric, signed=True)}, {number(high, metric, signed=True)}]"


def count(value: float) -> str:
    """A number of objects, which over seeds need not be whole."""
    return MISSING if math.isnan(value) else f"{value:.1f}".removesuffix(".0")


def seeds_text(first: Sequence[int], second: Sequence[int], paired: bool) -> str:
    """Which seeds are compared."""
    mine, theirs = (",".join(map(str, seeds)) for seeds in (first, second))
    return f"seed {mine}, paired" if paired else f"seed {mine} against {theirs}"


def _tables(comparison: Comparison) -> Iterator[tuple[str, list[list[str]]]]:
    def key(one: Difference) -> tuple[str, str]:
        return one.second, one.dataset

    for _, group in groupby(comparison.differences, key):
        differences = list(group)
        one = differences[0]
        seeds = seeds_text(one.first_seeds, one.second_seeds, one.paired_seeds)
        where = f"{one.dataset}: {one.objects} objects in {one.images} images"
        yield f"{one.second} against {one.first} · {where} · {seeds}", _rows(comparison, differences)


def _rows(comparison: Comparison, differences: Sequence[Difference]) -> list[list[str]]:
    confidence = f"{100 * comparison.confidence:g} % interval"
    cap = f"≥{comparison.cap}"
    first, second = differences[0].first, differences[0].second
    rows = [
        ["", first, second, "difference", confidence, "± objects", "± seeds", "better", "equal", "worse", cap],
    ]
    for one in differences:
        metric = Metric.named(one.metric)
        estimate = one.difference
        at_cap = [count(value) for value in (one.first_at_cap, one.second_at_cap)]
        rows.append(
            [
                metric.label,
                number(one.first_value, metric),
                number(one.second_value, metric),
                number(estimate.value, metric, signed=True),
                interval(estimate.low, estimate.high, metric),
                number(estimate.objects_error, metric),
                number(estimate.seeds_error, metric),
                *(
                    MISSING if math.isnan(part) else f"{100 * part:.0f} %"
                    for part in (one.better, one.equal, one.worse)
                ),
                f"{at_cap[0]} → {at_cap[1]}" if MISSING not in at_cap else MISSING,
            ]
        )
    return rows


def _explanation(comparison: Comparison) -> str:
    cap = comparison.cap
    return (
        f"NoC in clicks (fewer is better, censored at {cap}) · IoU in % · difference: second minus first, paired by "
        "object · ±: standard error from the choice of objects (clustered by image) and from training seeds · better, "
        f"equal, worse: objects, as the second side sees it · ≥{cap}: objects that need all {cap} clicks, before and "
        "after the arrow for first and second side"
    )
