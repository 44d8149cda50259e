"""Boundary IoU: the IoU of two outlines, so that large objects do not hide how well a mask follows its border."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from vfm_isbench.metrics.iou import intersection_over_union
from vfm_isbench.types import IGNORE, Array

BOUNDARY_SHARE = 0.02
"""Width of the boundary as a share of the image diagonal, as published."""


def boundary_width(height: int, width: int) -> int:
    """Width of the boundary in pixels for an image: 2 % of its diagonal, rounded, and at least 1.

    >>> boundary_width(480, 854), boundary_width(20, 20)
    (20, 1)
    """
    return max(1, round(BOUNDARY_SHARE * math.hypot(height, width)))


def boundary_of(mask: Array, width: int) -> Array:
    """Pixels of a mask that are at most ``width`` pixels inside its outline.

    Args:
        mask: H×W booleans.
        width: In pixels.

    Returns:
        H×W booleans: the mask without what is left of it after ``width`` erosions with a 3×3 square. What lies outside
        the image counts as background, so that a mask has an outline at the border of the image too.
    """
    # So many erosions with a 3×3 square are one with a square of this side, and that is one filter per axis.
    side = 2 * width + 1
    inner = mask.astype(np.uint8)
    for axis in (0, 1):
        inner = ndimage.minimum_filter1d(inner, side, axis=axis, mode="constant", cval=0)
    boundary: Array = mask & (inner == 0)
    return boundary


class BoundaryIou:
    """Boundary IoU of predictions with one ground truth, whose boundary is computed once.

    Boundary IoU is the IoU of the two boundaries of :func:`boundary_of`, each with the width of
    :func:`boundary_width`. Pixels to ignore count neither for nor against a prediction: they are background in both
    masks when the boundaries are drawn, and are left out when they are compared.

    Args:
        ground_truth: H×W integers: 1 object, 0 background, -1 ignore.

    Source: Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", CVPR 2021, section 4.

    >>> truth = np.zeros((100, 100), np.int8)
    >>> truth[20:80, 20:80] = 1
    >>> wider = np.zeros((100, 100), bool)
    >>> wider[20:80, 20:81] = True
    >>> round(intersection_over_union(truth, wider), 2), round(BoundaryIou(truth).of(wider), 2)
    (0.98, 0.85)
    """

    def __init__(self, ground_truth: Array) -> None:
        self._width = boundary_width(*ground_truth.shape)
        self._counted = ground_truth != IGNORE
        self._boundary = np.where(self._counted, boundary_of(ground_truth == 1, self._width), IGNORE).astype(np.int8)

    def of(self, prediction: Array) -> float:
        """Boundary IoU of a prediction, H×W booleans, in [0, 1].

        Raises:
            ValueError: if it has another shape than the ground truth.
        """
        if prediction.shape != self._counted.shape:
            raise ValueError(f"ground truth is {self._counted.shape} but the prediction is {prediction.shape}")
        boundary = boundary_of(prediction.astype(bool) & self._counted, self._width)
        return intersection_over_union(self._boundary, boundary)
