"""Where the time of a piece of work goes: busy share of the GPU, kinds of kernels, copies, and achieved FLOP/s."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import torch
from timing import seconds
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

_PRODUCTS = re.compile(
    r"gemm|gemv|conv|cudnn|cutlass|xmma|wgrad|dgrad|fprop|winograd|flash|fmha|attention|addmm|bmm|matmul|::mm", re.I
)
"""Names of kernels that multiply: matrix products, convolutions, attention."""

_COPIES = {"to_device": "Memcpy HtoD", "from_device": "Memcpy DtoH", "on_device": "Memcpy DtoD"}
_MOST = 10


def profiled(work: Callable[[], object], device: torch.device, per: int) -> dict[str, Any]:
    """Do a piece of work three times: timed, profiled, and with its operations counted.

    Args:
        work: Always does the same.
        device: The device.
        per: Clicks or images in the work, to which counts refer.

    Returns:
        On CPUs, operators take the place of kernels, and there are neither busy share nor copies.
    """
    taken = seconds(work, device)
    on_cuda = device.type == "cuda"
    # Without the operators of the CPU, which slow the program down and are many.
    with profile(activities=[ProfilerActivity.CUDA if on_cuda else ProfilerActivity.CPU]) as profiler:
        seconds(work, device)
    events = profiler.events() or []
    if on_cuda:
        events = [event for event in events if event.device_type == DeviceType.CUDA and not _is_annotation(event)]
        if not events:
            raise RuntimeError("the profiler saw no kernels; it may need another permission or library here")
    times: Counter[str] = Counter()
    for event in events:
        span = event.time_range
        times[event.name] += span.end - span.start if on_cuda else event.self_cpu_time_total
    counts = Counter(event.name for event in events)
    spans = [(event.time_range.start, event.time_range.end) for event in events]
    total = sum(times.values())
    products = sum(time for name, time in times.items() if _PRODUCTS.search(name))
    flops = _flops(work)
    return {
        "seconds": taken,
        "busy_share": covered(spans) / 1e6 / taken if on_cuda else None,
        "products_share": products / total if total else None,
        "kernels_each": sum(counts.values()) / per,
        "copies_each": {
            kind: sum(count for name, count in counts.items() if name.startswith(start)) / per
            for kind, start in _COPIES.items()
        },
        "tflops": None if flops is None else flops / taken / 1e12,
        "gflop_each": None if flops is None else flops / per / 1e9,
        "top": [
            {"name": name[:100], "share": time / total, "each": counts[name] / per}
            for name, time in times.most_common(_MOST)
        ],
    }


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Length of the union of intervals: kernels of several streams may run at the same time."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def _is_annotation(event: Any) -> bool:
    """Whether this is a named range, which covers the gaps between its kernels too."""
    return bool(getattr(event, "is_user_annotation", False)) or event.name.startswith(("Optimizer.", "ProfilerStep"))


def _flops(work: Callable[[], object]) -> float | None:
    """Floating-point operations of products, convolutions and attention; None if they cannot be counted."""
    try:
        with FlopCounterMode(display=False) as counter:
            work()
        return float(counter.get_total_flops())
    except Exception as error:
        print(f"operations were not counted: {type(error).__name__}: {error}")
        return None
