"""Whether two runs' upsamplers or backbones behave alike; see :data:`vfm_isbench.types.Behaviour`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SAME_DEVICE, OTHER_DEVICE = 1e-3, 2e-2
"""Largest difference that rounding makes: on devices of one kind, and between CPU and CUDA (which may use TF32)."""


def differs(
    first: Sequence[float] | None, second: Sequence[float] | None, devices: tuple[str | None, str | None] = (None, None)
) -> bool:
    """Whether two behaviours differ by more than rounding; unknown ones do not.

    Args:
        first: Behaviour in one run; None if it was not recorded, as for outputs that are not deterministic.
        second: Behaviour in the other run.
        devices: Device of each run, as results record it.
    """
    if not first or not second:
        return False
    tolerance = SAME_DEVICE if devices[0] == devices[1] else OTHER_DEVICE
    return len(first) != len(second) or float(np.abs(np.subtract(first, second)).max()) > tolerance
