"""The standard table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vfm_isbench.results.record import Result


def format_table(result: Result) -> str:
    """Lay out a result for a terminal: heading, one row per data set, units, signature, remarks."""
    cap = result.protocol.max_clicks
    header = ["data set", "objects", "NoC80", "NoC85", "NoC90", "IoU@1", "IoU@5", f"≥{cap}@90", "s/click"]
    rows = []
    for name, found in result.datasets.items():
        scores = found.scores()
        seconds = found.seconds_per_click
        rows.append(
            [
                name,
                str(len(found.objects)),
                *(_number(scores[f"noc{percent}"]) for percent in (80, 85, 90)),
                *(_percent(found.iou_at(clicks)) for clicks in (1, 5)),
                _number(scores["not_reached90"], digits=0),
                "–" if seconds is None else f"{seconds:.3f}",
            ]
        )
    lines = lay_out([header, *rows])
    heading = f"{result.upsampler['name']} · {result.protocol.name} protocol · {result.backbone['name']}"
    units = (
        f"NoC: mean clicks to reach an IoU in % (fewer is better, {cap} at most) · IoU@k: mean IoU in % at click k · "
        f"≥{cap}@90: objects that need all {cap} clicks for 90 %"
    )
    parts = [heading, "", *lines, "", units, result.signature()]
    parts += [f"note: {note}" for note in result.notes]
    return "\n".join(parts)


def lay_out(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table: the first row underlined, the first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(_cells(row, widths)) for row in rows]
    lines.insert(1, "  ".join("─" * width for width in widths))
    return lines


def _number(value: float, digits: int = 2) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def _percent(share: float) -> str:
    return _number(100 * share)


def _cells(row: Sequence[str], widths: list[int]) -> list[str]:
    first, *others = (
        cell.ljust(width) if column == 0 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return [first, *others]
