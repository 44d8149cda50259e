"""One upsampler against another, object by object."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vfm_isbench.errors import PictureError
from vfm_isbench.results import Result
from vfm_isbench.types import Array
from vfm_isbench.viz.canvas import (
    GREY,
    PALETTE,
    clicks_to_mark,
    grid_of_axes,
    in_own_style,
    new_figure,
    write_below_title,
    write_caption,
)
from vfm_isbench.viz.histogram import check_percent
from vfm_isbench.viz.series import Series, choose_datasets, group_by_seed, seeds_in_words, why_not_comparable

_SMALLEST = 14.0
"""Area of the dot of a single object, in square points."""

_CROWD = 200
"""From this number on, dots are pale and have no edges, to show where there are many."""

_NUMBERED = 4
"""From this number of objects on, a dot is large enough to show it."""


@dataclass(frozen=True, slots=True)
class ObjectScore:
    """A score that every object has.

    Attributes:
        kind: "noc" or "iou".
        number: IoU in percent, or number of clicks.
    """

    kind: str
    number: int

    @classmethod
    def parse(cls, text: str) -> ObjectScore:
        """From "noc90", "iou@5" or "iou_at_5".

        Raises:
            PictureError: for anything else.
        """
        found = re.fullmatch(r"(noc|iou)(?:@|_at_)?([0-9]{1,4})", text.strip().lower())
        if found is None:
            raise PictureError(f"there is no object score {text!r}; expected noc80, noc85, noc90, iou@1, iou@5, …")
        return cls(found[1], int(found[2]))

    @property
    def fewer_is_better(self) -> bool:
        """Fewer clicks are better, but higher IoUs."""
        return self.kind == "noc"

    def per_object(self, series: Series, dataset: str) -> Array:
        """N scores, clicks or IoU in percent, averaged over training seeds; NaN if any is missing.

        Raises:
            PictureError: if the number is out of range.
        """
        if self.kind == "noc":
            check_percent(self.number)
            scores = series.clicks_needed(dataset, self.number)
        else:
            ious = series.ious(dataset)
            if not 1 <= self.number <= ious.shape[2]:
                raise PictureError(f"no IoU after {self.number} clicks: there are 1 … {ious.shape[2]} per object")
            scores = 100 * ious[:, :, self.number - 1]
        mean: Array = scores.mean(axis=0)
        return mean

    @property
    def unit(self) -> str:
        """Unit for the axes."""
        if self.kind == "noc":
            return f"clicks to {self.number} % IoU"
        return f"IoU (%) after {self.number} click{'s' if self.number > 1 else ''}"


@in_own_style
def object_scatter(
    first: Sequence[Result] | Result,
    second: Sequence[Result] | Result,
    datasets: Sequence[str] | None = None,
    *,
    score: str = "noc90",
) -> Figure:
    """A dot per object: its score with one upsampler on the horizontal axis, with the other on the vertical axis.

    Objects at the same place form one larger dot with an area proportional to their number, because whole numbers of
    clicks would make dots hide each other. Objects with a missing score on either side, because they were stopped
    early, are left out, and the caption says how many.

    Args:
        first: Result, or results of several training seeds, which are averaged object by object; the horizontal axis.
        second: Likewise; the vertical axis.
        datasets: Data sets to draw, one panel each; None for all that both have.
        score: "noc90" (or another IoU in percent), or "iou@5", also "iou_at_5" (or another number of clicks).

    Raises:
        PictureError: if there is no such score, or either side is more than one upsampler and protocol.
        ResultError: if a data set is missing.
        IncomparableError: if the two were measured on different objects or images.
    """
    asked = ObjectScore.parse(score)
    pair = _two_series(first, second)
    both = [name for name in pair[0].datasets if name in pair[1].datasets]
    chosen = choose_datasets(pair, datasets or both)
    if any(name not in both for name in chosen) or not chosen:
        raise PictureError(f"no data set to draw that both {pair[0].label} and {pair[1].label} have")
    figure = new_figure(max(3.3, 2.75 * len(chosen)), 3.5)
    panels = grid_of_axes(figure, 1, len(chosen), len(chosen))
    remarks: list[str] = []
    stacked = False
    for panel, dataset in zip(panels, chosen, strict=True):
        x, y = (asked.per_object(member, dataset) for member in pair)
        known = ~(np.isnan(x) | np.isnan(y))
        if not known.all():
            left_out = f"{int((~known).sum())} of {len(known)} objects are left out"
            remarks.append(f"{dataset}: {left_out}, because they were stopped early and have no score.")
        panel.set_title(f"{dataset} ({int(known.sum())} objects)")
        stacked |= _draw_dots(panel, x[known], y[known], asked, pair)
        panel.set_xlabel(f"{pair[0].label}: {asked.unit}")
    panels[0].set_ylabel(f"{pair[1].label}: {asked.unit}")
    sentences = [f"A dot per object{'; its area is proportional to the objects at that place' if stacked else ''}."]
    if asked.fewer_is_better:
        sentences.append(f"Dashed: the cap; objects that do not reach {asked.number} % IoU lie on it.")
    sentences.append(f"Data: {seeds_in_words(pair)}.")
    write_caption(figure, [*sentences, *remarks, *why_not_comparable(pair)])
    return figure


def _two_series(first: Sequence[Result] | Result, second: Sequence[Result] | Result) -> list[Series]:
    sides = [[side] if isinstance(side, Result) else list(side) for side in (first, second)]
    grouped = [group_by_seed(side) for side in sides]
    for place, groups in zip(("first", "second"), grouped, strict=True):
        if len(groups) != 1:
            raise PictureError(
                f"the {place} side has {len(groups)} upsamplers or protocols; expected results of one, over its seeds"
            )
    labels = [member.label for member in group_by_seed([sides[0][0], sides[1][0]])]
    if len(labels) == 1:  # two seeds of one upsampler, one on either side
        labels = [f"{grouped[side][0].label} (seed {sides[side][0].protocol.seed})" for side in (0, 1)]
    return [Series(label, groups[0].results) for label, groups in zip(labels, grouped, strict=True)]


def _draw_dots(panel: Axes, x: Array, y: Array, score: ObjectScore, pair: Sequence[Series]) -> bool:
    """Draw one panel; return whether objects share a place."""
    places, counts = np.unique(np.stack([x, y], axis=1).round(9), axis=0, return_counts=True)
    panel.scatter(
        places[:, 0],
        places[:, 1],
        s=_SMALLEST * counts,
        color=PALETTE[0],
        alpha=0.8 if len(places) < _CROWD else 0.4,
        edgecolor="white",
        linewidth=0.4 if len(places) < _CROWD else 0,
        clip_on=False,
        zorder=3,
    )
    for (across, up), count in zip(places, counts, strict=True):
        if count >= _NUMBERED:
            panel.text(across, up, str(count), ha="center", va="center_baseline", fontsize=5.5, color="white", zorder=4)
    if score.fewer_is_better:
        caps = [member.results[0].protocol.max_clicks for member in pair]
        panel.axvline(caps[0], color=GREY, linewidth=0.7, linestyle=(0, (4, 3)), clip_on=False)
        panel.axhline(caps[1], color=GREY, linewidth=0.7, linestyle=(0, (4, 3)), clip_on=False)
        low, high = 1.0, float(max(2, *caps))  # dots on the ends are drawn whole, see clip_on
        panel.set_xticks(clicks_to_mark(caps[0]))
        panel.set_yticks(clicks_to_mark(caps[1]))
    else:
        # Whole tens around all objects, at least twenty points wide.
        high = min(100.0, 10 * float(np.ceil(max([*x, *y, 20.0]) / 10)))
        low = min(10 * float(np.floor(min([*x, *y, 100.0]) / 10)), high - 20)
        tens = np.arange(low, high + 5, 10 if high - low <= 60 else 20)
        panel.set_xticks(tens)
        panel.set_yticks(tens)
    panel.plot([low, high], [low, high], color=GREY, linewidth=0.7)
    panel.set_xlim(low, high)
    panel.set_ylim(low, high)
    panel.set_aspect("equal")
    _tell_counts(panel, x, y, score, pair)
    return bool((counts > 1).any())


def _tell_counts(panel: Axes, x: Array, y: Array, score: ObjectScore, pair: Sequence[Series]) -> None:
    """Write how many objects are better with each side (above and below the diagonal), and how many are equal."""
    above, below = int((y > x).sum()), int((y < x).sum())
    upper, lower = (pair[0], pair[1]) if score.fewer_is_better else (pair[1], pair[0])
    equal = len(x) - above - below
    counts = f"better with {upper.label}: {above} (above), with {lower.label}: {below} (below), equal: {equal}"
    write_below_title(panel, counts)
