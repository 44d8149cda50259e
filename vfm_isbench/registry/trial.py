"""One tried forward pass of a part of the probe, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from vfm_isbench.errors import VfmIsbenchError


def try_out(module: nn.Module, side: int, shape: tuple[int, ...], error: Callable[[str], VfmIsbenchError]) -> None:
    """Run a module on 1×3×side×side zeros, and raise an error unless its output has the ``shape`` and is finite.

    The trial leaves no trace: it changes neither BatchNorm statistics nor the random numbers of other weights.

    Args:
        module: Takes one image, or one click map.
        side: Height and width of its input, in pixels.
        shape: Expected shape of its output.
        error: Makes the error from what went wrong, a phrase such as "returned …".
    """
    given = f"1×3×{side}×{side} zeros"
    was_training = [part.training for part in module.modules()]
    module.eval()
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            output = module(torch.zeros(1, 3, side, side, dtype=torch.float32))
    except Exception as failure:
        raise error(f"failed on {given} with {type(failure).__name__}: {failure}") from failure
    finally:
        for part, training in zip(module.modules(), was_training, strict=False):
            part.training = training
    found = tuple(output.shape) if isinstance(output, Tensor) else f"a {type(output).__name__}"
    if found != shape:
        raise error(f"returned {found} for {given} instead of {shape}")
    if not bool(output.isfinite().all()):
        raise error(f"returned NaN or infinite values for {given}")
