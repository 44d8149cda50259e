"""Noise, colours and surface patterns of scenes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from vfm_isbench.datasets.scenes.draws import pick
from vfm_isbench.types import Array


def hsv(hue: float, saturation: float, value: float) -> Array:
    """RGB triple in [0, 1]; ``hue`` in turns (any real number), the others clipped to [0, 1]."""
    saturation, value = min(max(saturation, 0.0), 1.0), min(max(value, 0.0), 1.0)
    k = (np.array([5.0, 3.0, 1.0]) + hue * 6) % 6
    return value - value * saturation * np.clip(np.minimum(k, 4 - k), 0, 1)


def mix(first: Array, second: Array, weight: Array) -> Array:
    """Blend two colours (3, or 3×H×W) by an H×W map of weights: 3×H×W."""
    first, second = (colour if colour.ndim == 3 else colour[:, None, None] for colour in (first, second))
    blended: Array = (second - first) * weight
    blended += first
    return blended


# --- noise ----------------------------------------------------------------------------------------------------------


def smooth_noise(rng: np.random.Generator, size: tuple[int, int], cell: tuple[float, float]) -> Array:
    """Random smooth hills, H×W, of zero mean and a standard deviation near 1.

    Uniform random heights on a grid, interpolated by cubic B-splines.

    Args:
        rng: Source of the heights.
        size: (height, width) in pixels.
        cell: Distance between grid points in rows and columns, in pixels.
    """
    rows, cols = (_spline_weights(n, step, rng.random()) for n, step in zip(size, cell, strict=True))
    heights = rng.random((rows.shape[1], cols.shape[1])) - 0.5
    # 1/12 is the variance of a height; interpolation by cubic B-splines leaves (151/315)² of it on average.
    noise: Array = rows @ heights @ cols.T
    noise *= np.sqrt(12.0) / (151 / 315)
    return noise


def fractal_noise(
    rng: np.random.Generator, size: tuple[int, int], cells: Sequence[tuple[float, float]], falloff: float
) -> Array:
    """Sum of :func:`smooth_noise` with several cell sizes, each ``falloff`` times as strong as the previous one."""
    total = smooth_noise(rng, size, cells[0])
    for octave, cell in enumerate(cells[1:], start=1):
        total += smooth_noise(rng, size, cell) * falloff**octave
    power = sum(falloff ** (2 * octave) for octave in range(len(cells)))
    total /= np.sqrt(power)
    return total


def _spline_weights(count: int, step: float, phase: float) -> Array:
    """Weight of each grid height (columns) in each of ``count`` pixels (rows)."""
    position = (np.arange(count) + 0.5) / step + phase
    base = np.floor(position).astype(np.int64)
    t = position - base
    taps = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    weights = np.zeros((count, int(base[-1]) + 4))
    for offset, tap in enumerate(taps):
        weights[np.arange(count), base + offset] = tap / 6
    return weights


# --- patterns of objects --------------------------------------------------------------------------------------------
# Each maps local coordinates u, v (pixels) and a period (pixels) to weights in [0, 1] between an object's two colours.

Pattern = Callable[[np.random.Generator, Array, Array, float], Array]


def _wave(u: Array, period: float) -> Array:
    """Stripes with edges about a pixel wide."""
    wave: Array = np.clip(0.5 + np.sin(u * (2 * np.pi / period)) * (period / (2 * np.pi)), 0.0, 1.0)
    return wave


def _stripes(rng: np.random.Generator, u: Array, v: Array, period: float) -> Array:
    return _wave(u, period)


def _checks(rng: np.random.Generator, u: Array, v: Array, period: float) -> Array:
    a, b = _wave(u, 1.5 * period), _wave(v, 1.5 * period)
    checks: Array = a + b - 2 * a * b
    return checks


def _dots(rng: np.random.Generator, u: Array, v: Array, period: float) -> Array:
    row = np.floor(v / period)
    du = (u / period + 0.5 * (row % 2)) % 1 - 0.5
    dv = v / period - row - 0.5
    return np.clip((rng.uniform(0.24, 0.38) - np.sqrt(du**2 + dv**2)) * period + 0.5, 0.0, 1.0)


def _chevrons(rng: np.random.Generator, u: Array, v: Array, period: float) -> Array:
    fold = 2 * period
    return _wave(u + np.abs(v % fold - period), period)


def _plaid(rng: np.random.Generator, u: Array, v: Array, period: float) -> Array:
    return 0.5 * _wave(u, 1.3 * period) + 0.5 * _wave(v, 1.3 * period)


def _bricks(rng: np.random.Generator, u: Array, v: Array, period: float) -> Array:
    row = np.floor(v / period)
    du = (u + period * (row % 2)) % (2 * period)
    joint = np.minimum(np.minimum(du, 2 * period - du), np.minimum(v - row * period, period - (v - row * period)))
    return np.clip(0.1 * period + 0.5 - joint, 0.0, 1.0)


def _rings(rng: np.random.Generator, u: Array, v: Array, period: float) -> Array:
    return _wave(np.sqrt(u**2 + v**2 + 1e-9), period)


def _grain(rng: np.random.Generator, u: Array, v: Array, period: float) -> Array:
    """Wood-like: fine, slowly bending lines along v."""
    slow = smooth_noise(rng, (u.shape[0], u.shape[1]), (40.0, 40.0))
    lines = 0.5 + 0.5 * np.sin((u + 0.5 * period * slow) * (2 * np.pi / (0.6 * period)) + 0.02 * v)
    squared: Array = lines * lines
    return squared


def _gradient(rng: np.random.Generator, u: Array, v: Array, period: float) -> Array:
    low, high = float(u.min()), float(u.max())
    return (u - low) / max(high - low, 1.0)


PATTERNS: tuple[Pattern, ...] = (_stripes, _checks, _dots, _chevrons, _plaid, _bricks, _rings, _grain, _gradient)


def pick_pattern(rng: np.random.Generator) -> Pattern:
    """One of the patterns, each equally likely."""
    return PATTERNS[pick(rng, 0, len(PATTERNS) - 1)]


def pattern_name(pattern: Pattern) -> str:
    """What a pattern is called, such as "stripes" or "checks"."""
    return pattern.__name__.removeprefix("_")


def surface(
    rng: np.random.Generator, pattern: Pattern, size: tuple[int, int], unit: float, first: Array, second: Array
) -> Array:
    """A regular two-coloured pattern, rotated and slightly bent, 3×H×W.

    Args:
        rng: Source of all draws.
        pattern: What :func:`pick_pattern` drew.
        size: (height, width) in pixels.
        unit: Pixels per pixel of the reference size.
        first: RGB of the larger part.
        second: RGB of the other part.
    """
    angle, period = rng.uniform(0, 2 * np.pi), rng.uniform(8.0, 20.0) * unit
    row = (np.arange(size[0]) - size[0] * rng.uniform(0.3, 0.7))[:, None]
    col = (np.arange(size[1]) - size[1] * rng.uniform(0.3, 0.7))[None, :]
    bend = smooth_noise(rng, size, (60 * unit, 60 * unit)) * (rng.uniform(0.0, 2.5) * unit)
    u = np.cos(angle) * row + np.sin(angle) * col + bend
    v = np.cos(angle) * col - np.sin(angle) * row
    wear = 1 + 0.06 * smooth_noise(rng, size, (3 * unit, 3 * unit))
    return mix(first, second, pattern(rng, u, v, period)) * wear


# --- backgrounds ----------------------------------------------------------------------------------------------------


def background(
    rng: np.random.Generator, size: tuple[int, int], unit: float, contrast: float, saturation: float
) -> Array:
    """A muted, irregular background: soil, stone, grass, sand, mist, litter or water, 3×H×W.

    Args:
        rng: Source of all draws.
        size: (height, width) in pixels.
        unit: Pixels per pixel of the reference size.
        contrast: Factor on all variation.
        saturation: Factor on the colour saturation.
    """
    hues, sats, cells, falloff, detail, ridges = _BACKGROUNDS[pick(rng, 0, len(_BACKGROUNDS) - 1)]
    value = rng.uniform(0.38, 0.68)
    colours = [
        hsv(
            rng.uniform(*hues) + contrast * rng.uniform(-0.02, 0.02),
            saturation * rng.uniform(*sats),
            value + contrast * rng.uniform(-0.1, 0.1),
        )
        for _ in range(3)
    ]
    patches = fractal_noise(rng, size, [(c * unit, c * unit) for c in (70.0, 34.0, 16.0)], 0.7)
    base = mix(colours[0], colours[1], np.clip(0.5 + 0.5 * patches, 0, 1))
    others = fractal_noise(rng, size, [(c * unit, c * unit) for c in (46.0, 12.0)], 0.6)
    base = mix(base, colours[2], np.clip(1.5 * others - 0.6, 0, 1))
    fine = fractal_noise(rng, size, [(a * unit, b * unit) for a, b in cells], falloff)
    if ridges:
        fine = 0.8 - np.abs(fine)
    # Otherwise the deepest cracks would be black.
    return base * np.maximum(1 + contrast * detail * fine, 0.35)


_ROUND = ((14.0, 14.0), (6.0, 6.0), (2.5, 2.5), (1.3, 1.3))
_UPRIGHT = ((16.0, 4.0), (9.0, 2.2), (5.0, 1.3))
_LEVEL = ((5.0, 34.0), (2.5, 14.0), (1.4, 5.0))
# Range of hues (turns) and saturations, noise cells (rows, columns), falloff, strength of detail, whether ridged.
_BACKGROUNDS: tuple[
    tuple[tuple[float, float], tuple[float, float], tuple[tuple[float, float], ...], float, float, bool], ...
] = (
    ((0.02, 0.12), (0.15, 0.60), _ROUND, 0.9, 0.20, False),  # soil
    ((0.0, 1.0), (0.02, 0.25), ((30.0, 30.0), (10.0, 10.0), (3.0, 3.0)), 0.6, 0.22, True),  # stone
    ((0.15, 0.38), (0.20, 0.65), _UPRIGHT, 0.9, 0.22, False),  # grass
    ((0.08, 0.15), (0.12, 0.50), ((9.0, 40.0), (2.0, 3.0), (1.2, 1.2)), 0.7, 0.10, False),  # sand
    ((0.50, 0.75), (0.03, 0.30), ((60.0, 60.0), (24.0, 24.0)), 0.5, 0.07, False),  # mist
    ((0.0, 0.32), (0.15, 0.60), ((11.0, 11.0), (5.0, 5.0), (2.0, 2.0)), 0.7, 0.30, True),  # litter
    ((0.45, 0.66), (0.15, 0.60), _LEVEL, 0.7, 0.16, False),  # water
)
