"""IoU and failures over clicks: the mean curve of each upsampler, with its confidence band."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vfm_isbench.results import Result
from vfm_isbench.results.intervals import CONFIDENCE, estimate_mean, warn_without_effect
from vfm_isbench.types import Array
from vfm_isbench.viz.canvas import (
    DASHES,
    MARKERS,
    PALETTE,
    clicks_to_mark,
    grid_of_axes,
    in_own_style,
    new_figure,
    write_caption,
)
from vfm_isbench.viz.histogram import check_percent
from vfm_isbench.viz.series import Series, choose_datasets, group_by_seed, seeds_in_words, why_not_comparable

_MOST_COLUMNS = 3


@in_own_style
def iou_curves(
    results: Sequence[Result],
    datasets: Sequence[str] | None = None,
    *,
    confidence: float = CONFIDENCE,
    resamples: int | None = None,
) -> Figure:
    """Mean IoU over the number of clicks: a panel per data set, a line per upsampler.

    Bands are the confidence intervals of :func:`vfm_isbench.results.intervals.estimate_mean` at each click: objects
    are clustered by image, and the spread of training seeds is included if there are several.

    Early stopping leaves later IoUs missing. A line ends before the first click with a missing IoU, and the caption
    says so.

    Args:
        results: Results that differ only in the training seed form one line.
        datasets: Data sets to draw; None for all.
        confidence: Confidence of the bands, in (0, 1).
        resamples: Deprecated, without effect.

    Raises:
        ResultError: if there is no result, or no result has a data set in ``datasets``.
        IncomparableError: if results have different objects or images under one name.
    """
    warn_without_effect(resamples=resamples)
    series = group_by_seed(results)
    return _curves(series, datasets, confidence, _Values(Series.ious, "mean IoU (%)"))


@in_own_style
def failure_curves(
    results: Sequence[Result],
    datasets: Sequence[str] | None = None,
    *,
    percent: int = 90,
    confidence: float = CONFIDENCE,
) -> Figure:
    """Share of objects that have not reached an IoU, over the number of clicks: a panel per data set.

    NoF, the number of failures, is where a line ends. Bands and lines are those of :func:`iou_curves`.

    Args:
        results: Results that differ only in the training seed form one line.
        datasets: Data sets to draw; None for all.
        percent: IoU in percent, 1 … 100.
        confidence: Confidence of the bands, in (0, 1).

    Raises:
        PictureError: if ``percent`` is out of range.
        ResultError: if there is no result, or no result has a data set in ``datasets``.
        IncomparableError: if results have different objects or images under one name.
    """
    check_percent(percent)
    series = group_by_seed(results)
    values = _Values(lambda member, name: member.failing(name, percent), f"objects below {percent} % IoU (%)", True)
    return _curves(series, datasets, confidence, values)


@dataclass(frozen=True, slots=True)
class _Values:
    """What is drawn over the clicks.

    Attributes:
        of: Values S×N×K in [0, 1] of a series on a data set.
        label: What the means of them are.
        is_falling: Whether fewer are better.
    """

    of: Callable[[Series, str], Array]
    label: str
    is_falling: bool = False


def _curves(
    series: Sequence[Series],
    datasets: Sequence[str] | None,
    confidence: float,
    values: _Values,
) -> Figure:
    """A panel per data set, with the means over objects."""
    chosen = choose_datasets(series, datasets)
    # Two by two for the paper's four data sets.
    columns = 2 if len(chosen) == 4 else min(_MOST_COLUMNS, len(chosen))
    rows = math.ceil(len(chosen) / columns)
    figure = new_figure(max(3.4, 2.7 * columns), 2.5 * rows + 0.45)
    remarks: list[str] = []
    panels = grid_of_axes(figure, rows, columns, len(chosen), sharey=True)
    for panel, dataset in zip(panels, chosen, strict=True):
        for number, member in enumerate(series):
            if dataset in member.datasets:
                remarks += _draw_line(panel, member, dataset, number, confidence, values.of(member, dataset))
        _label(panel, dataset, series)
        low, high = panel.get_ylim()
        panel.set_ylim(*((0, min(100.0, high)) if values.is_falling else (max(0.0, 10 * math.floor(low / 10)), 100)))
    for first_of_row in panels[::columns]:
        first_of_row.set_ylabel(values.label)
    _add_legend(panels, series, "upper right" if values.is_falling else "lower right")
    band = f"Bands: {100 * confidence:g} % intervals of the mean, objects clustered by image"
    band += ", with the spread of training seeds" if any(len(member.results) > 1 for member in series) else ""
    write_caption(figure, [f"{band}; {seeds_in_words(series)}.", *remarks, *why_not_comparable(series)])
    return figure


def _add_legend(panels: Sequence[Axes], series: Sequence[Series], place: Literal["lower right", "upper right"]) -> None:
    """Name every series in the first panel, including those without a line there."""
    lines = {line.get_gid(): line for panel in panels for line in panel.lines if line.get_gid()}
    shown = [member for number, member in enumerate(series) if str(number) in lines]
    handles = [lines[str(number)] for number, _ in enumerate(series) if str(number) in lines]
    # Matplotlib omits labels that start with an underscore, so write them afterwards.
    legend = panels[0].legend(handles, [str(number) for number, _ in enumerate(shown)], loc=place)
    for text, member in zip(legend.get_texts(), shown, strict=True):
        text.set_text(member.label)


def _draw_line(panel: Axes, member: Series, dataset: str, number: int, confidence: float, values: Array) -> list[str]:
    """Draw the means of values S×N×K and their band; return remarks for the caption."""
    images = member.images(dataset)
    cap, known = values.shape[2], clicks_without_gap(values)
    clicks = np.arange(1, known + 1)
    estimates = [
        estimate_mean(values[:, :, click - 1], images, confidence=confidence, limits=(0, 1)) for click in clicks
    ]
    means, lows, highs = (
        100 * np.array([getattr(estimate, part) for estimate in estimates]) for part in ("value", "low", "high")
    )
    colour, dashes = PALETTE[number % len(PALETTE)], DASHES[number % len(DASHES)]
    panel.plot(
        clicks,
        means,
        color=colour,
        linestyle=dashes,
        linewidth=1.4,
        marker=MARKERS[number % len(MARKERS)],
        # At the ticks and at the end, so that dashes stay visible between them.
        markevery=sorted({click - 1 for click in [*clicks_to_mark(cap), known] if click <= known}),
        markersize=4,
        markeredgecolor="white",
        markeredgewidth=0.4,
        gid=str(number),
        clip_on=False,
        zorder=3,
    )
    remarks = []
    if np.isnan(lows).any():
        remarks.append(f"{member.label}, {dataset}: no band, because all objects lie in one image.")
    else:
        panel.fill_between(clicks, lows, highs, color=colour, alpha=0.15, linewidth=0)
        # Edges stay visible if bands overlap, and in black-and-white print.
        panel.plot(clicks, np.stack([lows, highs], axis=1), color=colour, linestyle=dashes, linewidth=0.5, alpha=0.8)
    if known < cap:
        stopped = int(np.isnan(values[:, :, -1]).sum())
        remarks.append(
            f"{member.label}, {dataset}: no mean from click {known + 1} on, because objects were stopped early "
            f"({stopped} of {values[:, :, -1].size} have no IoU at click {cap})."
        )
    return remarks


def clicks_without_gap(ious: Array) -> int:
    """Number of initial clicks at which every object of every seed has an IoU; ``ious``: S×N×K."""
    gaps = np.isnan(ious).any(axis=(0, 1))
    return int(gaps.argmax()) if gaps.any() else int(ious.shape[2])


def _label(panel: Axes, dataset: str, series: Sequence[Series]) -> None:
    have = [member for member in series if dataset in member.datasets]
    cap = max(member.results[0].protocol.max_clicks for member in have)
    panel.set_title(f"{dataset} ({len(have[0].objects(dataset))} objects)")
    panel.set_xlabel("clicks per object")
    panel.set_xlim(1, max(cap, 2))
    panel.set_xticks(clicks_to_mark(cap))
