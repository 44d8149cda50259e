"""A contact sheet: objects with their clicks, predictions and errors."""

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
"""If a replay's IoU differs from the recorded one by more than this, the sheet says so."""

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
    """One object after some of its clicks.

    Attributes:
        title: Object id.
        image: H×W×3 uint8 RGB.
        ground_truth: H×W: 1 object, 0 background, -1 ignore.
        clicks: Clicks placed so far, in image pixels.
        iou: Recorded IoU in [0, 1] after the last click; None if missing.
        clicks_needed: NoC in words, such as "NoC90 > 20", or empty.
        prediction: H×W booleans after the last click; None if it could not be replayed.
        replayed_iou: IoU of ``prediction``, or None.
        remark: Remark for readers, or empty.
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
        """Whether the replay's IoU differs from the recorded one by more than :data:`TOLERANCE`."""
        return self.replayed_iou is not None and self.iou is not None and abs(self.replayed_iou - self.iou) > TOLERANCE


@in_own_style
def contact_sheet(objects: Sequence[ShownObject], *, title: str = "", remarks: Sequence[str] = ()) -> Figure:
    """Objects in two columns, each with its clicks, its prediction and its errors.

    The first picture of an object shows its image with the outline of the ground truth and the numbered clicks:
    positive ones are white discs, negative ones black squares. The second shows the prediction, the rest pale. The
    third shows its errors: missed pixels and excess pixels. Without a prediction, the second shows the ground truth and
    there is no third. Pictures are cropped around object, prediction and clicks.

    Args:
        objects: At least one.
        title: Heading of the sheet.
        remarks: Sentences for the caption.

    Raises:
        PictureError: if there is no object.
    """
    if not objects:
        raise PictureError("no object to show; give at least one")
    is_replayed = any(shown.prediction is not None for shown in objects)
    pictures = 3 if is_replayed else 2
    blocks = min(2, len(objects))
    rows = math.ceil(len(objects) / blocks)
    # A row is as high as the taller of its objects.
    tallest = [max(_height(shown) for shown in objects[row * blocks : (row + 1) * blocks]) for row in range(rows)]
    heights = [_SIDE * share + _HEADING for share in tallest]
    figure = new_figure(blocks * (pictures * _SIDE + 0.15), sum(heights) + 0.65)
    if title:
        figure.suptitle(title, fontsize=9, x=0.01, ha="left")
    frames = figure.subfigures(rows, blocks, squeeze=False, wspace=0.0, hspace=0.0, height_ratios=heights).ravel()
    for frame, shown in zip(frames, objects, strict=False):
        axes = list(frame.subplots(1, pictures))
        _draw_object(axes, shown)
        words, is_warning = _heading(shown)
        frame.suptitle(words, fontsize=7, x=0.02, ha="left", color=OUTLINE if is_warning else "black")
    _add_legend(figure, is_replayed, any((shown.ground_truth == IGNORE).any() for shown in objects))
    write_caption(figure, [_explanation(is_replayed), *remarks])
    return figure


def _draw_object(axes: Sequence[Axes], shown: ShownObject) -> None:
    view = view_of(shown)
    image, truth = shown.image[view], shown.ground_truth[view]
    for panel in axes:
        panel.set_xticks([])
        panel.set_yticks([])
        panel.set_anchor("N")
        for spine in panel.spines.values():
            spine.set(visible=True, color="#BBBBBB", linewidth=0.5)
    axes[0].imshow(image)
    _outline(axes[0], truth)
    _draw_clicks(axes[0], shown.clicks, (view[0].start, view[1].start))
    if shown.prediction is None:
        axes[1].imshow(dimmed(image, truth == 1))
        return
    predicted = shown.prediction[view]
    axes[1].imshow(dimmed(image, predicted))
    _outline(axes[1], truth)
    axes[2].imshow(error_map(truth, predicted))


def _height(shown: ShownObject) -> float:
    """Height of the visible part relative to its width, at most 1.6."""
    rows, columns = view_of(shown)
    height, width = rows.stop - rows.start, columns.stop - columns.start
    return min(1.6, float(height) / float(width))


def view_of(shown: ShownObject) -> tuple[slice, slice]:
    """Rows and columns to show: object, prediction and clicks with a margin, at least 48 pixels or the whole image."""
    marked = shown.ground_truth == 1
    if shown.prediction is not None:
        marked = marked | shown.prediction
    places = np.argwhere(marked)
    clicks = np.array([[click.row, click.col] for click in shown.clicks]).reshape(-1, 2)
    places = np.concatenate([places, clicks]) if len(places) or len(clicks) else np.array([[0, 0]])
    side = max(_LEAST_SIDE, float((1 + 2 * _MARGIN) * (np.ptp(places, axis=0) + 1).max()))
    slices = []
    for axis, length in enumerate(marked.shape):
        middle = (places[:, axis].min() + places[:, axis].max()) / 2
        start = int(np.clip(round(middle - side / 2), 0, max(0, length - math.ceil(side))))
        slices.append(slice(start, min(length, start + math.ceil(side))))
    return slices[0], slices[1]


def dimmed(image: Array, mask: Array) -> Array:
    """The image, pale and grey outside the mask; H×W×3 uint8."""
    grey = image.mean(axis=2, keepdims=True) * 0.35 + 160
    shown: Array = np.where(mask[..., None], image, grey).round().astype(np.uint8)
    return shown


def error_map(ground_truth: Array, prediction: Array) -> Array:
    """Correct and wrong pixels of a prediction in colour: H×W×3 in [0, 1]."""
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


def _heading(shown: ShownObject) -> tuple[str, bool]:
    """Id, clicks and IoU; and whether it contains a warning."""
    placed = f"click {len(shown.clicks)}"
    words = [shown.title, *([shown.clicks_needed] if shown.clicks_needed else [])]
    words.append(f"IoU at {placed} missing" if shown.iou is None else f"IoU {100 * shown.iou:.1f} % at {placed}")
    warnings = [shown.remark] if shown.remark else []
    if shown.differs:
        assert shown.replayed_iou is not None
        warnings.append(f"the replay differs: its IoU is {100 * shown.replayed_iou:.1f} %")
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
        return f"{clicks}. Middle: the prediction, the rest pale. Right: its errors."
    return f"{clicks}. Right: the object, the rest pale."
