"""Running out of memory: how to recognise it, and how to make room."""

from __future__ import annotations

import gc

import torch

_MESSAGES = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""What PyTorch's errors say where they are plain ``RuntimeError``: on CPUs, and inside CUDA's libraries."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or the one that caused it, means that memory ran out."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    if isinstance(error, RuntimeError) and any(message in str(error) for message in _MESSAGES):
        return True
    return error.__cause__ is not None and is_out_of_memory(error.__cause__)


def first_line(error: BaseException) -> str:
    """What an error says, without the advice of the library it comes from; its name if it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def free_memory(device: torch.device) -> None:
    """Give unused memory back to a device, after an error that left some behind.

    Call it outside the ``except`` block: there, the error still holds on to the tensors of its stack.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
