"""Features as colours: one projection onto three principal components for several feature maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vfm_isbench.errors import PictureError
from vfm_isbench.types import Array

_TRIMMED = 0.01
"""Share of the values on either side that are cut to the end of the scale, lest a few outliers grey all the rest."""


def joint_colours(maps: Sequence[Array]) -> list[Array]:
    """Colour feature maps by their first three principal components, found on all of them together.

    Every map counts the same, however many cells it has, so that upsampled features do not outvote those they come
    from. Equal features get equal colours in all maps. Colours do not change when features are shifted, multiplied by
    a positive number, or rotated (an orthogonal matrix over the channels), or when maps come in another order: the sign
    of a component, which is arbitrary, is chosen so that its values are skewed upwards.

    Args:
        maps: C×h×w arrays, finite, with the same C.

    Returns:
        h×w×3 in [0, 1] for each map. A component that does not vary is 0.5 throughout.

    Raises:
        PictureError: if there is no map, a value is not finite, or shapes do not fit.

    Source: the joint projection is the one of FeatUp's figures (Fu et al. 2024); its weighting and signs are ours.
    """
    if not maps or any(one.ndim != 3 or 0 in one.shape or one.shape[0] != maps[0].shape[0] for one in maps):
        shapes = ", ".join(str(one.shape) for one in maps) or "none"
        raise PictureError(f"expected feature maps C×h×w, all of one C; got {shapes}")
    cells = [one.reshape(one.shape[0], -1).T.astype(np.float64) for one in maps]
    if not all(np.isfinite(one).all() for one in cells):
        raise PictureError("features that are not finite cannot be coloured; look for NaN or infinity in them")
    weights = np.concatenate([np.full(len(one), 1 / (len(one) * len(maps))) for one in cells])
    features = np.concatenate(cells)
    features -= weights @ features
    _, vectors = np.linalg.eigh((features * weights[:, None]).T @ features)
    scores = features @ vectors[:, ::-1][:, :3]
    scores = np.pad(scores, ((0, 0), (0, 3 - scores.shape[1])))
    scores *= np.where(weights @ scores**3 < 0, -1, 1)
    # What is rounding beside the first component is no variation.
    noise = 1e-9 * max(float(np.abs(features).max(initial=0.0)), np.finfo(float).tiny)
    colours = np.stack([_to_unit(component, weights, noise) for component in scores.T], axis=1)
    ends = np.cumsum([len(one) for one in cells])[:-1]
    return [part.reshape(*one.shape[1:], 3) for part, one in zip(np.split(colours, ends), maps, strict=True)]


def _to_unit(values: Array, weights: Array, noise: float) -> Array:
    """Values to [0, 1], between their weighted quantiles."""
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
