"""Distance transform shared by the evaluation clicker and the training sampler."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from vfm_isbench.types import Array

_VALUES_AT_ONCE = 2**25
"""Numbers that :func:`squared_inner_distance` compares at once: 128 MiB."""


def bounding_box(mask: Array, margin: int = 0) -> tuple[slice, slice] | None:
    """Rows and columns of the smallest box that holds the True pixels of a mask; None if there are none.

    Args:
        mask: H×W booleans.
        margin: Further pixels on each side, as far as the mask goes.
    """
    rows, cols = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if len(rows) == 0:
        return None
    return (
        slice(max(int(rows[0]) - margin, 0), min(int(rows[-1]) + 1 + margin, mask.shape[0])),
        slice(max(int(cols[0]) - margin, 0), min(int(cols[-1]) + 1 + margin, mask.shape[1])),
    )


def inner_distance(mask: Array) -> Array:
    """Euclidean distance of every pixel of ``mask`` to the nearest pixel outside it.

    Pixels beyond the border of the array count as outside.

    Args:
        mask: H×W booleans.

    Returns:
        H×W float64 in pixels, 0 outside the mask. The transform is exact, with whole squared distances, so equal
        distances compare equal.
    """
    distance = np.zeros(mask.shape)
    # Outside the bounding box everything is zero, and error regions are usually small.
    box = bounding_box(mask)
    if box is not None:
        distance[box] = ndimage.distance_transform_edt(np.pad(mask[box], 1))[1:-1, 1:-1]
    return distance


def squared_inner_distance(masks: Tensor) -> Tensor:
    """Squares of :func:`inner_distance` for a batch, on the device of the masks and without waiting for it.

    Distances along the longer side come from two running maxima; along the shorter side every pixel is compared with
    every other, which suits a device with thousands of threads. On CPUs, :func:`inner_distance` is faster.

    Args:
        masks: B×H×W booleans.

    Returns:
        B×H×W int32, equal to the squares of :func:`inner_distance`, which are whole numbers.
    """
    _, height, width = masks.shape
    if width > height:
        return squared_inner_distance(masks.transpose(1, 2)).transpose(1, 2)
    along = _distance_along_rows(masks)
    squared = along * along
    cols = torch.arange(width, device=masks.device, dtype=torch.int32)
    gaps = (cols[:, None] - cols) ** 2
    # The pixels outside that lie just beyond the left and the right border.
    beyond = torch.minimum(cols + 1, width - cols) ** 2
    result = torch.empty_like(squared)
    step = max(1, _VALUES_AT_ONCE // max(1, len(masks) * width * width))
    for top in range(0, height, step):
        rows = squared[:, top : top + step]
        torch.amin(rows[:, :, None, :] + gaps, dim=3, out=result[:, top : top + step])
    return torch.minimum(result, beyond)


def _distance_along_rows(masks: Tensor) -> Tensor:
    """Rows between each pixel of B×H×W masks and the nearest one outside in its column, 0 outside; int32."""
    height = masks.shape[1]
    rows = torch.arange(height, device=masks.device, dtype=torch.int32)[:, None].expand_as(masks)
    above = rows.masked_fill(masks, -1).cummax(dim=1).values
    below = rows.masked_fill(masks, height).flip(1).cummin(dim=1).values.flip(1)
    return torch.minimum(rows - above, below - rows)
