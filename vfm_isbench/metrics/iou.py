"""Intersection over union, without ignored pixels."""

from __future__ import annotations

import numpy as np

from vfm_isbench.types import IGNORE, Array


def intersection_over_union(ground_truth: Array, prediction: Array) -> float:
    """IoU of one object, without ignored pixels.

    Args:
        ground_truth: H×W integers: 1 object, 0 background, -1 ignore.
        prediction: H×W booleans.

    Returns:
        IoU in [0, 1]; 1 if both are empty (nothing to mark, nothing marked).

    Raises:
        ValueError: if the two differ in shape.

    Source: RITM's evaluation, protocol section 3.5.
    """
    if ground_truth.shape != prediction.shape:
        raise ValueError(f"ground truth is {ground_truth.shape} but the prediction is {prediction.shape}")
    counted = ground_truth != IGNORE
    is_object = ground_truth == 1
    predicted = prediction.astype(bool)
    union = np.count_nonzero((is_object | predicted) & counted)
    if union == 0:
        return 1.0
    return float(np.count_nonzero(is_object & predicted) / union)
