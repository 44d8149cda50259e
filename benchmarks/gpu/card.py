"""Stage: what the card is, and how fast it multiplies and copies."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch
from stages import Stage
from timing import machine, seconds

from vfm_isbench.acceleration.speed import tf32

_ROUNDS = 5
MATMULS: dict[str, tuple[torch.dtype, bool]] = {
    "float32": (torch.float32, False),
    "tf32": (torch.float32, True),
    "bfloat16": (torch.bfloat16, False),
}
"""Type of the factors, and whether they may be rounded to TF32."""


def measure(stage: Stage) -> None:
    """Describe the card, then measure its rates."""
    stage.set(machine=machine(stage.device), **described(stage.device))
    side = 128 if stage.is_small else 8192
    for precision in MATMULS:
        stage.attempt(
            f"matrix products in {precision}",
            lambda precision=precision: stage.set(  # type: ignore[misc]
                **{f"matmul_{precision}_tflops": matmul_rate(side, precision, stage.device)}
            ),
        )
    size = 2**20 if stage.is_small else 2**30
    for name, copy in copies(size, stage.device).items():
        stage.attempt(
            f"copies {name}",
            lambda name=name, copy=copy: stage.set(  # type: ignore[misc]
                **{f"copy_{name}_gb_per_s": size / 1e9 / fastest(copy, stage.device)}
            ),
        )


def described(device: torch.device) -> dict[str, Any]:
    """The card in words, as far as it tells."""
    if device.type != "cuda":
        return {"name": device.type}
    card = torch.cuda.get_device_properties(device)
    return {
        "name": card.name,
        "memory_bytes": card.total_memory,
        "multiprocessors": card.multi_processor_count,
        "capability": f"{card.major}.{card.minor}",
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "driver": _if_told(lambda: torch._C._cuda_getDriverVersion()),
        "clock_mhz": _if_told(lambda: torch.cuda.clock_rate(device)),
    }


def _if_told(ask: Callable[[], Any]) -> Any:
    """An answer that needs a library or a permission; None without."""
    try:
        return ask()
    except Exception:
        return None


def matmul_rate(side: int, precision: str, device: torch.device) -> float:
    """Tera floating-point operations per second in a product of two square matrices."""
    dtype, rounded = MATMULS[precision]
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    with tf32(rounded):
        return float(2 * side**3 / fastest(lambda: left @ right, device) / 1e12)


def copies(size: int, device: torch.device) -> dict[str, Callable[[], object]]:
    """Ways to copy ``size`` bytes; a copy on the device also reads as much as it writes."""
    here = torch.empty(size, dtype=torch.uint8)
    there, other = torch.empty_like(here, device=device), torch.empty_like(here, device=device)
    pinned = here.pin_memory() if device.type == "cuda" else here
    return {
        "on_device": lambda: other.copy_(there),
        "to_device_pinned": lambda: there.copy_(pinned, non_blocking=True),
        "to_device_pageable": lambda: there.copy_(here),
        "from_device_pinned": lambda: pinned.copy_(there, non_blocking=True),
        "from_device_pageable": lambda: here.copy_(there),
    }


def fastest(work: Callable[[], object], device: torch.device) -> float:
    """Median seconds of some calls, after two that are not counted."""
    for _ in range(2):
        work()
    return statistics.median(seconds(work, device) for _ in range(_ROUNDS))
