"""The most memory that a part of a run needed, so that others know whether their card is large enough."""

from __future__ import annotations

import sys

import torch


def start_counting(device: torch.device) -> None:
    """Forget the peak so far of a CUDA device; nobody can make a process forget its own."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_bytes(device: torch.device) -> int | None:
    """Peak memory in bytes.

    Returns:
        On CUDA devices, what tensors took up on the device since :func:`start_counting`. Elsewhere the largest resident
        size of this process since it began, libraries included; None where the system does not tell.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # on Windows
        return None
    # Linux counts in KiB, macOS in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
