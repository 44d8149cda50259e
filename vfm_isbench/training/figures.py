"""Loss and IoU of every step, fetched from the device without making it wait."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

from vfm_isbench.acceleration.transfers import Download
from vfm_isbench.errors import StoppedError
from vfm_isbench.probe.finite import check_finite_loss, finite_logits
from vfm_isbench.probe.guarded import during


class StepFigures:
    """Collects the figures of steps, and reads those of each step while the device computes the next one.

    Use it as a context manager: the last step is read at the end of the block. If a step fails, the step before it is
    read first, because its NaN may be the reason.

    Args:
        losses: Losses of steps before the first one.
        ious: IoUs of their images.

    Attributes:
        losses: Loss of each step that was read; empty without losses.
        ious: IoU of each image of these steps.
    """

    def __init__(self, losses: Iterable[float] = (), ious: Iterable[float] = ()) -> None:
        self.losses = list(losses)
        self.ious = list(ious)
        self._pending: _Pending | None = None

    def add(self, place: str, logits: Tensor, targets: Tensor, loss: Tensor | None = None) -> None:
        """Add a step, and read the step before it.

        Args:
            place: The step's name in errors.
            logits: B×1×H×W, not changed afterwards.
            targets: B×1×H×W.
            loss: Scalar; None in validation.

        Raises:
            NonFiniteError: if the loss or the logits of the step before are not finite; its place is that step.
        """
        pending = _start(place, logits.detach(), targets, loss)
        self.read()
        self._pending = pending

    def __enter__(self) -> StepFigures:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, StoppedError):
            self.read()

    def read(self) -> None:
        """Wait for the figures of the last step.

        Raises:
            NonFiniteError: if its loss or logits are not finite.
        """
        pending, self._pending = self._pending, None
        if pending is None:
            return
        values = pending.values.read().tolist()
        images = len(pending.logits)
        total, shared, union = values[0], values[1 : 1 + images], values[1 + images : 1 + 2 * images]
        with during(pending.place):
            if not np.isfinite(total):  # finite logits may overflow it, so the answer no is checked
                finite_logits(pending.logits)
            for loss in values[1 + 2 * images :]:
                check_finite_loss(loss)
                self.losses.append(loss)
        self.ious += [s / u if u else 1.0 for s, u in zip(shared, union, strict=True)]


@dataclass(frozen=True, slots=True, eq=False)
class _Pending:
    """A step whose figures are on their way: sum of the logits, intersections, unions, and the loss if there is one."""

    place: str
    logits: Tensor
    values: Download


def _start(place: str, logits: Tensor, targets: Tensor, loss: Tensor | None) -> _Pending:
    shared, union = overlap(logits, targets)
    figures = [logits.sum().reshape(1), shared, union, *([] if loss is None else [loss.detach().reshape(1)])]
    values = torch.cat([figure.float() for figure in figures])  # exact for numbers of pixels, up to 4096×4096
    return _Pending(place, logits, Download(values))


def overlap(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels in the intersection and in the union of prediction and target, at probability 0.5: twice B int64."""
    predicted, wanted = logits > 0, targets > 0.5
    return (predicted & wanted).sum(dim=(1, 2, 3)), (predicted | wanted).sum(dim=(1, 2, 3))
