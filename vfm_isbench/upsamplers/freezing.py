"""Find, freeze and count the modules inside an upsampler, however it is wrapped."""

from __future__ import annotations

import dis
import functools
from collections.abc import Callable, Iterator, Mapping
from types import CodeType, FunctionType, MethodType
from typing import Any, TypeVar

import numpy as np
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

T = TypeVar("T")

_LIBRARIES = frozenset({"torch", "torchvision", "numpy", "scipy", "timm", "einops", "builtins", "functools"})
"""Packages whose functions are not searched because they hold no upsampler's weights."""


def find_module(upsampler: object) -> nn.Module | None:
    """Find the ``nn.Module`` that an upsampler is or uses.

    The search covers bound methods, ``functools.partial``, the attributes of adapters and other callable objects, and
    what functions close over, use as globals and have as defaults, including lists, tuples and dictionaries.

    Returns:
        The module, an ``nn.ModuleList`` if there are several, or None if there is none.
    """
    found = [value for value in _reached(upsampler, set()) if isinstance(value, nn.Module)]
    if len(found) > 1:
        return nn.ModuleList(found)
    return found[0] if found else None


def freeze(upsampler: T) -> T:
    """Put the modules in an upsampler into eval mode and stop gradients to their weights, in place.

    Gradients still flow *through* the modules to the features, because clicks may be added before the upsampler.

    Returns:
        The same upsampler.
    """
    module = find_module(upsampler)
    if module is not None:
        module.eval()
        for parameter in module.parameters():  # not module.requires_grad_, which TorchScript modules refuse
            parameter.requires_grad_(False)
    return upsampler


def modules_called(call: Callable[[], object]) -> list[nn.Module]:
    """Make a call, and return the outermost modules that run in it, wherever they come from.

    Every module is put into eval mode just before it runs, so that a network in training mode, which the search did
    not find, neither uses nor changes batch statistics.
    """
    called: list[nn.Module] = []

    def before(module: nn.Module, _inputs: object) -> None:
        if not any(module is part for known in called for part in known.modules()):
            called.append(module)
        if module.training:
            module.eval()

    hook = register_module_forward_pre_hook(before)
    try:
        call()
    finally:
        hook.remove()
    return called


def count_parameters(upsampler: object) -> int | None:
    """Number of parameters in an upsampler's modules, counting shared ones once; None if it has no module."""
    module = find_module(upsampler)
    return None if module is None else sum(parameter.numel() for parameter in module.parameters())


def holds_tensors(upsampler: object) -> bool:
    """Whether an upsampler holds tensors or arrays outside modules, wherever :func:`find_module` would look."""
    return any(isinstance(value, (Tensor, np.ndarray)) for value in _reached(upsampler, set()))


def used_globals(function: FunctionType) -> dict[str, Any]:
    """Global variables that a function and the functions nested in it read, sorted by name.

    The names come from the instructions, because a code object's list of names also contains attribute names, which
    could match globals that the function never uses.
    """
    names = sorted(set(_global_names(function.__code__)) & function.__globals__.keys())
    return {name: function.__globals__[name] for name in names}


def closed_over(function: FunctionType) -> dict[str, Any]:
    """Values of the variables a function closes over, by name, without variables that are not bound yet."""
    values = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            values[name] = cell.cell_contents
        except ValueError:
            continue
    return values


def _global_names(code: CodeType) -> Iterator[str]:
    yield from (i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME"))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _global_names(constant)


def _reached(value: object, seen: set[int]) -> Iterator[object]:
    """The value and all its parts, each once; modules are not taken apart."""
    if id(value) in seen:
        return
    seen.add(id(value))
    yield value
    if not isinstance(value, nn.Module):
        for part in _parts(value):
            yield from _reached(part, seen)


def _parts(value: object) -> list[object]:
    """The parts of a value that may be, or lead to, a module."""
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, (list, tuple)):
        return list(value)
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, MethodType):
        return [value.__self__, value.__func__]
    if isinstance(value, FunctionType):
        if str(value.__globals__.get("__name__")).partition(".")[0] in _LIBRARIES:
            # Only what they wrap, not their globals: @torch.no_grad() keeps the decorated function in its closure.
            return list(closed_over(value).values())
        defaults = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
        return [*closed_over(value).values(), *used_globals(value).values(), *defaults]
    if callable(value) and not isinstance(value, type):
        call = getattr(type(value), "__call__", None)  # noqa: B004 - the function itself is wanted, not whether there is one
        return [*getattr(value, "__dict__", {}).values(), call]
    return []
