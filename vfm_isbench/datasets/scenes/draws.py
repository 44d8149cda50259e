"""Random draws for scenes, made of uniform numbers only.

NumPy may change what its other distributions give from one version to the next; the stream of ``random`` has stayed
the same since it exists, and the pixels of the scenes with it.
"""

from __future__ import annotations

import numpy as np


def pick(rng: np.random.Generator, low: int, high: int) -> int:
    """A whole number in [low, high], all alike."""
    return low + int(rng.random() * (high - low + 1))
