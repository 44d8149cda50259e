"""Copies between the CPU and a device, for which neither has to wait."""

from __future__ import annotations

import torch
from torch import Tensor


def upload(values: Tensor, device: torch.device) -> Tensor:
    """Start the copy of a CPU tensor to a device; later work on the device waits for it, the CPU does not.

    On the CPU the tensor is returned as it is.
    """
    if device.type == "cuda":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


class Download:
    """The copy of a tensor to the CPU, under way.

    Args:
        values: Any tensor. On a CUDA device its copy starts once the work queued so far is done.
    """

    def __init__(self, values: Tensor) -> None:
        self._ready: torch.cuda.Event | None = None
        if values.device.type != "cuda":
            self._copy = values.cpu()
            return
        self._copy = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        self._copy.copy_(values, non_blocking=True)
        self._ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._ready.record(torch.cuda.current_stream(values.device))

    def read(self) -> Tensor:
        """Wait for the copy, but not for work that was queued after it."""
        if self._ready is not None:
            self._ready.synchronize()
        return self._copy
