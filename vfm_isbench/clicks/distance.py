"""Distance transform shared by the evaluation clicker and the training sampler."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from vfm_isbench.types import Array


def inner_distance(mask: Array) -> Array:
    """Euclidean distance of every pixel of ``mask`` to the nearest pixel outside it.

    Pixels beyond the border of the array count as outside.

    Args:
        mask: H×W booleans.

    Returns:
        H×W float64 in pixels, 0 outside the mask. The transform is exact, with whole squared distances, so equal
        distances compare equal.
    """
    if not mask.any():
        return np.zeros(mask.shape)
    # Outside the bounding box everything is zero, and error regions are usually small.
    rows = np.flatnonzero(mask.any(axis=1))
    cols = np.flatnonzero(mask.any(axis=0))
    box = (slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1))
    distance = np.zeros(mask.shape)
    distance[box] = ndimage.distance_transform_edt(np.pad(mask[box], 1))[1:-1, 1:-1]
    return distance
