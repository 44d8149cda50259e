"""A contact sheet: objects with their clicks, the prediction, and where it is wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from vfm_isbench.errors import PictureError
from vfm_isbench.types import IGNORE, Array, Click
from vfm_isbench.viz.canvas import PALETTE, in_own_style, new_figure, write_caption

TOLERANCE = 1e-3
"""IoU by which a replay may differ from what was recorded before the sheet says so."""

RIGHT, MISSED, TOO_MUCH, IGNORED = "#D9D9D9", PALETTE[0], PALETTE[1], "#8C8C8C"
OUTLINE = "#D55E00"
_MARGIN = 0.15
_LEAST_SIDE = 48
_SIDE = 1.35
"""Width of a picture in inches."""
_HEADING = 0.32
"""Height of an object's heading in inches, with a remark below it."""


@dataclass(frozen=True, slots=True, eq=False)
class ShownObject:
    """One object as it stood after some of its clicks.

    Attributes:
        title: Its id.
        image: H×W×3 uint8 RGB.
        ground_truth: H×W: 1 object, 0 ground, -1 ignore.
        clicks: Those placed so far, in image pixels.
        iou: IoU in [0, 1] recorded after the last of them; None where it is missing.
        clicks_needed: Words for its NoC, such as "NoC90 > 20"; empty for none.
        prediction: H×W booleans after the last of them; None where it could not be replayed.
        replayed_iou: IoU of ``prediction``; None likewise.
        remark: What else a reader must know; empty for nothing.
    """

    title: str
    image: Array
    ground_truth: Array
    clicks: tuple[Click, ...]
    iou: float | None
    clicks_needed: str = ""
    prediction: Array | None = None
    replayed_iou: float | None = None
    remark: str = ""

    @property
    def differs(self) -> bool:
        """Whether the replay's IoU is not the recorded one, within :data:`TOLERANCE`."""
        return self.replayed_iou is not None and self.iou is not None and abs(self.replayed_iou - self.iou) > TOLERANCE


@in_own_style
def contact_sheet(objects: Sequence[ShownObject], *, title: str = "", remarks: Sequence[str] = ()) -> Figure:
    """Objects in two columns, each with its clicks, its prediction and its errors.

    The first picture of an object shows its image with the outline of the ground truth and the numbered clicks:
    positive ones are white discs, negative ones black squares. The second shows what was predicted, the rest pale; the
    third where it is wrong: what was missed, and what was marked too much. Without a prediction the second shows the
    ground truth, and there is no third. Pictures are cut around object, prediction and clicks.

    Args:
        objects: At least one.
        title: Stands above all.
        remarks: Sentences for the caption.

    Raises:
        PictureError: if there is no object.
    """
    if not objects:
        raise PictureError("no object to show; give at least one")
    is_replayed = any(one.prediction is not None for one in objects)
    pictures = 3 if is_replayed else 2
    blocks = min(2, len(objects))
    rows = math.ceil(len(objects) / blocks)
    # A row is as high as the taller of its objects needs.
    tallest = [max(_height(one) for one in objects[row * blocks : (row + 1) * blocks]) for row in range(rows)]
    heights = [_SIDE * share + _HEADING for share in tallest]
    figure = new_figure(blocks * (pictures * _SIDE + 0.15), sum(heights) + 0.65)
    if title:
        figure.suptitle(title, fontsize=9, x=0.01, ha="left")
    frames = figure.subfigures(rows, blocks, squeeze=False, wspace=0.0, hspace=0.0, height_ratios=heights).ravel()
    for frame, one in zip(frames, objects, strict=False):
        axes = list(frame.subplots(1, pictures))
        _draw_object(axes, one)
        words, is_warning = _heading(one)
        frame.suptitle(words, fontsize=7, x=0.02, ha="left", color=OUTLINE if is_warning else "black")
    _add_legend(figure, is_replayed, any((one.ground_truth == IGNORE).any() for one in objects))
    write_caption(figure, [_explanation(is_replayed), *remarks])
    return figure


def _draw_object(axes: Sequence[Axes], one: ShownObject) -> None:
    view = view_of(one)
    image, truth = one.image[view], one.ground_truth[view]
    for panel in axes:
        panel.set_xticks([])
        panel.set_yticks([])
        panel.set_anchor("N")
        for spine in panel.spines.values():
            spine.set(visible=True, color="#BBBBBB", linewidth=0.5)
    axes[0].imshow(image)
    _outline(axes[0], truth)
    _draw_clicks(axes[0], one.clicks, (view[0].start, view[1].start))
    if one.prediction is None:
        axes[1].imshow(dimmed(image, truth == 1))
        return
    predicted = one.prediction[view]
    axes[1].imshow(dimmed(image, predicted))
    _outline(axes[1], truth)
    axes[2].imshow(error_map(truth, predicted))


