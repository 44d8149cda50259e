"""The smallest difference that a benchmark shows, over the time that its runs take."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from vfm_isbench.errors import PictureError
from vfm_isbench.results import Resolution
from vfm_isbench.results.object_scores import Metric
from vfm_isbench.results.resolution import SEEDS
from vfm_isbench.viz.canvas import DASHES, GREY, MARKERS, PALETTE, grid_of_axes, in_own_style, new_figure, write_caption

_GROWTH = np.geomspace(1, 300, 16)
"""Multiples of the measured objects."""


@in_own_style
def resolution_over_time(resolution: Resolution) -> Figure:
    """Smallest difference over minutes per upsampler: a panel per data set, a line per number of seeds.

    Along a line, the number of objects grows from those that were measured.

    Raises:
        PictureError: if no data set has both components of the score and times.
    """
    metric = Metric.named(resolution.metric)
    shown = [one for one in resolution.measured if one.cost is not None and resolution.metric in one.components]
    if not shown:
        raise PictureError(f"nothing to draw: no result has the times of its parts and components of {metric.label}")
    scale = 1 if metric.is_noc else 100
    figure = new_figure(max(3.6, 2.9 * len(shown)), 3.0)
    panels = grid_of_axes(figure, 1, len(shown), len(shown))
    for panel, found in zip(panels, shown, strict=True):
        assert found.cost is not None
        counts = [round(found.objects * factor) for factor in _GROWTH]
        for number, seeds in enumerate(SEEDS):
            minutes = [found.cost.seconds(count, seeds) / 60 for count in counts]
            smallest = [
                scale * resolution.smallest(metric.name, found.dataset, objects=count, seeds=seeds) for count in counts
            ]
            panel.plot(
                minutes,
                smallest,
                color=PALETTE[number],
                linestyle=DASHES[number % len(DASHES)],
                marker=MARKERS[number],
                markersize=3,
                linewidth=1.3,
                label=f"{seeds} seeds",
            )
        if resolution.margin is not None:
            panel.axhline(scale * resolution.margin, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)))
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_title(f"{found.dataset} (from {found.objects} objects)")
        panel.set_xlabel("minutes per upsampler")
    unit = "clicks" if metric.is_noc else "points"
    panels[0].set_ylabel(f"smallest difference in {metric.label} ({unit})")
    panels[0].legend(loc="upper right")
    aim = resolution.aim
    sentences = [
        f"Shown with {100 * aim.power:g} % probability by a one-sided bound of {100 * aim.confidence:g} % confidence.",
        "Along a line, the number of test objects grows.",
    ]
    if resolution.margin is not None:
        sentences.append(f"Dashed: {scale * resolution.margin:g} {unit}.")
    write_caption(figure, sentences)
    return figure
