"""Shapes of scene objects in four families: smooth, polygonal, thin and holed.

A shape is a short list of closed contours in pixels around the origin; each is added to the shape or cut out of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vfm_isbench.datasets.scenes.contours import bar, bent_path, blob, ellipse, polygon, star_shaped, strip
from vfm_isbench.datasets.scenes.coverage import polygon_coverage
from vfm_isbench.datasets.scenes.draws import pick
from vfm_isbench.types import Array


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """The outline of an object.

    Attributes:
        steps: Contours (N×2, row and col) in order, each with True to add its interior or False to cut it out.
    """

    steps: tuple[tuple[Array, bool], ...]

    def turned(self, angle: float) -> Shape:
        """The shape rotated around the origin by ``angle`` (radians)."""
        cos, sin = np.cos(angle), np.sin(angle)
        rotation = np.array([[cos, sin], [-sin, cos]])
        return Shape(tuple((contour @ rotation, adds) for contour, adds in self.steps))

    def coverage(self, row: float, col: float) -> tuple[Array, int, int]:
        """Covered share of every pixel, with the origin at (row, col).

        Returns:
            Coverage in [0, 1] within a window around the shape, and the (row, col) of the window's first pixel, which
            may be negative.
        """
        everything = np.concatenate([contour for contour, _ in self.steps]) + (row, col)
        top, left = (int(v) - 1 for v in np.floor(everything.min(axis=0)))
        height, width = (int(v) + 2 for v in np.floor(everything.max(axis=0)) - (top, left))
        covered = np.zeros((height, width))
        shift = np.array([row - top, col - left])
        for adds, group in itertools.groupby(self.steps, key=lambda step: step[1]):
            inside = polygon_coverage([contour + shift for contour, _ in group], (height, width))
            # Exact if at most one outline passes through the pixel.
            covered = covered + (1 - covered) * inside if adds else covered * (1 - inside)
        return covered, top, left


# Each takes the generator, a radius and the width of thin parts, both in pixels.


def smooth(rng: np.random.Generator, radius: float, width: float) -> Shape:
    """A blob, often lobed, with a bite, or with a second body."""
    lobes = pick(rng, 5, 9) if rng.random() < 0.3 else 0
    steps = [(blob(rng, radius, roughness=rng.uniform(0.2, 0.75), lobes=lobes), True)]
    kind = rng.random()
    if kind < 0.35:
        reach = radius * rng.uniform(0.6, 0.9)
        bite = ellipse(radius * rng.uniform(0.25, 0.5), radius * rng.uniform(0.25, 0.5), (0.0, reach))
        steps.append((bite, False))
    elif kind < 0.7:
        lobe = blob(rng, radius * rng.uniform(0.4, 0.6)) + (0.0, radius * rng.uniform(0.6, 0.8))
        steps.append((lobe, True))
    return Shape(tuple(steps))


def polygonal(rng: np.random.Generator, radius: float, width: float) -> Shape:
    """A polygon, a toothed wheel, an arrow, or a letter-like body of thick bars."""
    kind = pick(rng, 0, 4)
    r = radius
    if kind == 4:
        return Shape(((polygon(rng, r, pick(rng, 3, 7)), True),))
    if kind == 0:
        teeth = pick(rng, 6, 11)
        angles = (np.arange(4 * teeth) + np.tile([0.1, -0.1, 0.1, -0.1], teeth)) * (np.pi / (2 * teeth))
        return Shape(((star_shaped(np.tile([r, r, 0.76 * r, 0.76 * r], teeth), angles), True),))
    if kind == 1:
        neck, barb = r * rng.uniform(0.15, 0.28), r * rng.uniform(0.5, 0.75)
        bend = r * rng.uniform(-0.1, 0.3)
        half = [(0.0, r), (barb, bend), (neck, bend), (neck, -r), (0.0, -r * rng.uniform(0.6, 1.0))]
        return Shape(((np.array(half + [(-y, x) for y, x in half[-2:0:-1]]), True),))
    thick = r * rng.uniform(0.3, 0.45)
    a = 0.75 * r
    letters = [
        [((-a, -a), (a, -a)), ((a, -a), (a, a))],
        [((-a, -a), (-a, a)), ((-a, 0.0), (a, 0.0))],
        [((-a, -a), (a, -a)), ((a, -a), (a, a)), ((a, a), (-a, a))],
        [((-a, -a), (a, -a)), ((-a, a), (a, a)), ((0.0, -a), (0.0, a))],
        [((0.0, -a), (0.0, a)), ((-a, 0.0), (a, 0.0))],
        [((-a, -a), (a, -a)), ((-a, -a), (-a, a)), ((0.1 * a, -a), (0.1 * a, 0.5 * a))],
        [((-a, -a), (0.1 * a, 0.0)), ((-a, a), (0.1 * a, 0.0)), ((0.0, 0.0), (a, 0.0))],
    ]
    return _bars(letters[pick(rng, 0, len(letters) - 1)], thick)


def thin(rng: np.random.Generator, radius: float, width: float) -> Shape:
    """A bent strip, arms around a small body, a long-spiked star, a fork, a spoon, a spiral, or a twig."""
    kind = pick(rng, 0, 7)
    r = 1.25 * radius
    if kind <= 1:
        path = bent_path(rng, length=2.2 * r, bend=rng.uniform(0.6, 1.4))
        wide = width * rng.uniform(1.4, 2.4)
        profile = wide * (1 + rng.uniform(-0.35, 0.35) * np.linspace(-1, 1, len(path)))
        return Shape(((strip(path - path.mean(axis=0), profile), True),))
    if kind == 2:
        arms = pick(rng, 3, 7)
        steps = [(blob(rng, rng.uniform(0.45, 0.65) * r, roughness=0.3), True)]
        for k in range(arms):
            angle = (k + rng.uniform(-0.25, 0.25)) * 2 * np.pi / arms
            path = bent_path(rng, r * rng.uniform(0.75, 1.1), bend=0.5, start_angle=angle, points=20)
            steps.append((strip(path, width * np.linspace(1.3, 0.7, len(path))), True))
        return Shape(tuple(steps))
    if kind == 3:
        spikes = pick(rng, 5, 9)
        angles = (np.arange(2 * spikes) + rng.uniform(-0.2, 0.2, 2 * spikes)) * (np.pi / spikes)
        radii = np.where(
            np.arange(2 * spikes) % 2 == 0, r * rng.uniform(0.8, 1.1, 2 * spikes), r * rng.uniform(0.35, 0.5)
        )
        return Shape(((star_shaped(radii, angles), True),))
    if kind == 4:
        prongs = pick(rng, 2, 4)
        a, spread = 0.8 * r, 0.28 * r * (prongs - 1)
        places = np.linspace(-spread, spread, prongs)
        segments = [((float(x), 0.0), (float(x), a)) for x in places]
        segments += [((-spread, 0.0), (spread, 0.0)), ((0.0, -1.1 * a), (0.0, 0.0))]
        return _bars(segments, 1.4 * width)
    if kind == 5:
        handle = bent_path(rng, rng.uniform(1.2, 1.7) * r, bend=0.5, start_angle=np.pi, points=24)
        bowl = blob(rng, rng.uniform(0.5, 0.75) * r, roughness=0.3) + (0.0, 0.35 * r)
        middle = (handle[-1] + (0.0, 0.5 * r)) / 2
        return Shape(((strip(handle, np.full(24, width)) - middle, True), (bowl - middle, True)))
    if kind == 6:
        turn = np.linspace(0, rng.uniform(2.2, 3.6) * np.pi, 70)
        radii = r * (0.12 + 0.88 * turn / turn[-1])
        gap = 2 * np.pi / turn[-1] * 0.88 * r
        return Shape(((strip(star_shaped(radii, turn), np.full(70, min(1.5 * width, 0.6 * gap))), True),))
    trunk = bent_path(rng, 2.2 * r, bend=0.4)
    steps = [(strip(trunk, width * np.linspace(1.9, 1.1, len(trunk))), True)]
    for k in range(pick(rng, 2, 4)):
        at = pick(rng, 6, 30)
        angle = float(np.arctan2(*(trunk[at + 1] - trunk[at]))) + (-1) ** k * rng.uniform(0.6, 1.1)
        path = trunk[at] + bent_path(rng, r * rng.uniform(0.5, 0.9), bend=0.4, start_angle=angle, points=16)
        steps.append((strip(path, width * np.linspace(1.2, 0.7, len(path))), True))
    centre = trunk.mean(axis=0)
    return Shape(tuple((contour - centre, adds) for contour, adds in steps))


def holed(rng: np.random.Generator, radius: float, width: float) -> Shape:
    """A ring, a frame, a wheel with spokes, a mug, a pierced blob, or a ladder."""
    kind = pick(rng, 0, 5)
    r = 1.1 * radius
    rim = max(width, rng.uniform(0.25, 0.5) * r)
    if kind == 0:
        outer, squeeze = ellipse(r, r), rng.uniform(0.6, 1.0)
        inner = ellipse(r - rim, r - rim, (rng.uniform(-0.2, 0.2) * rim, rng.uniform(-0.2, 0.2) * rim))
        return Shape(((outer * (squeeze, 1.0), True), (inner * (squeeze, 1.0), False)))
    if kind == 1:
        outer = polygon(rng, r, pick(rng, 3, 6))
        return Shape(((outer, True), (outer * max(0.3, 1 - 1.5 * rim / r), False)))
    if kind == 2:
        hub = 1.4 * width
        steps = [(ellipse(r, r), True), (ellipse(r - width, r - width), False), (ellipse(hub, hub), True)]
        spokes = pick(rng, 3, 6)
        for k in range(spokes):
            end = star_shaped(np.array([r - width / 2]), np.array([2 * np.pi * k / spokes]))[0]
            steps.append((bar((0.0, 0.0), (float(end[0]), float(end[1])), 0.7 * width), True))
        return Shape(tuple(steps))
    if kind == 3:
        handle = (rng.uniform(-0.1, 0.1) * r, 0.6 * r)
        body = np.array([(-0.8 * r, -0.75 * r), (-0.8 * r, 0.5 * r), (0.8 * r, 0.4 * r), (0.8 * r, -0.65 * r)])
        grip = ellipse(0.5 * r, 0.45 * r, handle)
        space = ellipse(0.5 * r - 0.8 * width, 0.45 * r - 0.8 * width, handle)
        return Shape(((grip, True), (space, False), (body, True)))
    if kind == 4:
        steps = [(blob(rng, r, roughness=0.35), True)]
        holes = pick(rng, 2, 5)
        for k in range(holes):
            angle, reach = 2 * np.pi * (k + rng.uniform(-0.2, 0.2)) / holes, r * rng.uniform(0.25, 0.5)
            centre = (float(reach * np.sin(angle)) * 0.7, float(reach * np.cos(angle)))
            steps.append((ellipse(width * rng.uniform(0.4, 0.75), width * rng.uniform(0.4, 0.75), centre), False))
        return Shape(tuple(steps))
    rungs, half, a = pick(rng, 3, 5), r * rng.uniform(0.3, 0.45), 0.95 * r
    segments = [((-half, -a), (-half, a)), ((half, -a), (half, a))]
    segments += [((-half, float(x)), (half, float(x))) for x in np.linspace(-0.8 * a, 0.8 * a, rungs)]
    return _bars(segments, 1.2 * width)


def _bars(segments: list[tuple[tuple[float, float], tuple[float, float]]], width: float) -> Shape:
    return Shape(tuple((bar(start, end, width), True) for start, end in segments))


SHAPES: dict[str, Callable[[np.random.Generator, float, float], Shape]] = {
    "smooth": smooth,
    "polygonal": polygonal,
    "thin": thin,
    "holed": holed,
}
"""The four families by name."""
