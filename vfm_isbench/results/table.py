"""The standard table of scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from vfm_isbench.results.dataset_result import DatasetResult


def score_table(datasets: Mapping[str, DatasetResult], cap: int) -> list[str]:
    """Lines of a terminal table: one row per data set, and below it what the columns mean.

    Args:
        datasets: Results by data set.
        cap: The protocol's clicks per object.
    """
    return [*lay_out(score_rows(datasets, cap)), "", units_of(cap)]


def score_rows(datasets: Mapping[str, DatasetResult], cap: int) -> list[list[str]]:
    """Cells of that table; the first row is the header."""
    rows = [["data set", "objects", "NoC80", "NoC85", "NoC90", "IoU@1", "IoU@5", f"≥{cap}@90", "s/click"]]
    for name, found in datasets.items():
        scores = found.scores()
        seconds = found.seconds_per_click
        rows.append(
            [
                name,
                str(len(found.objects)),
                *(_number(scores[f"noc{percent}"]) for percent in (80, 85, 90)),
                *(_number(100 * found.iou_at(clicks)) for clicks in (1, 5)),
                _number(scores["not_reached90"], digits=0),
                "–" if seconds is None else f"{seconds:.3f}",
            ]
        )
    return rows


def units_of(cap: int) -> str:
    """What the columns of that table mean."""
    return (
        f"NoC: mean clicks to reach an IoU in % (fewer is better, {cap} at most) · IoU@k: mean IoU in % at click k · "
        f"≥{cap}@90: objects that need all {cap} clicks for 90 %"
    )


def lay_out(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table: the first row underlined, the first column aligned left, the others right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(_cells(row, widths)) for row in rows]
    lines.insert(1, "  ".join("─" * width for width in widths))
    return lines


def _number(value: float, digits: int = 2) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def _cells(row: Sequence[str], widths: list[int]) -> list[str]:
    first, *others = (
        cell.ljust(width) if column == 0 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return [first, *others]
