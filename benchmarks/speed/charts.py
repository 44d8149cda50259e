"""Pictures of what was measured; they need matplotlib."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

COLORS = ("#4477aa", "#66ccee", "#228833", "#ccbb44", "#ee6677", "#aa3377", "#bbbbbb", "#555555")
"""Paul Tol's bright scheme, which people who are colour-blind can tell apart, and a dark gray."""

_WAY_COLORS = {"slow": COLORS[4], "fast": COLORS[0]}


def _pyplot() -> Any:
    """Matplotlib's plotting, without a screen.

    Raises:
        SystemExit: if matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise SystemExit("pictures need matplotlib: pip install matplotlib (the tables do without)") from error
    matplotlib.use("Agg")
    # Text stays text, which is smaller, and the same input gives the same file.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "speed", "font.size": 8})
    from matplotlib import pyplot

    return pyplot


def draw_growth(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Small panels, one per thing that grows, on logarithmic axes.

    Args:
        rows: Of growth.py, each with a label.
        path: File to write; with the ending .svg or .png, both are written.
    """
    pyplot = _pyplot()
    axes = list(dict.fromkeys(row["axis"] for row in rows))
    picture, panels = pyplot.subplots(1, len(axes), figsize=(2.2 * len(axes), 2.4), squeeze=False, layout="constrained")
    for name, panel in zip(axes, panels[0], strict=True):
        for row in rows:
            if row["axis"] != name:
                continue
            medians = [statistics.median(times) for times in row["seconds"]]
            below = [middle - min(times) for middle, times in zip(medians, row["seconds"], strict=True)]
            above = [max(times) - middle for middle, times in zip(medians, row["seconds"], strict=True)]
            panel.errorbar(
                row["values"], medians, yerr=[below, above], marker="o", markersize=3, linewidth=1, capsize=2,
                color=_WAY_COLORS[row["way"]], label=f"{row['way']}: {row['exponent']:.2f}",
            )  # fmt: skip
            panel.set_xlabel(row["label"])
            panel.set_xscale("log")
            panel.set_yscale("log")
            panel.set_xticks(row["values"], [str(value) for value in row["values"]])
            panel.minorticks_off()
        panel.grid(alpha=0.3)
        panel.legend(title="exponent", fontsize=7, title_fontsize=7)
    panels[0][0].set_ylabel("seconds")
    _save(picture, path)


def draw_parts(bars: dict[str, dict[str, float]], parts: Sequence[str], path: Path) -> None:
    """Stacked bars.

    Args:
        bars: Label to seconds by part.
        parts: Parts, in the order in which they are stacked.
        path: See :func:`draw_growth`.
    """
    pyplot = _pyplot()
    picture, panel = pyplot.subplots(figsize=(7.5, 0.6 + 0.36 * len(bars)), layout="constrained")
    labels = list(bars)
    left = [0.0] * len(labels)
    for part, color in zip(parts, COLORS, strict=True):
        widths = [bars[label].get(part, 0.0) for label in labels]
        panel.barh(labels, widths, left=left, color=color, label=part, height=0.7)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    for row, total in enumerate(left):
        panel.text(total, row, f" {total:.2f} s", va="center")
    panel.invert_yaxis()
    panel.set_xlabel("seconds per click")
    panel.set_xlim(0, max(left) * 1.12)
    panel.legend(loc="lower right", fontsize=7)
    panel.spines[["top", "right"]].set_visible(False)
    _save(picture, path)


def _save(picture: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    for ending in (".svg", ".png"):
        # Without the date, the same figures give the same file.
        metadata = {"Date": None} if ending == ".svg" else {}
        picture.savefig(path.with_suffix(ending), dpi=130, metadata=metadata)
    _pyplot().close(picture)
