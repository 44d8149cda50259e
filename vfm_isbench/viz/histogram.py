"""A histogram of the clicks that objects need, which shows what the cap hides."""

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

    NoC counts objects that never reach the IoU as the cap. Here they form a separate, hatched bar on top of those that
    need exactly as many clicks, with their number. Objects that were stopped early below the IoU are left out, because
    their count is unknown; then there is no mean, and the caption says how many are missing.

    Args:
        results: Results that differ only in the training seed are pooled.
        datasets: Data sets to draw; None for all.
        percent: IoU in percent, 1 … 100.

    Raises:
        PictureError: if ``percent`` is out of range.
        ResultError: if there is no result, or no result has a data set in ``datasets``.
        IncomparableError: if results have different objects or images under one name.
    """
    check_percent(percent)
    series = group_by_seed(results)
    chosen = choose_datasets(series, datasets)
    pairs = [(member, dataset) for member in series for dataset in chosen]
    columns = len(chosen)
    figure = new_figure(max(3.4, 2.7 * columns), 1.65 * len(series) + 0.75)
    panels = grid_of_axes(figure, len(series), columns, len(pairs), sharex="col", sharey=True)
    remarks: list[str] = []
    for place, (panel, (member, dataset)) in enumerate(zip(panels, pairs, strict=True)):
        if dataset in member.datasets:
            remarks += _draw_bars(panel, member, dataset, percent)
        else:
            panel.set_title(f"{member.label} · {dataset}: not evaluated")
        if place % columns == 0:
            panel.set_ylabel("objects (%)")
        if place >= len(pairs) - columns:
            panel.set_xlabel(f"clicks to reach {percent} % IoU")
    caps = sorted({member.results[0].protocol.max_clicks for member in series})
    cap = "/".join(map(str, caps))
    hatched = f"Hatched: objects that do not reach {percent} % IoU in {cap} clicks; NoC{percent} counts them as {cap}"
    seeds = seeds_in_words(series)
    seeds += ", whose objects are counted together" if any(len(member.results) > 1 for member in series) else ""
    write_caption(figure, [f"{hatched}; {seeds}.", *remarks, *why_not_comparable(series)])
    return figure


def check_percent(percent: int) -> None:
    """Refuse an IoU that is not a percentage.

    Raises:
        PictureError: if it is out of range.
    """
    if not 1 <= percent <= 100:
        raise PictureError(f"an IoU of {percent} % is out of range; expected a whole number of 1 … 100")


def _draw_bars(panel: Axes, member: Series, dataset: str, percent: int) -> list[str]:
    """Draw one histogram; return remarks for the caption."""
    ious = member.ious(dataset)
    cap = ious.shape[2]
    counts = member.clicks_needed(dataset, percent).ravel()
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
    panel.set_title(f"{member.label} · {dataset}")
    score = "unknown" if unknown else f"{counts.mean():.2f}"
    write_below_title(panel, f"NoC{percent} {score}, not reached: {missed} of {len(counts)}")
    if not unknown:
        return []
    return [
        f"{member.label}, {dataset}: {unknown} of {len(counts)} objects were stopped early below {percent} % and are "
        "left out, because the clicks they need are unknown."
    ]
