"""The exponential moving average of the trained weights (protocol section 2.5)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from vfm_isbench.errors import RunError

UNAVERAGED = "unaveraged."
"""Prefix of the weights that training continues from, in checkpoints whose other weights are averages."""


class WeightAverage:
    """Follows the weights of a module in training. Without decay it does nothing, and the average is the weights.

    Buffers are not averaged.

    Args:
        module: The module in training; it holds the weights that are trained, except within :meth:`in_place`.
        decay: Decay per step, in [0, 1); 0 turns averaging off.
        checkpoint: Tensors to continue from, see :func:`vfm_isbench.training.checkpoint.capture`. The module then
            holds the average when it comes here, and the weights that are trained afterwards.

    Raises:
        RunError: if the checkpoint lacks weights that training could continue from.
    """

    def __init__(self, module: nn.Module, decay: float, checkpoint: Mapping[str, Tensor] | None = None) -> None:
        self._decay = decay
        self._weights = dict(module.named_parameters()) if decay else {}
        self._average = _copies(self._weights)
        if checkpoint is not None:
            missing = [name for name in self._weights if UNAVERAGED + name not in checkpoint]
            if missing:
                raise RunError(f"the checkpoint lacks {UNAVERAGED + missing[0]!r}, so training cannot continue from it")
            self._put({name: checkpoint[UNAVERAGED + name] for name in self._weights})

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after a step, counted from 1 over the whole training.

        The decay rises with the steps, so that the initial weights are soon forgotten.
        """
        decay = min(self._decay, (1 + step) / (10 + step))
        if self._weights:
            average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
            average(list(self._average.values()), list(self._weights.values()), step)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within, the module holds the average."""
        trained = _copies(self._weights)
        self._put(self._average)
        try:
            yield
        finally:
            self._put(trained)

    def finish(self) -> None:
        """Leave the average in the module for good."""
        self._put(self._average)

    def unaveraged(self) -> dict[str, Tensor]:
        """For a checkpoint: the weights that training continues from, copied to the CPU; none without averaging."""
        return {
            UNAVERAGED + name: weight.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
            for name, weight in self._weights.items()
        }

    @torch.no_grad()
    def _put(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            self._weights[name].copy_(value)


def _copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
