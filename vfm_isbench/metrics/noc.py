"""Number of clicks (NoC) and related metrics, from per-object IoUs.

``ious`` N×K holds the IoU of N objects after clicks 1 … K, in [0, 1]; NaN if the click was not placed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vfm_isbench.types import Array


def _checked(ious: Array) -> Array:
    ious = np.asarray(ious, dtype=np.float64)
    if ious.ndim != 2 or 0 in ious.shape:
        raise ValueError(f"expected IoUs of shape (objects, clicks), both at least 1; got {ious.shape}")
    return ious


def number_of_clicks(ious: Array, threshold: float) -> Array:
    """Number of clicks that each object needs to reach an IoU.

    An object that never reaches it counts as K, the click cap. NoC is censored there, so :func:`not_reached` is
    reported beside it.

    Args:
        ious: N×K.
        threshold: IoU in [0, 1] to reach, inclusive.

    Returns:
        N integers in 1 … K. Their mean is NoC@threshold.

    Source: RITM's evaluation, protocol section 3.6.

    >>> import numpy as np
    >>> number_of_clicks(np.array([[0.5, 0.9, 0.95], [0.1, 0.2, 0.3]]), 0.9)
    array([2, 3])
    """
    reached = _checked(ious) >= threshold
    counts: Array = np.where(reached.any(axis=1), reached.argmax(axis=1) + 1, reached.shape[1])
    return counts


def not_reached(ious: Array, threshold: float) -> int:
    """Number of objects whose NoC is K, the click cap ("≥20@90").

    By the published convention, this includes objects that reach the threshold exactly at the last click.
    """
    return int(np.count_nonzero(number_of_clicks(ious, threshold) == _checked(ious).shape[1]))


def failures(ious: Array, threshold: float) -> int:
    """NoF, the number of failures: objects that no click brings to an IoU.

    Unlike :func:`not_reached`, this leaves out objects that reach the IoU exactly at the last click.

    Args:
        ious: N×K.
        threshold: IoU in [0, 1] to reach, inclusive.

    >>> import numpy as np
    >>> ious = np.array([[0.5, 0.9], [0.8, 0.7], [0.95, 0.95]])
    >>> failures(ious, 0.9), not_reached(ious, 0.9)
    (1, 2)
    """
    return int(failure_curve(ious, threshold)[-1])


def failure_curve(ious: Array, threshold: float) -> Array:
    """Number of objects that have not reached an IoU after k clicks.

    Args:
        ious: N×K; a NaN, a click that was not placed, reaches nothing.
        threshold: IoU in [0, 1] to reach, inclusive.

    Returns:
        K integers for k = 1 … K, never increasing; the last is :func:`failures`.
    """
    reached = np.maximum.accumulate(_checked(ious) >= threshold, axis=1)
    curve: Array = (~reached).sum(axis=0)
    return curve


def iou_auc(ious: Array) -> Array:
    """IoU-AUC of each object: the area under its IoU over clicks 1 … K, divided by K - 1.

    The area is that of the trapezoidal rule, so the result is a mean of IoUs in which the first and the last click
    count half, and lies in [0, 1]. With one click it is the IoU of that click.

    Args:
        ious: N×K; in some tables N is 1 and the row is a mean over objects. The area of the mean is the mean area.

    Returns:
        N float64; NaN for objects that lack an IoU.

    >>> import numpy as np
    >>> iou_auc(np.array([[0.25, 0.75, 0.75], [0.5, 0.5, 0.5]]))
    array([0.625, 0.5  ])
    """
    ious = _checked(ious)
    if ious.shape[1] == 1:
        first: Array = ious[:, 0]
        return first
    areas: Array = ((ious[:, :-1] + ious[:, 1:]) / 2).mean(axis=1)
    return areas


def mean_iou_at(ious: Array, clicks: int) -> float:
    """IoU@k: mean over objects of the IoU after ``clicks`` clicks (1 … K); NaN if any object lacks it.

    Raises:
        ValueError: if ``clicks`` is not in 1 … K.
    """
    ious = _checked(ious)
    if not 1 <= clicks <= ious.shape[1]:
        raise ValueError(f"IoU@{clicks} requested, but {ious.shape[1]} clicks were placed")
    return float(ious[:, clicks - 1].mean())


def stopping_click(ious: Sequence[float], percents: Sequence[int], cap: int) -> int | None:
    """Number of the click after which an early-stopping evaluation is done with an object.

    From then on, further clicks cannot change NoC at any of ``percents`` or below.

    Args:
        ious: IoU of one object after clicks 1, 2, …, as many as were placed so far.
        percents: IoUs in percent, all of which must be reached.
        cap: Maximum number of clicks per object.

    Returns:
        The number of the click, or None if the object needs more clicks than ``ious`` has.

    >>> stopping_click([0.7, 0.92, 0.9], [80, 90], 20)
    2
    >>> stopping_click([0.7, 0.85], [80, 90], 20) is None
    True
    """
    wanted = max(percents) / 100
    for number, iou in enumerate(ious, start=1):
        if iou >= wanted or number == cap:
            return number
    return None
