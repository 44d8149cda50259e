"""What a contract check remarks without refusing the upsampler, and how far two outputs differ."""

from __future__ import annotations

import torch
from torch import Tensor

from vfm_isbench.upsamplers.loaded import LoadedUpsampler
from vfm_isbench.upsamplers.trial_inputs import Trial
from vfm_isbench.upsamplers.violations import check_output


def deviation(one: Tensor, other: Tensor) -> float:
    """Largest difference, relative to the largest magnitude of ``other``."""
    scale, difference = largest(other), largest(one - other)
    return difference / scale if scale > 0 else difference


def largest(values: Tensor) -> float:
    """Largest magnitude, without a copy of the values."""
    low, high = torch.aminmax(values)
    return max(abs(float(low)), abs(float(high)))


def dtype_notes(dtypes: set[torch.dtype], expected: torch.dtype) -> list[str]:
    """A note for each dtype but the expected one."""
    return [
        f"the upsampler returns {dtype} for features of {expected}; its output is converted"
        for dtype in sorted(dtypes - {expected}, key=str)
    ]


def other_size_notes(upsampler: LoadedUpsampler, trial: Trial) -> list[str]:
    """Try half as many rows. A run has one size only, so an upsampler made for that size may refuse this one.

    Raises:
        ContractError: if it accepts the size, but returns anything but features.
    """
    short = trial[:1].shortened()
    if short is None:
        return []
    try:
        with torch.no_grad():
            output = upsampler(short.features.clone(), short.image.clone())
    except Exception:
        return []
    check_output(output, short.features, short.image, case="an image of half the height")
    rows, cols = short.image.shape[-2:]
    if rows != cols and output.shape[-2:] == (cols, rows):
        return [
            f"the upsampler returned {cols}×{rows} for an image of {rows}×{cols}: it takes height for width, which "
            "only square images hide"
        ]
    return []


def ignored_features_notes(first: Tensor, other: Tensor, tolerance: float) -> list[str]:
    """A note if the output for other features and the same image is no different from the first."""
    if other.shape != first.shape or deviation(other, first) > tolerance:
        return []
    return [
        "the upsampler returned the same for other features: it ignores those of the protocol's backbone, so its "
        "numbers are those of what it computes from the image by itself, such as with a backbone of its own"
    ]