def _height(one: ShownObject) -> float:
    """Height of what is shown, relative to its width, at most 1.6."""
    rows, columns = view_of(one)
    height, width = rows.stop - rows.start, columns.stop - columns.start
    return min(1.6, float(height) / float(width))


def view_of(one: ShownObject) -> tuple[slice, slice]:
    """Rows and columns to show: object, prediction and clicks with a margin, at least 48 pixels or the whole image."""
    marked = one.ground_truth == 1
    if one.prediction is not None:
        marked = marked | one.prediction
    places = np.argwhere(marked)
    clicks = np.array([[click.row, click.col] for click in one.clicks]).reshape(-1, 2)
    places = np.concatenate([places, clicks]) if len(places) or len(clicks) else np.array([[0, 0]])
    side = max(_LEAST_SIDE, float((1 + 2 * _MARGIN) * (np.ptp(places, axis=0) + 1).max()))
    slices = []
    for axis, length in enumerate(marked.shape):
        middle = (places[:, axis].min() + places[:, axis].max()) / 2
        start = int(np.clip(round(middle - side / 2), 0, max(0, length - math.ceil(side))))
        slices.append(slice(start, min(length, start + math.ceil(side))))
    return slices[0], slices[1]


def dimmed(image: Array, mask: Array) -> Array:
    """The image, pale and without colour outside the mask; H×W×3 uint8."""
    grey = image.mean(axis=2, keepdims=True) * 0.35 + 160
    shown: Array = np.where(mask[..., None], image, grey).round().astype(np.uint8)
    return shown


def error_map(ground_truth: Array, prediction: Array) -> Array:
    """Where a prediction is right and wrong, as colours: H×W×3 in [0, 1]."""
    is_object = ground_truth == 1
    colours = np.ones((*ground_truth.shape, 3))
    colours[is_object & prediction] = to_rgb(RIGHT)
    colours[is_object & ~prediction] = to_rgb(MISSED)
    colours[~is_object & prediction] = to_rgb(TOO_MUCH)
    colours[ground_truth == IGNORE] = to_rgb(IGNORED)
    return colours


def _outline(panel: Axes, ground_truth: Array) -> None:
    mask = ground_truth == 1
    if mask.any() and not mask.all():
        panel.contour(mask.astype(float), levels=[0.5], colors=["white"], linewidths=1.6)
        panel.contour(mask.astype(float), levels=[0.5], colors=[OUTLINE], linewidths=0.9)


def _draw_clicks(panel: Axes, clicks: Sequence[Click], origin: tuple[int, int]) -> None:
    for number, click in enumerate(clicks, start=1):
        light, dark = ("white", "black") if click.is_positive else ("black", "white")
        shape = "circle,pad=0.18" if click.is_positive else "square,pad=0.22"
        panel.text(
            click.col - origin[1],
            click.row - origin[0],
            str(number),
            ha="center",
            va="center",
            fontsize=4.2,
            color=dark,
            bbox={"boxstyle": shape, "facecolor": light, "edgecolor": dark, "linewidth": 0.4},
            zorder=3 + number,
        )


def _heading(one: ShownObject) -> tuple[str, bool]:
    """Id, clicks and IoU; and whether it warns of something."""
    placed = f"click {len(one.clicks)}"
    words = [one.title, *([one.clicks_needed] if one.clicks_needed else [])]
    words.append(f"IoU at {placed} missing" if one.iou is None else f"IoU {100 * one.iou:.1f} % at {placed}")
    warnings = [one.remark] if one.remark else []
    if one.differs:
        assert one.replayed_iou is not None
        warnings.append(f"the replay differs: its IoU is {100 * one.replayed_iou:.1f} %")
    return "\n".join([" · ".join(words), *warnings]), bool(warnings)


def _add_legend(figure: Figure, is_replayed: bool, has_ignored: bool) -> None:
    if not is_replayed:
        return
    colours = [("right", RIGHT), ("missed", MISSED), ("too much", TOO_MUCH)]
    colours += [("ignored", IGNORED)] if has_ignored else []
    patches = [Patch(facecolor=colour, edgecolor="#555555", linewidth=0.4, label=label) for label, colour in colours]
    figure.legend(handles=patches, loc="outside upper right", ncols=len(patches), handlelength=1.0, columnspacing=1.2)


def _explanation(is_replayed: bool) -> str:
    clicks = "Numbers: clicks in order, positive as white discs, negative as black squares. Line: outline of the object"
    if is_replayed:
        return f"{clicks}. Middle: what was predicted, the rest pale. Right: its errors."
    return f"{clicks}. Right: the object, the rest pale."
