"""Tables of scores: the standard one, with other columns, and by object size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vfm_isbench.results.columns import STANDARD, RunFigures, columns_named
from vfm_isbench.results.dataset_result import DatasetResult


def score_table(
    datasets: Mapping[str, DatasetResult], cap: int, columns: Sequence[str] = STANDARD, run: RunFigures | None = None
) -> list[str]:
    """Lines of a terminal table: one row per data set, and below it what the columns mean.

    Args:
        datasets: Results by data set.
        cap: The protocol's clicks per object.
        columns: Names of the columns, see :mod:`vfm_isbench.results.columns`.
        run: What is known of the run, for columns about it.

    Raises:
        UnknownNameError: if there is no such column.
    """
    meaning = units_of(cap, columns)
    return [*lay_out(score_rows(datasets, cap, columns, run)), *(["", meaning] if meaning else [])]


def score_rows(
    datasets: Mapping[str, DatasetResult], cap: int, columns: Sequence[str] = STANDARD, run: RunFigures | None = None
) -> list[list[str]]:
    """Cells of that table; the first row is the header."""
    chosen, figures = columns_named(columns, cap), run or RunFigures()
    header = ["data set", *(column.heading for column in chosen)]
    return [header, *([name, *(column.cell(found, figures) for column in chosen)] for name, found in datasets.items())]


def units_of(cap: int, columns: Sequence[str] = STANDARD) -> str:
    """What the columns of that table mean."""
    return " · ".join(dict.fromkeys(column.meaning for column in columns_named(columns, cap) if column.meaning))


def lay_out(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table: the first row underlined, the first column aligned left, the others right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(_cells(row, widths)) for row in rows]
    lines.insert(1, "  ".join("─" * width for width in widths))
    return lines


def _cells(row: Sequence[str], widths: list[int]) -> list[str]:
    first, *others = (
        cell.ljust(width) if column == 0 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return [first, *others]
