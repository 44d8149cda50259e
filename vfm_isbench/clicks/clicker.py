"""The simulated user of the evaluation, who clicks in the middle of the largest error."""

from __future__ import annotations

import numpy as np

from vfm_isbench.clicks.distance import inner_distance
from vfm_isbench.types import IGNORE, Array, Click


def next_click(ground_truth: Array, prediction: Array, clicked: Array) -> Click:
    """Place the next click where the prediction is most wrong.

    The deepest pixel of the false negatives is compared with that of the false positives; the click is positive if the
    false negatives are strictly deeper. Among equally deep pixels, the first in row-major order is chosen.

    Args:
        ground_truth: H×W: 1 object, 0 background, -1 ignore.
        prediction: H×W booleans.
        clicked: H×W booleans, True where a click was already placed; such pixels are not chosen again.

    Returns:
        A click at an integer pixel. If no error is left, a negative click at row 0, column 0, as in the reference.

    Source: RITM ``isegm/inference/clicker.py``; protocol section 3.1.
    """
    return deepest_click(*larger_error(ground_truth, prediction, clicked))


def larger_error(ground_truth: Array, prediction: Array, clicked: Array) -> tuple[Array, bool]:
    """The false negatives or the false positives, whichever are deeper.

    Args:
        ground_truth: H×W: 1 object, 0 background, -1 ignore.
        prediction: H×W booleans.
        clicked: H×W booleans.

    Returns:
        H×W distances of these errors to their edge in pixels, 0 elsewhere and on clicked pixels; and whether a click on
        them is positive.
    """
    counted = ground_truth != IGNORE
    is_object = ground_truth == 1
    false_negative = np.where(clicked, 0, inner_distance(is_object & ~prediction & counted))
    false_positive = np.where(clicked, 0, inner_distance(~is_object & prediction & counted))
    is_positive = bool(false_negative.max() > false_positive.max())
    return (false_negative if is_positive else false_positive), is_positive


def deepest_click(depth: Array, is_positive: bool) -> Click:
    """A click at the first of the deepest pixels in row-major order."""
    row, col = np.unravel_index(int(depth.argmax()), depth.shape)
    return Click(int(row), int(col), is_positive)
