"""Random draws for scenes, made only of uniform numbers.

NumPy may change its other distributions from one version to the next. The stream of ``random`` has never changed, so
the pixels of the scenes do not change either.
"""

from __future__ import annotations

import numpy as np


def pick(rng: np.random.Generator, low: int, high: int) -> int:
    """A whole number in [low, high], each equally likely."""
    return low + int(rng.random() * (high - low + 1))
