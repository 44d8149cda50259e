"""Confusion counts of label maps, and the IoUs that follow from them: pure functions."""

from __future__ import annotations

import numpy as np

from vfm_isbench.types import Array

IGNORED = 255
"""Label of pixels that do not count, as in PASCAL VOC and Cityscapes."""


def confusion(truth: Array, predicted: Array, classes: int) -> Array:
    """Count pixels by true class (rows) and predicted class (columns).

    Args:
        truth: Labels of any shape, each below ``classes`` or 255, which is left out.
        predicted: Labels of the same shape, each below ``classes``.
        classes: Number of classes K.

    Returns:
        K×K, int64.

    >>> confusion(np.array([0, 0, 1, 255]), np.array([0, 1, 1, 0]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    counted = truth != IGNORED
    pairs = truth[counted].astype(np.int64) * classes + predicted[counted].astype(np.int64)
    counts: Array = np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
    return counts


def class_ious(counts: Array) -> Array:
    """IoU of each class from confusion counts …×K×K, in [0, 1]; NaN for a class that is neither there nor predicted."""
    hits = np.diagonal(counts, axis1=-2, axis2=-1).astype(float)
    union = counts.sum(axis=-1) + counts.sum(axis=-2) - hits
    ious: Array = np.divide(hits, union, out=np.full_like(hits, np.nan), where=union > 0)
    return ious


def mean_iou(counts: Array) -> Array:
    """MIoU from confusion counts …×K×K: the mean IoU of the classes that are there or predicted.

    Counts are added up over images before, so that every pixel of the data set has the same weight.

    >>> float(mean_iou(np.array([[2, 0], [2, 4]])))
    0.5833333333333333
    """
    ious = class_ious(counts)
    present = ~np.isnan(ious)
    mean: Array = np.where(present, ious, 0.0).sum(axis=-1) / np.maximum(present.sum(axis=-1), 1)
    return mean
