"""Steps that run out of memory: the largest number of images per pass that fits, for the user to continue with."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch

from vfm_isbench.errors import OutOfMemoryError, UpsamplerError

T = TypeVar("T")

_OUT_OF_MEMORY = (torch.cuda.OutOfMemoryError, MemoryError)  # PyTorch 2.5 renamed the first, and kept this name


def within_memory(step: Callable[[int], T], images: int) -> T:
    """Do a step with so many images per pass of the network.

    Args:
        step: Computes predictions and gradients with a number of images per pass; may be repeated.
        images: That number.

    Raises:
        OutOfMemoryError: if they do not fit. Half as many were then tried, a quarter, and so on; the error names the
            first number that fits.
    """
    outcome = _attempt(step, images)
    if not isinstance(outcome, _TooLarge):
        return outcome
    fitting = images // 2
    while fitting and isinstance(_attempt(step, fitting), _TooLarge):
        fitting //= 2
    raise OutOfMemoryError(_advice(images, fitting, outcome.message))


@dataclass(frozen=True, slots=True)
class _TooLarge:
    """A step ran out of memory, with this message. The error itself would keep the step's tensors."""

    message: str


def _attempt(step: Callable[[int], T], images: int) -> T | _TooLarge:
    try:
        return step(images)
    except (*_OUT_OF_MEMORY, UpsamplerError) as error:
        message = _message(error)
        if message is None:
            raise
    # Only here, where the error and the tensors in its traceback are gone.
    gc.collect()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
    return _TooLarge(message)


def _message(error: BaseException) -> str | None:
    """First line of an error about memory, or of the one that made an upsampler fail; None for other errors."""
    reason = error.__cause__ if isinstance(error, UpsamplerError) else error
    if not isinstance(reason, _OUT_OF_MEMORY):
        return None
    return (str(reason).splitlines() or [type(reason).__name__])[0]


def _advice(images: int, fitting: int, message: str) -> str:
    number = "1 image" if images == 1 else f"{images} images"
    what = f"the step ran out of memory with {number} in one pass of the network ({message})"
    if not fitting:
        more = "" if images == 1 else ", and 1 image does not fit either"
        return f"{what}{more}: free memory, choose a device that has more, or use a smaller backbone or image size"
    fits = "1 image fits" if fitting == 1 else f"{fitting} images fit"
    return (
        f"{what}. {fits}: run it again with Speed(images_at_once={fitting}) (command line: --images-at-once "
        f"{fitting}), which changes the weights only by rounding"
    )
