"""Zoom-in: which crop of the image the network sees (protocol section 3.2).

Source of the rules: RITM ``isegm/inference/transforms/zoom_in.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vfm_isbench.clicks.distance import bounding_box
from vfm_isbench.protocol import Protocol
from vfm_isbench.types import Array, Click


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of pixels, all four sides included."""

    row_min: int
    row_max: int
    col_min: int
    col_max: int

    @classmethod
    def whole(cls, shape: tuple[int, int]) -> Box:
        """The box of an image of shape (H, W)."""
        return cls(0, shape[0] - 1, 0, shape[1] - 1)

    @classmethod
    def around(cls, mask: Array) -> Box | None:
        """The smallest box that holds the True pixels of H×W booleans; None if there are none."""
        box = bounding_box(mask)
        if box is None:
            return None
        rows, cols = box
        return cls(rows.start, rows.stop - 1, cols.start, cols.stop - 1)

    @property
    def height(self) -> int:
        """Rows."""
        return self.row_max - self.row_min + 1

    @property
    def width(self) -> int:
        """Columns."""
        return self.col_max - self.col_min + 1

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the box in an H×W array."""
        return slice(self.row_min, self.row_max + 1), slice(self.col_min, self.col_max + 1)

    def holds(self, click: Click) -> bool:
        """Whether a click lies inside; the last row and column already count as outside, as in the reference."""
        return self.row_min <= click.row < self.row_max and self.col_min <= click.col < self.col_max

    def overlap(self, other: Box) -> float:
        """Product of the IoUs along the two axes, in [0, 1]."""
        return _axis_iou(self.row_min, self.row_max, other.row_min, other.row_max) * _axis_iou(
            self.col_min, self.col_max, other.col_min, other.col_max
        )

    def map_click(self, click: Click, size: int) -> Click:
        """Coordinates of an image click in the crop after it is resized to size×size; fractional."""
        return Click(
            size * (click.row - self.row_min) / self.height,
            size * (click.col - self.col_min) / self.width,
            click.is_positive,
        )


def _axis_iou(low: int, high: int, other_low: int, other_high: int) -> float:
    shared = min(high, other_high) - max(low, other_low) + 1
    return max(0, shared) / (max(high, other_high) - min(low, other_low) + 1)


def _expanded(low: int, high: int, expansion: float, min_size: int, last: int) -> tuple[int, int]:
    """Enlarge a range around its centre, to at least ``min_size``, and clamp it to 0 … ``last``."""
    centre = (low + high) / 2
    half = max(expansion * (high - low + 1), min_size) / 2
    return max(0, round(centre - half)), min(last, round(centre + half))


def object_box(extent: Box, shape: tuple[int, int], clicks: Sequence[Click], *, expansion: float, min_size: int) -> Box:
    """Box around the predicted object and its positive clicks, enlarged.

    Args:
        extent: Box around the predicted pixels.
        shape: (H, W) of the image.
        clicks: All clicks so far.
        expansion: Enlargement around the centre.
        min_size: Least side in pixels, before it is clamped to the image.
    """
    positive = [click for click in clicks if click.is_positive]
    row_span = [extent.row_min, extent.row_max, *(int(click.row) for click in positive)]
    col_span = [extent.col_min, extent.col_max, *(int(click.col) for click in positive)]
    row_min, row_max = _expanded(min(row_span), max(row_span), expansion, min_size, shape[0] - 1)
    col_min, col_max = _expanded(min(col_span), max(col_span), expansion, min_size, shape[1] - 1)
    return Box(row_min, row_max, col_min, col_max)


def choose_crop(
    current: Box | None, extent: Box | None, shape: tuple[int, int], clicks: Sequence[Click], protocol: Protocol
) -> Box:
    """Decide the crop for the next prediction.

    The crop in use stays unless there is none, a positive click lies outside it, or it overlaps too little with the box
    of the current prediction.

    Args:
        current: Crop in use; None before the first click.
        extent: Box around the pixels whose probability exceeds the protocol's ``zoom_threshold`` in the previous
            prediction; None if there are none, or before the first prediction.
        shape: (H, W) of the image.
        clicks: All clicks so far, the newest included.
        protocol: For the zoom-in settings.
    """
    whole = Box.whole(shape)
    if not protocol.zoom_in:
        return whole
    wanted = whole
    if extent is not None:
        wanted = object_box(extent, shape, clicks, expansion=protocol.zoom_expansion, min_size=protocol.zoom_min_size)
    if current is None:
        return wanted
    all_inside = all(current.holds(click) for click in clicks if click.is_positive)
    return current if all_inside and wanted.overlap(current) >= protocol.zoom_recompute_iou else wanted
