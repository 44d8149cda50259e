"""PyTorch's process-wide settings: what the benchmark computes under, and how foreign code leaves them as they were."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


class _Setting(NamedTuple):
    read: Callable[[], Any]
    write: Callable[[Any], Any]
    wanted: Any = None
    """Value that the benchmark computes under; None leaves the caller's."""


def _attribute(owner: Any, name: str, wanted: Any) -> _Setting:
    return _Setting(lambda: getattr(owner, name), lambda value: setattr(owner, name, value), wanted)


def _autocast_on(device: str) -> tuple[_Setting, _Setting]:
    return (
        _Setting(
            lambda: torch.is_autocast_enabled(device), lambda value: torch.set_autocast_enabled(device, value), False
        ),
        _Setting(lambda: torch.get_autocast_dtype(device), lambda value: torch.set_autocast_dtype(device, value)),
    )


def _read_matmul_precision() -> str | None:
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # PyTorch refuses to read what was set by several of its interfaces
        return None


def _write_matmul_precision(value: str | None) -> None:
    if value is not None:
        torch.set_float32_matmul_precision(value)


def _read_convolution_tf32() -> bool | None:
    try:
        return torch.backends.cudnn.allow_tf32
    except RuntimeError:  # as above
        return None


def _write_convolution_tf32(value: bool | None) -> None:
    if value is not None:
        torch.backends.cudnn.allow_tf32 = value


def _read_cuda_device() -> int | None:
    return torch.cuda.current_device() if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]


def _write_cuda_device(index: int | None) -> None:
    if index is not None:
        torch.cuda.set_device(index)


_SETTINGS = (
    # Newer versions of PyTorch have this one, which overrules the others; it must be unset before they can be read.
    *([_attribute(torch.backends, "fp32_precision", "none")] if hasattr(torch.backends, "fp32_precision") else []),
    _Setting(_read_matmul_precision, _write_matmul_precision, "highest"),
    _Setting(torch.get_default_dtype, torch.set_default_dtype, torch.float32),
    _Setting(torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode, 0),
    _Setting(_read_convolution_tf32, _write_convolution_tf32, False),
    _attribute(torch.backends.cudnn, "enabled", True),
    _attribute(torch.backends.cudnn, "benchmark", False),
    _attribute(torch.backends.cudnn, "deterministic", False),
    _Setting(torch.get_num_threads, torch.set_num_threads),
    *_autocast_on("cpu"),
    *_autocast_on("cuda"),
    _Setting(torch.is_autocast_cache_enabled, torch.set_autocast_cache_enabled, True),
    _Setting(_read_cuda_device, _write_cuda_device),
)


@contextmanager
def settings_restored() -> Iterator[None]:
    """Restore PyTorch's settings after a block of foreign code, whatever it does to them.

    Covered are grad and inference mode, autocast, the default dtype and device, the current CUDA device, deterministic
    and cuDNN flags, the precision of products, the number of threads, and the random numbers of the CPU and of every
    CUDA device if the block seeds them. Code that only draws random numbers continues their sequence.
    """
    before = [setting.read() for setting in _SETTINGS]
    device = _default_device()
    random_numbers = [(each, each.initial_seed(), each.get_state()) for each in _generators()]
    try:
        # Both blocks restore their mode when they end, even if it was changed inside without being restored.
        with torch.inference_mode(torch.is_inference_mode_enabled()), torch.set_grad_enabled(torch.is_grad_enabled()):
            yield
    finally:
        for setting, value in zip(_SETTINGS, before, strict=True):
            if setting.read() != value:
                setting.write(value)
        if _default_device() != device:
            # None, unlike the CPU as a default device, does not slow every later call down a little.
            torch.set_default_device(None if device.type == "cpu" else device)
        for generator, seed, state in random_numbers:
            if generator.initial_seed() != seed:
                generator.set_state(state)


@contextmanager
def benchmark_settings() -> Iterator[None]:
    """Compute under the settings of the benchmark, whatever the caller's are, and restore those afterwards.

    These are PyTorch's own defaults, except that neither products nor convolutions are rounded to TF32; ``Speed``
    chooses other arithmetic where it is wanted. The number of threads stays the caller's. Also serves as a decorator.
    """
    with settings_restored(), torch.inference_mode(False), torch.enable_grad():
        for setting in _SETTINGS:
            if setting.wanted is not None and setting.read() != setting.wanted:
                setting.write(setting.wanted)
        if _default_device().type == "cpu":
            yield
        else:  # PyTorch can only overrule a default device by another one, which slows every call down a little
            with torch.device("cpu"):
                yield


@contextmanager
def own_random_numbers() -> Iterator[None]:
    """Let a block seed PyTorch's global random numbers, on whatever device, without changing the caller's."""
    before = [(generator, generator.get_state()) for generator in _generators()]
    try:
        yield
    finally:
        for generator, state in before:
            generator.set_state(state)


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """State of the global random numbers of the CPU, and of the device if it has its own, as bytes."""
    found = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        found["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        found["mps"] = torch.mps.get_rng_state()
    return found


def restore_random_state(state: Mapping[str, torch.Tensor], device: torch.device) -> None:
    """The inverse of :func:`random_state`; what the state lacks stays as it is."""
    if "cpu" in state:
        torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
    elif device.type == "mps" and "mps" in state:
        torch.mps.set_rng_state(state["mps"])


def current_device(device: torch.device) -> AbstractContextManager[object]:
    """Make a CUDA device the current one in a block, so that code of others that says "cuda" also runs there."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


@contextmanager
def repeatable_gradients(device: torch.device) -> Iterator[None]:
    """On CUDA devices, choose algorithms whose gradients have the same bits every time; CPUs do so anyway.

    By default, cuDNN's convolutions and fused attention add up gradients in an order that changes from run to run. What
    modules of others do beyond these two is theirs: PyTorch's bilinear resize, for example, has no such choice.
    """
    if device.type != "cuda":
        yield
        return
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.cudnn.deterministic = before


def _generators() -> list[torch.Generator]:
    """PyTorch's global generators: that of the CPU, and of every CUDA device if this process uses CUDA."""
    on_cuda = torch.cuda.default_generators if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    return [torch.default_generator, *on_cuda]


def _default_device() -> torch.device:
    # Unlike torch.get_default_device(), this knows of ``with torch.device(...)`` in every version.
    return torch.empty(0).device
