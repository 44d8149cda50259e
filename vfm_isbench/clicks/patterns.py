"""Where other simulated users click than in the middle of the largest error; protocol section 3.1.

Every pattern clicks on the error that RITM's rule chooses: the false negatives or the false positives, whichever are
deeper. A pattern is a map of weights over its pixels, and a click is drawn in proportion to them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

from vfm_isbench.clicks.clicker import deepest_click, larger_error
from vfm_isbench.clicks.distance import bounding_box
from vfm_isbench.clicks.people import PeopleClicks, smoothing
from vfm_isbench.protocol.clicker import Clicker
from vfm_isbench.types import IGNORE, Array, Click, ObjectId

BOUNDARY_WIDTH = 3.0
"""Pixels up to which an error pixel is near the edge."""

DEPTH_EXPONENT = 2
"""How much more often people click deep inside an error: in proportion to this power of the distance to its edge.
Inferred from the normalised scanpath saliencies that RClicks reports; docs/decisions/0037 shows how."""

_STREAM = 6
"""First word of the seed of these random numbers."""


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What a simulated user sees of an object before a click.

    Attributes:
        ground_truth: H×W: 1 object, 0 background, -1 ignore.
        prediction: H×W booleans.
        clicked: H×W booleans, True where a click was already placed.
        last: The last click; None before the first.
        people: Where people clicked on this object; None if that is not known.
    """

    ground_truth: Array
    prediction: Array
    clicked: Array
    last: Click | None = None
    people: PeopleClicks | None = None


def click_generator(seed: int, object_id: ObjectId, number: int) -> np.random.Generator:
    """The random numbers of one click of one object, whatever was clicked before.

    Args:
        seed: Seed of the protocol.
        object_id: The object.
        number: Number of the click, from 0.
    """
    named = hashlib.sha256(f"{object_id.image}\n{object_id.instance}".encode("utf-8", "surrogatepass")).digest()
    return np.random.default_rng([_STREAM, seed, int.from_bytes(named[:8], "big"), number])


def place_click(clicker: Clicker, scene: Scene, rng: np.random.Generator) -> Click:
    """Place the next click by a pattern that needs no network.

    Returns:
        A click at an integer pixel that was not clicked before and is not ignored. If no error is left, a negative
        click at row 0, column 0, as of :func:`vfm_isbench.clicks.next_click`.
    """
    depth, is_positive = larger_error(scene.ground_truth, scene.prediction, scene.clicked)
    if not depth.any():
        return deepest_click(depth, is_positive)
    if clicker.name == "mix":
        shares = np.cumsum([share for _, share in clicker.parts])
        chosen = int(np.searchsorted(shares, rng.random() * shares[-1], side="right"))
        clicker = clicker.parts[chosen][0]
    weights = _WEIGHTS[clicker.name](clicker, scene, depth, is_positive)
    row, col = _draw(weights, rng)
    return Click(row, col, is_positive)


def candidate_clicks(count: int, scene: Scene, rng: np.random.Generator) -> list[Click]:
    """Clicks of which one may be placed: the centre of the error, and others drawn uniformly from the rest of it.

    Returns:
        ``count`` different clicks, the centre first; fewer if the error has fewer pixels.
    """
    depth, is_positive = larger_error(scene.ground_truth, scene.prediction, scene.clicked)
    centre = deepest_click(depth, is_positive)
    others = np.flatnonzero(depth)
    others = others[others != depth.argmax()]
    drawn = rng.choice(others, size=min(count - 1, len(others)), replace=False)
    return [centre, *(Click(int(place // depth.shape[1]), int(place % depth.shape[1]), is_positive) for place in drawn)]


def _center(_clicker: Clicker, _scene: Scene, depth: Array, _is_positive: bool) -> Array:
    weights = np.zeros(depth.shape)
    weights.flat[int(depth.argmax())] = 1
    return weights


def _random(_clicker: Clicker, _scene: Scene, depth: Array, _is_positive: bool) -> Array:
    return depth > 0


def _boundary(_clicker: Clicker, _scene: Scene, depth: Array, _is_positive: bool) -> Array:
    near: Array = (depth > 0) & (depth <= BOUNDARY_WIDTH)
    return near if near.any() else depth > 0  # all of the edge may have been clicked


def _clustered(clicker: Clicker, scene: Scene, depth: Array, is_positive: bool) -> Array:
    """The error pixel nearest to the last click; the centre if it is the first click."""
    if scene.last is None:
        return _center(clicker, scene, depth, is_positive)
    rows, cols = np.nonzero(depth)
    nearest = ((rows - scene.last.row) ** 2 + (cols - scene.last.col) ** 2).argmin()
    weights = np.zeros(depth.shape)
    weights[rows[nearest], cols[nearest]] = 1
    return weights


def _jitter(clicker: Clicker, scene: Scene, depth: Array, is_positive: bool) -> Array:
    """A rounded Gaussian around the centre, over the pixels on which a click of this sign is true."""
    centre = np.unravel_index(int(depth.argmax()), depth.shape)
    along = []
    for middle, length in zip(centre, depth.shape, strict=True):
        edges = special.ndtr((np.arange(length + 1) - 0.5 - middle) / clicker.sigma)
        along.append(np.diff(edges))
    is_true = scene.ground_truth == 1 if is_positive else (scene.ground_truth != 1) & (scene.ground_truth != IGNORE)
    weights: Array = np.outer(*along) * (is_true & ~scene.clicked)
    return weights


def _realistic(_clicker: Clicker, scene: Scene, depth: Array, is_positive: bool) -> Array:
    """People's clicks, smoothed, as far as they lie in the error; the model if there are none."""
    if scene.people is not None:
        weights: Array = scene.people.map(depth.shape, is_first=scene.last is None, is_positive=is_positive)
        weights *= depth > 0
        if weights.sum() > 0:
            return weights
    weights = np.zeros(depth.shape)
    box = bounding_box(depth > 0)
    assert box is not None, "there is an error"
    # Outside the box there is nothing to smooth into it.
    inside: Array = depth[box]
    weights[box] = smoothing(inside**DEPTH_EXPONENT, depth.shape) * (inside > 0)
    return weights


_WEIGHTS: dict[str, Callable[[Clicker, Scene, Array, bool], Array]] = {
    "center": _center,
    "random": _random,
    "boundary": _boundary,
    "clustered": _clustered,
    "jitter": _jitter,
    "realistic": _realistic,
}


def _draw(weights: Array, rng: np.random.Generator) -> tuple[int, int]:
    """A pixel drawn in proportion to weights H×W, of which one is above zero."""
    possible = np.flatnonzero(weights)
    up_to_here = np.cumsum(weights.ravel()[possible], dtype=np.float64)
    # Rounding may lead to the end of the last pixel.
    chosen = min(int(np.searchsorted(up_to_here, rng.random() * up_to_here[-1], side="right")), len(possible) - 1)
    row, col = divmod(int(possible[chosen]), weights.shape[1])
    return row, col
