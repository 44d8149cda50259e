"""NaN and infinity must stop a run: compared with a threshold, they would pass as bad predictions."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from vfm_isbench.errors import NonFiniteError


def finite_logits(logits: Tensor) -> Tensor:
    """Return B×1×H×W logits as they are if all are finite.

    Raises:
        NonFiniteError: if not.
    """
    # One reduction, which makes no map of booleans. Finite values may overflow it, so the answer no is checked.
    if not bool(logits.detach().sum().isfinite()):
        bad = int((~logits.isfinite()).sum())
        if bad:
            raise NonFiniteError(
                f"the prediction is NaN or infinite in {bad} of {logits.numel()} pixels. Most likely the upsampler "
                "returned such values: look for divisions by zero and overflow in it"
            )
    return logits


def check_finite_loss(loss: float) -> None:
    """Check the loss of a training step.

    Raises:
        NonFiniteError: if it is not finite.
    """
    if not math.isfinite(loss):
        raise NonFiniteError(
            f"the loss is {loss}. Most likely the upsampler returned NaN, infinite or very large values: look for "
            "divisions by zero and overflow in it"
        )


def non_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors that hold NaN or infinity."""
    return [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
