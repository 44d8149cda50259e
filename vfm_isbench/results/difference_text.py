"""Differences as tables of text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby

from vfm_isbench.results.difference import Difference
from vfm_isbench.results.object_scores import Metric

MISSING = "–"


def difference_tables(
    differences: Sequence[Difference], confidence: float, cap: int
) -> Iterator[tuple[str, list[list[str]]]]:
    """Heading and rows of a table per data set and pair of sides; the first row is the header.

    Args:
        differences: Differences, with those of one table next to each other.
        confidence: Confidence of their intervals.
        cap: Clicks per object.
    """

    def key(difference: Difference) -> tuple[str, str]:
        return difference.second, difference.dataset

    for _, group in groupby(differences, key):
        members = list(group)
        head = members[0]
        seeds = seeds_text(head)
        where = f"{head.dataset}: {head.objects} objects in {head.images} images"
        yield f"{head.second} against {head.first} · {where} · {seeds}", _rows(members, confidence, cap)


def number(value: float | None, metric: Metric, *, signed: bool = False) -> str:
    """A value in the unit of tables: clicks, or IoU in percent."""
    if value is None or math.isnan(value):
        return MISSING
    text = f"{value if metric.is_noc else 100 * value:{'+' if signed else ''}.2f}"
    # A value that rounds to zero has no sign.
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", "−")


def interval(low: float, high: float, metric: Metric) -> str:
    """Both ends of an interval."""
    if math.isnan(low) or math.isnan(high):
        return MISSING
    return f"[{number(low, metric, signed=True)}, {number(high, metric, signed=True)}]"


def at_cap_text(difference: Difference) -> str:
    """Objects at the cap on both sides: means over seeds, so not always whole numbers."""
    counts = (difference.first_at_cap, difference.second_at_cap)
    return MISSING if any(map(math.isnan, counts)) else " → ".join(f"{n:.1f}".removesuffix(".0") for n in counts)


def seeds_text(difference: Difference) -> str:
    """The seeds that are compared."""
    first, second = (",".join(map(str, seeds)) for seeds in (difference.first_seeds, difference.second_seeds))
    return f"seed {first}, paired" if difference.paired_seeds else f"seed {first} against {second}"


def _rows(differences: Sequence[Difference], confidence: float, cap: int) -> list[list[str]]:
    first, second, percent = differences[0].first, differences[0].second, f"{100 * confidence:g} % interval"
    rows = [["", first, second, "difference", percent, "± objects", "± seeds", "better", "equal", "worse", f"≥{cap}"]]
    for difference in differences:
        metric = Metric.named(difference.metric)
        estimate = difference.difference
        shares = (difference.better, difference.equal, difference.worse)
        rows.append(
            [
                metric.label,
                number(difference.first_value, metric),
                number(difference.second_value, metric),
                number(estimate.value, metric, signed=True),
                interval(estimate.low, estimate.high, metric),
                number(estimate.objects_error, metric),
                number(estimate.seeds_error, metric),
                *(MISSING if math.isnan(share) else f"{100 * share:.0f} %" for share in shares),
                at_cap_text(difference),
            ]
        )
    return rows
