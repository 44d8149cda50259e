"""Colours feature maps by projecting all of them onto the same three principal components."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vfm_isbench.errors import PictureError
from vfm_isbench.types import Array

_TRIMMED = 0.01
"""Share of values clipped at either end of the scale, so that a few outliers do not turn the rest grey."""


def joint_colours(maps: Sequence[Array]) -> list[Array]:
    """Colour feature maps by their first three principal components, computed on all maps together.

    Every map has the same weight, whatever its number of cells, so upsampled features do not outweigh the original
    ones. Equal features get equal colours in all maps. Colours do not change if features are shifted, multiplied by a
    positive number or rotated (by an orthogonal matrix over the channels), or if maps are reordered: the arbitrary sign
    of each component is chosen so that its values are skewed upwards.

    Args:
        maps: C×h×w arrays, finite, with the same C.

    Returns:
        h×w×3 in [0, 1] for each map. A component that does not vary is 0.5 throughout.

    Raises:
        PictureError: if there is no map, a value is not finite, or the maps differ in C.

    Source: the joint projection follows FeatUp's figures (Fu et al. 2024); weighting and signs are ours.
    """
    if not maps or any(map_.ndim != 3 or 0 in map_.shape or map_.shape[0] != maps[0].shape[0] for map_ in maps):
        shapes = ", ".join(str(map_.shape) for map_ in maps) or "none"
        raise PictureError(f"expected feature maps C×h×w with the same C; got {shapes}")
    cells = [map_.reshape(map_.shape[0], -1).T.astype(np.float64) for map_ in maps]
    if not all(np.isfinite(cell).all() for cell in cells):
        raise PictureError("features that are not finite cannot be coloured; look for NaN or infinity")
    weights = np.concatenate([np.full(len(cell), 1 / (len(cell) * len(maps))) for cell in cells])
    features = np.concatenate(cells)
    features -= weights @ features
    _, vectors = np.linalg.eigh((features * weights[:, None]).T @ features)
    scores = features @ vectors[:, ::-1][:, :3]
    scores = np.pad(scores, ((0, 0), (0, 3 - scores.shape[1])))
    scores *= np.where(weights @ scores**3 < 0, -1, 1)
    # Variation below rounding errors of the first component does not count.
    noise = 1e-9 * max(float(np.abs(features).max(initial=0.0)), np.finfo(float).tiny)
    colours = np.stack([_to_unit(component, weights, noise) for component in scores.T], axis=1)
    ends = np.cumsum([len(cell) for cell in cells])[:-1]
    return [part.reshape(*map_.shape[1:], 3) for part, map_ in zip(np.split(colours, ends), maps, strict=True)]


def _to_unit(values: Array, weights: Array, noise: float) -> Array:
    """Scale values to [0, 1] between their weighted quantiles."""
    order = np.argsort(values, kind="stable")
    share = np.cumsum(weights[order])
    low, high = (
        float(values[order[min(int(np.searchsorted(share, part * share[-1])), len(order) - 1)]])
        for part in (_TRIMMED, 1 - _TRIMMED)
    )
    if high - low <= noise:
        low, high = float(values.min()), float(values.max())
    if high - low <= noise:
        return np.full_like(values, 0.5)
    scaled: Array = np.clip((values - low) / (high - low), 0, 1)
    return scaled
