"""Closed contours, the building blocks of scene objects: N×2 corners (row, col) in pixels."""

from __future__ import annotations

import numpy as np

from vfm_isbench.types import Array


def ellipse(radius_row: float, radius_col: float, centre: tuple[float, float] = (0.0, 0.0), points: int = 96) -> Array:
    """An ellipse, as a polygon with ``points`` corners on it."""
    angle = np.arange(points) * (2 * np.pi / points)
    return np.stack([centre[0] + radius_row * np.sin(angle), centre[1] + radius_col * np.cos(angle)], axis=1)


def star_shaped(radii: Array, angles: Array) -> Array:
    """Corners at the given distances and angles around the origin."""
    return np.stack([radii * np.sin(angles), radii * np.cos(angles)], axis=1)


def bar(start: tuple[float, float], end: tuple[float, float], width: float) -> Array:
    """A straight bar with square ends half a width beyond ``start`` and ``end``, so that bars join at corners."""
    a, b = np.array(start), np.array(end)
    along = (b - a) / np.hypot(*(b - a)) * (width / 2)
    across = np.array([along[1], -along[0]])
    return np.array([a - along + across, b + along + across, b + along - across, a - along - across])


def strip(path: Array, widths: Array) -> Array:
    """A band along a path, with round ends.

    Args:
        path: N×2 points of the centre line.
        widths: N widths; in bends tighter than half a width the inner side overlaps itself, which is harmless.
    """
    along = np.gradient(path, axis=0)
    along = along / np.hypot(along[:, 0], along[:, 1])[:, None]
    across = np.stack([along[:, 1], -along[:, 0]], axis=1)
    half = widths[:, None] / 2
    turn = np.linspace(0, np.pi, 9)[1:-1, None]
    tail = path[0] + half[0] * (-np.cos(turn) * across[0] - np.sin(turn) * along[0])
    head = path[-1] + half[-1] * (np.cos(turn) * across[-1] + np.sin(turn) * along[-1])
    return np.concatenate([path + half * across, head, (path - half * across)[::-1], tail])


def bent_path(
    rng: np.random.Generator, length: float, bend: float, start_angle: float = 0.0, points: int = 40
) -> Array:
    """A smooth path from the origin whose direction wanders by up to about ``bend`` radians."""
    t = np.linspace(0, 1, points)
    waves = sum(rng.uniform(-1, 1) / k * np.sin(np.pi * k * t + rng.uniform(0, 2 * np.pi)) for k in (1, 2, 3))
    angle = start_angle + bend * waves + rng.uniform(-bend, bend) * t
    steps = np.stack([np.sin(angle), np.cos(angle)], axis=1) * (length / (points - 1))
    return np.concatenate([np.zeros((1, 2)), np.cumsum(steps[:-1], axis=0)])


def blob(rng: np.random.Generator, radius: float, roughness: float = 0.5, lobes: int = 0) -> Array:
    """A smooth outline whose radius is a low-order Fourier series of the angle, squeezed along one axis.

    Args:
        rng: Source of all draws.
        radius: Approximate radius in pixels.
        roughness: Strength of the irregular waves.
        lobes: Number of additional regular waves, as in a lobed leaf.
    """
    angle = np.arange(120) * (2 * np.pi / 120)
    wave = sum(rng.uniform(-1, 1) * roughness / k * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in range(2, 6))
    if lobes:
        wave = wave + rng.uniform(0.1, 0.24) * np.cos(lobes * angle)
    contour = star_shaped(radius * np.maximum(1 + wave, 0.25) / 1.15, angle)
    return contour * (rng.uniform(0.55, 1.0), 1.0)


def polygon(rng: np.random.Generator, radius: float, corners: int) -> Array:
    """An irregular polygon around the origin."""
    angles = (np.arange(corners) + rng.uniform(-0.3, 0.3, corners)) * (2 * np.pi / corners)
    return star_shaped(radius * rng.uniform(0.6, 1.0, corners), angles)
