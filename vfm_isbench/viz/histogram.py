"""How many clicks objects need: a histogram that shows what the cap hides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vfm_isbench.errors import PictureError
from vfm_isbench.results import Result
from vfm_isbench.viz.canvas import (
    PALETTE,
    clicks_to_mark,
    grid_of_axes,
    in_own_style,
    new_figure,
    write_below_title,
    write_caption,
)
from vfm_isbench.viz.series import Series, choose_datasets, group_by_seed, seeds_in_words, why_not_comparable


@in_own_style
def noc_histogram(results: Sequence[Result], datasets: Sequence[str] | None = None, *, percent: int = 90) -> Figure:
    """Share of objects over the clicks they need to reach an IoU: a row per upsampler, a column per data set.

    Objects that never reach it count as the cap in NoC. Here they are a bar of their own on top of those that need
    exactly as many clicks: hatched, with their number. Objects of which nobody knows, because they were stopped early
    below the IoU, are left out; there is then no mean, and the caption says of how many.

    Args:
        results: Those that differ in nothing but the training seed are pooled.
        datasets: Data sets to draw; None for all.
        percent: IoU in percent, 1 … 100.

    Raises:
        PictureError: if ``percent`` is out of range.
        ResultError: if there is no result, or none has a data set that was named.
        IncomparableError: if results have different objects or images under one name.
    """
    check_percent(percent)
    series = group_by_seed(results)
    chosen = choose_datasets(series, datasets)
    pairs = [(one, dataset) for one in series for dataset in chosen]
    columns = len(chosen)
    figure = new_figure(max(3.4, 2.7 * columns), 1.65 * len(series) + 0.75)
    panels = grid_of_axes(figure, len(series), columns, len(pairs), sharex="col", sharey=True)
    remarks: list[str] = []
    for place, (panel, (one, dataset)) in enumerate(zip(panels, pairs, strict=True)):
        if dataset in one.datasets:
            remarks += _draw_bars(panel, one, dataset, percent)
        else:
            panel.set_title(f"{one.label} · {dataset}: not evaluated")
        if place % columns == 0:
            panel.set_ylabel("objects (%)")
        if place >= len(pairs) - columns:
            panel.set_xlabel(f"clicks to reach {percent} % IoU")
    caps = sorted({one.results[0].protocol.max_clicks for one in series})
    cap = "/".join(map(str, caps))
    hatched = f"Hatched: objects that do not reach {percent} % IoU in {cap} clicks; NoC{percent} counts them as {cap}"
    seeds = seeds_in_words(series)
    seeds += ", whose objects are counted together" if any(len(one.results) > 1 for one in series) else ""
    write_caption(figure, [f"{hatched}; {seeds}.", *remarks, *why_not_comparable(series)])
    return figure


def check_percent(percent: int) -> None:
    """Refuse an IoU that is no percentage.

    Raises:
        PictureError: if it is out of range.
    """
    if not 1 <= percent <= 100:
        raise PictureError(f"an IoU of {percent} % cannot be reached or missed; expected a whole number of 1 … 100")


def _draw_bars(panel: Axes, one: Series, dataset: str, percent: int) -> list[str]:
    """Draw one histogram; returns what the caption must say of it."""
    ious = one.ious(dataset)
    cap = ious.shape[2]
    counts = one.clicks_needed(dataset, percent).ravel()
    reached = (ious >= percent / 100).any(axis=2).ravel()
    unknown = int(np.isnan(counts).sum())
    missed = int(np.count_nonzero(~reached)) - unknown
    share = 100 / len(counts)
    bars = share * np.bincount(counts[reached].astype(int), minlength=cap + 1)[1:]
    panel.bar(np.arange(1, cap + 1), bars, width=0.8, color=PALETTE[0])
    if missed:
        panel.bar(
            [cap],
            [share * missed],
            bottom=[bars[-1]],
            width=0.8,
            facecolor="white",
            edgecolor=PALETTE[3],
            hatch="//////",
        )
    panel.set_xlim(0.3, cap + 0.7)
    panel.set_xticks(clicks_to_mark(cap))
    panel.grid(axis="x", visible=False)
    panel.set_title(f"{one.label} · {dataset}")
    score = "unknown" if unknown else f"{counts.mean():.2f}"
    write_below_title(panel, f"NoC{percent} {score}, not reached: {missed} of {len(counts)}")
    if not unknown:
        return []
    return [
        f"{one.label}, {dataset}: {unknown} of {len(counts)} objects were stopped early below {percent} % and are left "
        "out, for how many clicks they need is not known."
    ]
