"""How much of each pixel a polygon covers: exact areas, not samples.

A pixel (r, c) is the square [r, r + 1) × [c, c + 1). Along a row, the covered area changes only where the outline
passes: each piece of outline inside a pixel adds a known area to that pixel and to all pixels to its right. One sum
over the outline and one running sum over columns therefore give all areas.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vfm_isbench.types import Array


def polygon_coverage(contours: Sequence[Array], size: tuple[int, int]) -> Array:
    """Share of every pixel covered by the union of polygons.

    Exact unless outlines cross within a pixel; in such pixels the parts are added and clipped at 1.

    Args:
        contours: N×2 each, the corners (row, col) of a closed polygon in either direction, within the window.
        size: (height, width) of the window in pixels.

    Returns:
        height×width float64 in [0, 1].
    """
    start = np.concatenate(contours)
    end = np.concatenate([_following(contour) for contour in contours])
    directions = [1.0 if _signed_area(contour) >= 0 else -1.0 for contour in contours]
    row, col, area, spill, edge = _pieces(start, end)
    sign = np.repeat(directions, [len(contour) for contour in contours])[edge]
    return np.clip(_running_areas(row, col, area * sign, spill * sign, size), 0.0, 1.0)


def coloured_coverage(contours: Array, colours: Array, size: tuple[int, int]) -> tuple[Array, Array]:
    """Covered share and colour of many small polygons at once.

    Args:
        contours: M×N×2, simple polygons as in :func:`polygon_coverage`, all in the direction from the column axis to
            the row axis.
        colours: M×3, one RGB triple per polygon.
        size: (height, width) of the window in pixels.

    Returns:
        Coverage, height×width in [0, 1], and colour times coverage, 3×height×width; overlapping polygons mix.
    """
    corners = contours.shape[1]
    row, col, area, spill, edge = _pieces(contours.reshape(-1, 2), np.roll(contours, -1, axis=1).reshape(-1, 2))
    total = np.maximum(_running_areas(row, col, area, spill, size), 0.0)
    weights = colours[edge // corners].T
    planes = np.stack([_running_areas(row, col, area * weight, spill * weight, size) for weight in weights])
    covered = np.minimum(total, 1.0)
    planes *= covered / np.maximum(total, 1e-12)
    return covered, planes


def _following(contour: Array) -> Array:
    return np.concatenate([contour[1:], contour[:1]])


def _signed_area(contour: Array) -> float:
    """Area of a polygon, positive if its direction is from the column axis to the row axis."""
    following = _following(contour)
    return float(0.5 * ((following[:, 0] - contour[:, 0]) * (following[:, 1] + contour[:, 1])).sum())


def _pieces(start: Array, end: Array) -> tuple[Array, Array, Array, Array, Array]:
    """Cut edges at pixel borders: pixel of each piece, area inside it, area passed to the right, index of its edge."""
    sign = np.ones(len(start))
    edge = np.arange(len(start))
    for axis in (0, 1):
        start, end, sign, edge = _cut(start, end, sign, edge, axis)
    middle = (start + end) / 2
    pixel = np.floor(middle)
    height = (end[:, 0] - start[:, 0]) * sign
    to_the_right = height * (middle[:, 1] - pixel[:, 1])
    row, col = pixel.astype(np.int64).T
    return row, col, height - to_the_right, to_the_right, edge


def _cut(start: Array, end: Array, sign: Array, edge: Array, axis: int) -> tuple[Array, Array, Array, Array]:
    """Cut edges where the coordinate ``axis`` is an integer; pieces ascend in it and keep the sign of their edge."""
    swap = start[:, axis] > end[:, axis]
    low = np.where(swap[:, None], end, start)
    high = np.where(swap[:, None], start, end)
    sign = np.where(swap, -sign, sign)
    first = np.floor(low[:, axis]) + 1
    cuts = np.maximum(np.ceil(high[:, axis]) - first, 0).astype(np.int64)
    source = np.repeat(np.arange(len(low)), cuts + 1)
    step = np.arange(len(source)) - np.repeat(np.cumsum(cuts + 1) - cuts - 1, cuts + 1)
    low, high, first, cuts = low[source], high[source], first[source], cuts[source]
    span = high[:, axis] - low[:, axis]
    safe = np.where(span > 0, span, 1.0)[:, None]
    along = high - low

    def at(line: Array) -> Array:
        point = low + along * ((line - low[:, axis])[:, None] / safe)
        point[:, axis] = line
        return point

    piece_start = np.where((step == 0)[:, None], low, at(first + step - 1))
    piece_end = np.where((step == cuts)[:, None], high, at(first + step))
    return piece_start, piece_end, sign[source], edge[source]


def _running_areas(row: Array, col: Array, area: Array, spill: Array, size: tuple[int, int]) -> Array:
    height, width = size
    # One column more than the window, for what the last column passes to the right. Pieces on the lower border belong
    # to a row beyond the window, to which they add nothing.
    cells = height * (width + 1)
    flat = row * (width + 1) + col
    total = np.bincount(flat, weights=area, minlength=cells)[:cells]
    total += np.bincount(flat + 1, weights=spill, minlength=cells)[:cells]
    areas: Array = -np.cumsum(total.reshape(height, width + 1), axis=1)[:, :width]
    return areas
