"""The pixels of a scene: background, clutter, objects with shading and shadows, light, lens and sensor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from vfm_isbench.datasets.scenes.coverage import coloured_coverage
from vfm_isbench.datasets.scenes.layout import PlacedObject, overlap
from vfm_isbench.datasets.scenes.style import REFERENCE_SIDE, SceneStyle
from vfm_isbench.datasets.scenes.textures import background, hsv, pattern_name, pick_pattern, smooth_noise, surface
from vfm_isbench.types import Array

_REGION_HUE = 0.12
"""Turns between the hues of neighbouring regions of an object: they look different, but alike among objects."""


def paint(
    rng: np.random.Generator,
    objects: list[PlacedObject],
    size: tuple[int, int],
    style: SceneStyle,
    regions: Sequence[Array] = (),
) -> tuple[Array, tuple[str, ...]]:
    """Paint a scene.

    Args:
        rng: Source of all draws.
        objects: The objects, from bottom to top.
        size: (height, width) in pixels.
        style: Difficulty settings.
        regions: For every object the regions of its window that look different, numbered from 0; empty for objects of
            one look.

    Returns:
        height×width×3, RGB uint8, and the name of each object's pattern.
    """
    unit = min(size) / REFERENCE_SIDE
    image = background(rng, size, unit, style.background_contrast, style.background_saturation)
    background_colour = image.mean(axis=(1, 2))
    _scatter_clutter(rng, image, unit, style)
    angle = rng.uniform(0, 2 * np.pi)
    to_light = (float(np.sin(angle)), float(np.cos(angle)))
    hue = rng.random()
    patterns = []
    for number, thing in enumerate(objects):
        # Golden-section steps keep the hues of the objects apart, however many there are.
        hue += 0.381966 + rng.uniform(-0.06, 0.06)
        first, second = _object_colours(rng, hue, background_colour, style)
        _cast_shadow(rng, image, thing, to_light, unit, style)
        pattern = pick_pattern(rng)
        patterns.append(pattern_name(pattern))
        texture = surface(rng, pattern, (thing.coverage.shape[0], thing.coverage.shape[1]), unit, first, second)
        if regions:
            _paint_regions(rng, texture, regions[number], hue, background_colour, unit, style)
        texture *= _relief(rng, thing, to_light, style)
        in_image, in_window = thing.inside(size)
        under = image[:, in_image[0], in_image[1]]
        under += thing.coverage[in_window] * (texture[:, in_window[0], in_window[1]] - under)
    image *= _illumination(rng, size, to_light, unit, style)
    if style.edge_softness > 0:
        kernel = _gaussian(style.edge_softness)
        for axis in (1, 2):
            image = ndimage.correlate1d(image, kernel, axis=axis, mode="nearest")
    image += style.sensor_noise * (2 * rng.random(size) - 1)
    image *= 255
    pixels: Array = np.rint(np.clip(image, 0, 255, out=image), out=image).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(1, 2, 0)), tuple(patterns)


def _paint_regions(
    rng: np.random.Generator,
    texture: Array,
    regions: Array,
    hue: float,
    background_colour: Array,
    unit: float,
    style: SceneStyle,
) -> None:
    """Give every region but the first a surface of its own; their hues drift away from the object's."""
    for region, box in enumerate(ndimage.find_objects(regions), start=1):
        if box is None:
            continue
        first, second = _object_colours(rng, hue + _REGION_HUE * region, background_colour, style)
        is_region = regions[box] == region
        painted = surface(rng, pick_pattern(rng), is_region.shape, unit, first, second)
        np.copyto(texture[:, box[0], box[1]], painted, where=is_region)


def _gaussian(sigma: float) -> Array:
    reach = max(1, int(np.ceil(3 * sigma)))
    kernel: Array = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    return kernel


def _object_colours(
    rng: np.random.Generator, hue: float, background_colour: Array, style: SceneStyle
) -> tuple[Array, Array]:
    """The two colours of an object: usually different from the background's, sometimes close to them."""
    if rng.random() < style.low_contrast_share:
        away = rng.uniform(-1, 1, 3)
        first = np.clip(background_colour + away * (rng.uniform(0.08, 0.2) / np.abs(away).max()), 0.05, 0.95)
        return first, np.clip(first + rng.uniform(-0.2, 0.2) + rng.uniform(-0.06, 0.06, 3), 0.03, 0.97)
    first, second = background_colour, background_colour
    for attempt in range(4):
        tried = hue + 0.17 * attempt
        first = hsv(tried, rng.uniform(*style.object_saturation), rng.uniform(0.3, 0.95))
        if rng.random() < 0.25:
            second = hsv(tried, rng.uniform(0.0, 0.2), rng.uniform(0.15, 0.95))
        else:
            second = hsv(tried + rng.uniform(-0.2, 0.2), rng.uniform(*style.object_saturation), rng.uniform(0.25, 0.95))
        second = first + (second - first) * rng.uniform(*style.texture_contrast)
        if min(np.abs(first - background_colour).sum(), np.abs(second - background_colour).sum()) > 0.4:
            break
    return first, second


# Items per reference image, range of half-lengths (px), minimum width relative to length, maximum bend.
_CLUTTER = (
    (24, (0.6, 1.3), 0.7, 0.0),  # specks
    (10, (2.0, 6.5), 0.55, 0.1),  # pebbles
    (8, (4.0, 9.0), 0.22, 0.5),  # leaves
    (6, (6.0, 20.0), 0.06, 0.9),  # twigs and stalks
)
_CORNERS = 16


