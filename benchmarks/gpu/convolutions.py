"""Stage: the head's 3×3 convolution, by PyTorch and by our Winograd filtering, forward and with backward."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from unittest.mock import patch

import torch
from card import MATMULS
from stages import Stage
from timing import seconds
from torch import Tensor, nn

from vfm_isbench.acceleration.speed import tf32
from vfm_isbench.kernels import winograd

_ROUNDS = 4
_BATCHES = (2, 16, 32)
"""An object and its mirror image; eight objects in lockstep; a training batch."""

_WINOGRAD, _WINOGRAD_AT_ONCE = "Winograd", "Winograd, all strips at once"
WAYS = ("NCHW", "channels last", "channels last, cuDNN benchmark", _WINOGRAD, _WINOGRAD_AT_ONCE)


def measure(stage: Stage) -> None:
    """Time every way in every precision and batch."""
    channels, side = (8, 28) if stage.is_small else (384, 224)
    for batch in _BATCHES[:1] if stage.is_small else _BATCHES:
        for precision in MATMULS:
            for way in WAYS:
                stage.attempt(
                    f"convolution, batch {batch}, {precision}, {way}",
                    lambda batch=batch, precision=precision, way=way: stage.add(  # type: ignore[misc]
                        "convolutions", timed(way, precision, (batch, channels, side), stage.device)
                    ),
                    needs=2,
                )


def timed(way: str, precision: str, shape: tuple[int, int, int], device: torch.device) -> dict[str, object]:
    """Milliseconds of one way, forward and forward with backward, and how far it is from a direct convolution."""
    batch, channels, side = shape
    dtype, rounded = MATMULS[precision]
    torch.manual_seed(0)
    conv = nn.Conv2d(channels, channels, 3, padding=1).to(device, dtype)
    maps = torch.randn(batch, channels, side, side, device=device, dtype=dtype)
    with tf32(False), torch.no_grad():
        exact = conv.float()(maps[:1].float())
    conv = conv.to(dtype)
    layout = torch.contiguous_format if way == "NCHW" else torch.channels_last
    conv, maps = conv.to(memory_format=layout), maps.to(memory_format=layout)
    forward, differentiable = _functions(way, conv)
    maps.requires_grad_()

    def both() -> None:
        torch.autograd.backward(differentiable(maps).sum())
        maps.grad = None
        conv.zero_grad(set_to_none=True)

    strip_values = sys.maxsize if way == _WINOGRAD_AT_ONCE else winograd._STRIP_VALUES
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = way.endswith("benchmark")
    try:
        with patch.object(winograd, "_STRIP_VALUES", strip_values), tf32(rounded):
            with torch.no_grad():
                deviation = (forward(maps[:1]).float() - exact).abs().amax() / exact.abs().amax()
                forward_ms = _milliseconds(lambda: forward(maps), device)
            both_ms = _milliseconds(both, device)
    finally:
        torch.backends.cudnn.benchmark = before
    return {
        "batch": batch, "precision": precision, "way": way, "forward_ms": forward_ms, "both_ms": both_ms,
        "tflops": 2 * 9 * channels**2 * side**2 * batch / forward_ms / 1e9, "deviation": float(deviation),
    }  # fmt: skip


def _functions(way: str, conv: nn.Conv2d) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """The convolution without and with gradients."""
    if way not in (_WINOGRAD, _WINOGRAD_AT_ONCE):
        return conv, conv
    with_gradients = winograd._Convolution.apply
    return winograd.Winograd(conv.weight, conv.bias), lambda maps: with_gradients(maps, conv.weight, conv.bias)


def _milliseconds(work: Callable[[], object], device: torch.device) -> float:
    for _ in range(2):
        work()
    return 1000 * statistics.median(seconds(work, device) for _ in range(_ROUNDS))
