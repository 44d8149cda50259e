"""Figures of the epochs of a training, which results and checkpoints keep."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """Figures of one epoch of training.

    Attributes:
        epoch: Number, from 0.
        loss: Mean normalised focal loss over the steps.
        iou: Mean IoU of the last prediction of each step.
        validation_iou: Mean IoU over the validation samples; None without validation.
        seconds: Duration, validation included.
    """

    epoch: int
    loss: float
    iou: float
    validation_iou: float | None
    seconds: float