def _scatter_clutter(rng: np.random.Generator, image: Array, unit: float, style: SceneStyle) -> None:
    """Scatter pebbles, leaves, twigs and specks over ``image``: as colourful as objects, but small."""
    height, width = image.shape[1:]
    area = height * width / (unit * REFERENCE_SIDE) ** 2
    density = style.clutter * rng.uniform(0.3, 1.7)
    hue = rng.random()
    contours, colours = [], []
    for per_image, half_lengths, slenderness, bend in _CLUTTER:
        count = int(per_image * area * density + rng.random())
        outline = _clutter_outlines(rng, count, half_lengths, slenderness, bend) * unit
        outline += rng.random((count, 1, 2)) * (height, width)
        # Half of them in the hues of one plant, the rest in any colour.
        paint_of = [
            hsv(hue + rng.uniform(-0.07, 0.07) if rng.random() < 0.5 else rng.random(), *rng.random(2) * 0.75 + 0.15)
            for _ in range(count)
        ]
        contours.append(outline)
        colours += paint_of
        if slenderness > 0.5:
            # A lighter spot in the middle makes them look round.
            contours.append(0.5 * outline + 0.5 * outline.mean(axis=1, keepdims=True) - 0.6 * unit)
            colours += [np.minimum(1.4 * colour + 0.1, 1.0) for colour in paint_of]
    if colours:
        # Parts outside the image are moved onto its border rather than cut exactly, because nothing depends on them.
        inside = np.clip(np.concatenate(contours), 0, np.array([height, width]) - 1e-6)
        covered, planes = coloured_coverage(inside, np.array(colours), (height, width))
        image *= 1 - covered
        image += planes


def _clutter_outlines(
    rng: np.random.Generator, count: int, half_lengths: tuple[float, float], slenderness: float, bend: float
) -> Array:
    """Slightly uneven ellipses, bent along a parabola and rotated: count×corners×2 around the origin."""
    half = half_lengths[0] + (half_lengths[1] - half_lengths[0]) * rng.random((count, 1)) ** 2
    angle = np.arange(_CORNERS) * (2 * np.pi / _CORNERS)
    uneven = 1 + 0.25 * (rng.random((count, _CORNERS)) - 0.5)
    along = np.cos(angle) * uneven
    across = np.sin(angle) * uneven * slenderness * (1 + 0.5 * rng.random((count, 1)))
    across = (across + bend * (2 * rng.random((count, 1)) - 1) * along**2) * half
    along = along * half
    turn = 2 * np.pi * rng.random((count, 1))
    cos, sin = np.cos(turn), np.sin(turn)
    return np.stack([cos * across + sin * along, cos * along - sin * across], axis=-1)


def _cast_shadow(
    rng: np.random.Generator,
    image: Array,
    thing: PlacedObject,
    to_light: tuple[float, float],
    unit: float,
    style: SceneStyle,
) -> None:
    """Softly darken ``image`` on the side of ``thing`` that faces away from the light."""
    darkness = style.shadow * rng.uniform(0.15, 0.5)
    reach = rng.uniform(2.0, 8.0) * unit
    blur = max(3, 2 * int(reach * rng.uniform(0.4, 0.9)) + 1)
    pad = 2 * blur
    shadow = _box_blur(np.pad(thing.coverage, pad), blur)
    top = thing.top - pad - int(np.rint(reach * to_light[0]))
    left = thing.left - pad - int(np.rint(reach * to_light[1]))
    in_image, in_window = overlap(top, left, shadow.shape, (image.shape[1], image.shape[2]))
    image[:, in_image[0], in_image[1]] *= np.maximum(1 - darkness * shadow[in_window], 0.0)


def _relief(rng: np.random.Generator, thing: PlacedObject, to_light: tuple[float, float], style: SceneStyle) -> Array:
    """Brightness factor over an object's window, as if its rim were bent down and lit from one side."""
    blur = max(3, 2 * int(0.5 * thing.radius * rng.uniform(0.2, 0.5)) + 1)
    height = _box_blur(np.pad(thing.coverage, blur), blur)
    slope_row, slope_col = np.gradient(height)
    inner = (slice(blur, -blur), slice(blur, -blur))
    facing = -(slope_row[inner] * to_light[0] + slope_col[inner] * to_light[1]) * blur
    strength = style.shading * rng.uniform(0.15, 0.45)
    rim = style.shading * rng.uniform(0.0, 0.3)
    factor: Array = np.clip(1 + strength * facing - rim * (1 - height[inner]), 0.15, 1.8)
    return factor


def _box_blur(window: Array, width: int) -> Array:
    """Two running means along each axis: a soft, pyramid-shaped kernel whose cost does not depend on its width."""
    for _ in range(2):
        for axis in (0, 1):
            window = ndimage.uniform_filter1d(window, width, axis=axis, mode="constant")
    return window


def _illumination(
    rng: np.random.Generator, size: tuple[int, int], to_light: tuple[float, float], unit: float, style: SceneStyle
) -> Array:
    """Brightness factor over the image: decreasing away from the light, with broad patches of light and shade."""
    row, col = np.linspace(-1, 1, size[0])[:, None], np.linspace(-1, 1, size[1])[None, :]
    ramp = rng.uniform(0.0, 0.25) * (row * to_light[0] + col * to_light[1])
    patches = rng.uniform(0.0, 0.12) * smooth_noise(rng, size, (80 * unit, 80 * unit))
    return np.maximum(1 + style.shading * (ramp + patches), 0.3)
