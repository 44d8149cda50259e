"""An epoch that is not finished: what a checkpoint inside it holds, besides weights and optimiser, to continue it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from vfm_isbench.errors import RunError
from vfm_isbench.probe.torch_state import random_state, restore_random_state
from vfm_isbench.training.records import EpochRecord

UNFINISHED = "epoch."
"""Prefix of the tensors of a checkpoint that belong to an epoch that is not finished."""

_RANDOM = UNFINISHED + "random."

Keep: TypeAlias = Callable[[tuple[EpochRecord, ...], Mapping[str, Tensor]], None]
"""Keeps a checkpoint: called with the records of the finished epochs and the tensors of a :class:`Checkpoint`, after
every epoch, and inside an epoch when it is time for it."""


@dataclass(frozen=True, slots=True, eq=False)
class UnfinishedEpoch:
    """How far an epoch has come.

    Attributes:
        losses: Loss of each finished step.
        ious: IoU of each image of these steps.
        seconds: Time spent on them.
        random_numbers: State of PyTorch's global generators, see :func:`vfm_isbench.probe.torch_state.random_state`.
    """

    losses: tuple[float, ...]
    ious: tuple[float, ...]
    seconds: float
    random_numbers: Mapping[str, Tensor]

    @classmethod
    def now(cls, losses: list[float], ious: list[float], seconds: float, device: torch.device) -> UnfinishedEpoch:
        """The epoch after the steps so far, on a device."""
        return cls(tuple(losses), tuple(ious), seconds, random_state(device))

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> UnfinishedEpoch | None:
        """What a checkpoint holds of it; None if all of its epochs are finished.

        Raises:
            RunError: if a part is missing.
        """
        if not any(name.startswith(UNFINISHED) for name in tensors):
            return None
        try:
            losses, ious = (tensors[UNFINISHED + name].double().flatten().tolist() for name in ("losses", "ious"))
            seconds = float(tensors[UNFINISHED + "seconds"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise _broken(error) from error
        states = {name.removeprefix(_RANDOM): state for name, state in tensors.items() if name.startswith(_RANDOM)}
        return cls(tuple(losses), tuple(ious), seconds, states)

    @property
    def steps(self) -> int:
        """Finished steps."""
        return len(self.losses)

    def restore_random_numbers(self, device: torch.device) -> None:
        """Let PyTorch's global generators continue where they were.

        Raises:
            RunError: if the states are none of theirs.
        """
        try:
            restore_random_state(self.random_numbers, device)
        except (RuntimeError, TypeError) as error:
            raise _broken(error) from error

    def tensors(self) -> dict[str, Tensor]:
        """For a checkpoint."""
        return {
            UNFINISHED + "losses": torch.tensor(self.losses, dtype=torch.float64),
            UNFINISHED + "ious": torch.tensor(self.ious, dtype=torch.float64),
            UNFINISHED + "seconds": torch.tensor(self.seconds, dtype=torch.float64),
            **{_RANDOM + name: state for name, state in self.random_numbers.items()},
        }


def _broken(error: Exception) -> RunError:
    return RunError(
        f"the checkpoint's part on the epoch that was under way is broken ({error}), so training cannot continue from "
        "it: choose another output folder, or overwrite=True (command line: --overwrite)"
    )


class Keeper:
    """Keeps checkpoints in time.

    Args:
        keep: Keeps one; None keeps nothing.
        minutes: Minutes between two checkpoints inside an epoch.
        epochs: Finished epochs in the checkpoint that training starts from.
        steps: Finished steps of the next epoch in it.
    """

    def __init__(self, keep: Keep | None, minutes: float, epochs: int, steps: int) -> None:
        self._keep = keep
        self._seconds = 60 * minutes
        self._kept = (epochs, steps)
        self._last = time.monotonic()

    @property
    def is_keeping(self) -> bool:
        """Whether anything is kept."""
        return self._keep is not None

    @property
    def is_due(self) -> bool:
        """Whether it is time for a checkpoint inside an epoch."""
        return self.is_keeping and time.monotonic() - self._last >= self._seconds

    def keep(self, history: tuple[EpochRecord, ...], tensors: Mapping[str, Tensor], steps: int = 0) -> None:
        """Keep a checkpoint after finished epochs, and steps of the next one."""
        if self._keep is not None:
            self._keep(history, tensors)
            self._kept = (len(history), steps)
            self._last = time.monotonic()

    def says(self) -> str:
        """What is left when training stops now."""
        if self._keep is None:
            return (
                "Nothing was kept; with an output folder (command line: --output DIR), the same command would continue."
            )
        epochs, steps = self._kept
        if not epochs and not steps:
            return "No checkpoint was written yet, so the same command starts the training again."
        place = f"epoch {epochs + 1}, step {steps}," if steps else f"epoch {epochs}"
        return f"The checkpoint of {place} is kept, and the same command continues from there."
