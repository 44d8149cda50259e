"""Steps that run out of memory: the largest number of images per pass that fits, for the user to continue with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch

from vfm_isbench.errors import OutOfMemoryError
from vfm_isbench.probe.memory import first_line, free_memory, is_out_of_memory

T = TypeVar("T")


def within_memory(step: Callable[[int], T], images: int, device: torch.device) -> T:
    """Do a step with so many images per pass of the network.

    Args:
        step: Computes predictions and gradients with a number of images per pass; may be repeated.
        images: That number.
        device: Where the step computes.

    Raises:
        OutOfMemoryError: if they do not fit. Half as many were then tried, a quarter, and so on; the error names the
            first number that fits.
    """
    outcome = _attempt(step, images, device)
    if not isinstance(outcome, _TooLarge):
        return outcome
    fitting = images // 2
    while fitting and isinstance(_attempt(step, fitting, device), _TooLarge):
        fitting //= 2
    raise OutOfMemoryError(_advice(images, fitting, outcome.message))


@dataclass(frozen=True, slots=True)
class _TooLarge:
    """A step ran out of memory, with this message. The error itself would keep the step's tensors."""

    message: str


def _attempt(step: Callable[[int], T], images: int, device: torch.device) -> T | _TooLarge:
    try:
        return step(images)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        message = first_line(error.__cause__ or error)
    # Only here, where the error and the tensors in its traceback are gone.
    free_memory(device)
    return _TooLarge(message)


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
