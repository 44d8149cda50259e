"""Charts of the measurements, in the style of the library's pictures; they need matplotlib."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vfm_isbench.errors import MissingPackageError

PART_COLORS = ("#0072B2", "#E69F00", "#D55E00", "#009E73", "#56B4E9", "#CC79A7", "#000000", "#AAAAAA")
"""The colours of the library's pictures and a grey, ordered so that neighbours in a bar differ clearly."""

_WAYS = {"slow": ("#D55E00", "s"), "fast": ("#0072B2", "o")}


def _canvas() -> Any:
    """The library's module for pictures.

    Raises:
        SystemExit: if matplotlib is not installed.
    """
    try:
        from vfm_isbench.viz import canvas
    except MissingPackageError as error:
        raise SystemExit(f"{error} (the tables do not need it)") from error
    return canvas


def draw_growth(rows: Sequence[dict[str, Any]], labels: dict[str, str], path: Path) -> None:
    """Draw one small panel per growing quantity, on logarithmic axes.

    Args:
        rows: Rows from growth.py.
        labels: Labels of the axes, by axis name.
        path: The file to write, with the endings .svg and .png.
    """
    canvas = _canvas()
    from matplotlib.ticker import LogLocator, StrMethodFormatter

    names = list(dict.fromkeys(row["axis"] for row in rows))
    with canvas.own_style():
        figure = canvas.new_figure(2.1 * len(names), 2.3)
        panels = canvas.grid_of_axes(figure, 1, len(names), len(names))
        for name, panel in zip(names, panels, strict=True):
            panel_rows = [row for row in rows if row["axis"] == name]
            for row in panel_rows:
                _draw_line(panel, row)
            panel.set(xscale="log", yscale="log", xlabel=labels[name])
            panel.set_xticks(panel_rows[0]["values"], [str(value) for value in panel_rows[0]["values"]])
            panel.minorticks_off()
            # By default only powers of ten get a tick, but a panel may span less.
            panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            panel.legend(title="exponent", title_fontsize=7.5)
        panels[0].set_ylabel("seconds")
    _save(figure, path)


def _draw_line(panel: Any, row: dict[str, Any]) -> None:
    medians = [statistics.median(times) for times in row["seconds"]]
    pairs = list(zip(medians, row["seconds"], strict=True))
    reach = [[middle - min(times) for middle, times in pairs], [max(times) - middle for middle, times in pairs]]
    color, marker = _WAYS[row["way"]]
    style = {"marker": marker, "markersize": 3, "linewidth": 1, "capsize": 2, "color": color}
    panel.errorbar(row["values"], medians, yerr=reach, label=f"{row['way']}: {row['exponent']:.2f}", **style)


def draw_parts(bars: dict[str, dict[str, float]], parts: Sequence[str], path: Path) -> None:
    """Draw stacked bars.

    Args:
        bars: Seconds by part, by label.
        parts: Parts in the order of stacking.
        path: The file to write, with the endings .svg and .png.
    """
    canvas = _canvas()
    with canvas.own_style():
        figure = canvas.new_figure(7.5, 1.0 + 0.32 * len(bars))
        (panel,) = canvas.grid_of_axes(figure, 1, 1, 1)
        labels = list(bars)
        left = [0.0] * len(labels)
        for part, color in zip(parts, PART_COLORS, strict=True):
            widths = [bars[label].get(part, 0.0) for label in labels]
            panel.barh(labels, widths, left=left, color=color, label=part, height=0.7)
            left = [start + width for start, width in zip(left, widths, strict=True)]
        for row, total in enumerate(left):
            panel.text(total, row, f" {total:.2f} s", va="center")
        panel.set(xlabel="seconds per click", xlim=(0, max(left) * 1.15))
        panel.invert_yaxis()
        panel.grid(visible=False, axis="y")
        figure.legend(loc="outside lower center", ncols=4)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    for ending in (".svg", ".png"):
        _canvas().save_figure(figure, path.with_suffix(ending), dpi=150)
