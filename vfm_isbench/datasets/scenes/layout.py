"""Which objects a scene has and where they are: everything that determines the labels, nothing about colour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vfm_isbench.datasets.scenes.draws import pick
from vfm_isbench.datasets.scenes.shapes import SHAPES
from vfm_isbench.datasets.scenes.style import REFERENCE_SIDE, SceneStyle
from vfm_isbench.errors import ProtocolError
from vfm_isbench.types import Array

_TRIES = 14
"""Attempts to place an object before it is dropped."""
_SHRINK = 0.95
"""Factor on its size after each attempt, because a smaller object finds room more easily."""
_ROUNDS = 40
"""Layouts started before a style is called impossible; the default style needs at most three."""


@dataclass(frozen=True, slots=True, eq=False)
class PlacedObject:
    """An object at its position.

    Attributes:
        family: Name of its family of shapes.
        top: Row of the window's first pixel; negative above the image.
        left: Column of the window's first pixel; negative left of the image.
        coverage: Covered share of each pixel of the window, in [0, 1], ignoring the image border and other objects.
        radius: Radius in pixels.
        area: Number of pixels covered by half or more, ignoring the image border and other objects.
    """

    family: str
    top: int
    left: int
    coverage: Array
    radius: float
    area: int

    def inside(self, size: tuple[int, int]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """The part of the window within an image, as slices of the image and of the window."""
        return overlap(self.top, self.left, self.coverage.shape[:2], size)


def overlap(
    top: int, left: int, window: tuple[int, ...], size: tuple[int, int]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Overlap of an image with a window at (top, left), as slices of the image and of the window."""
    bottom, right = min(top + window[0], size[0]), min(left + window[1], size[1])
    first_row, first_col = max(top, 0), max(left, 0)
    rows, cols = slice(first_row, max(bottom, first_row)), slice(first_col, max(right, first_col))
    return (rows, cols), (slice(rows.start - top, rows.stop - top), slice(cols.start - left, cols.stop - left))


def lay_out(rng: np.random.Generator, size: tuple[int, int], style: SceneStyle) -> tuple[list[PlacedObject], Array]:
    """Place objects on top of each other, keeping the minimum visible area and share of each.

    Args:
        rng: Source of all draws.
        size: (height, width) of the image in pixels.
        style: Difficulty settings.

    Returns:
        The objects from bottom to top, and the labels, height×width int32: 0 background, k where the k-th object is the
        topmost one that covers at least half of the pixel.

    Raises:
        ProtocolError: if there is no room for the minimum number of objects of ``style``.
    """
    wanted = pick(rng, *style.objects_per_image)
    # Fewer objects leave more room for each.
    crowding = (3.0 / wanted) ** 0.25
    for _ in range(_ROUNDS):
        objects: list[PlacedObject] = []
        labels = np.zeros(size, dtype=np.int32)
        visible = np.array([labels.size])
        for _ in range(wanted):
            visible = _place(rng, objects, labels, visible, style, crowding)
        if len(objects) >= style.objects_per_image[0]:
            return objects, labels
    raise ProtocolError(
        f"found no room for {style.objects_per_image[0]} objects in a scene of {size[0]}×{size[1]} px; "
        "lower objects_per_image, object_radius, min_visible_area or min_visible_share of the scene style."
    )


def _place(
    rng: np.random.Generator,
    objects: list[PlacedObject],
    labels: Array,
    visible: Array,
    style: SceneStyle,
    crowding: float,
) -> Array:
    """Place one more object and add it to ``objects`` and ``labels``, if there is room.

    ``visible`` counts the pixels per label; returns the new counts.
    """
    size = (labels.shape[0], labels.shape[1])
    unit = min(size) / REFERENCE_SIDE
    family = _family(rng, style)
    radius = rng.uniform(*style.object_radius) * unit * crowding
    touches = bool(objects) and rng.random() < style.touch_share
    own = np.array([thing.area for thing in objects])
    for attempt in range(_TRIES):
        r = radius * _SHRINK**attempt
        width = min(rng.uniform(*style.thin_width) * unit, 0.35 * r)
        shape = SHAPES[family](rng, r, width).turned(rng.uniform(0, 2 * np.pi))
        row, col = _centre(rng, size, r, objects, objects[pick(rng, 0, len(objects) - 1)] if touches else None)
        if not touches and any(_distance((row, col), thing) < 0.9 * (r + thing.radius) for thing in objects):
            continue
        coverage, top, left = shape.coverage(row, col)
        mask = coverage >= 0.5
        thing = PlacedObject(family, top, left, coverage, r, int(np.count_nonzero(mask)))
        in_image, in_window = thing.inside(size)
        under = labels[in_image]
        hidden = np.bincount(under[mask[in_window]], minlength=len(objects) + 1)
        after = np.append(visible - hidden, hidden.sum())
        enough = np.maximum(style.min_visible_area * labels.size, style.min_visible_share * np.append(own, thing.area))
        if (after[1:] >= enough).all():
            objects.append(thing)
            under[mask[in_window]] = len(objects)
            return after
    return visible


def _family(rng: np.random.Generator, style: SceneStyle) -> str:
    shares = {"thin": style.thin_share, "holed": style.holed_share, "polygonal": style.polygonal_share}
    draw = rng.random()
    for name, share in shares.items():
        if draw < share:
            return name
        draw -= share
    return "smooth"


def _centre(
    rng: np.random.Generator,
    size: tuple[int, int],
    radius: float,
    objects: list[PlacedObject],
    neighbour: PlacedObject | None,
) -> tuple[float, float]:
    """A centre where there is room, or close enough to a neighbour for the two to touch."""
    if neighbour is None:
        margin = min(0.8 * radius, 0.4 * min(size))
        tried = [(rng.uniform(margin, size[0] - margin), rng.uniform(margin, size[1] - margin)) for _ in range(3)]
        # The candidate with the most room around it, because a single random centre often leaves half the image empty.
        return max(tried, key=lambda at: min((_distance(at, thing) - thing.radius for thing in objects), default=0.0))
    angle = rng.uniform(0, 2 * np.pi)
    reach = rng.uniform(0.6, 1.0) * (radius + neighbour.radius)
    row, col = _middle(neighbour)
    row, col = row + reach * np.sin(angle), col + reach * np.cos(angle)
    return float(np.clip(row, 0, size[0])), float(np.clip(col, 0, size[1]))


def _middle(thing: PlacedObject) -> tuple[float, float]:
    return thing.top + thing.coverage.shape[0] / 2, thing.left + thing.coverage.shape[1] / 2


def _distance(at: tuple[float, float], thing: PlacedObject) -> float:
    middle = _middle(thing)
    return float(np.hypot(at[0] - middle[0], at[1] - middle[1]))
