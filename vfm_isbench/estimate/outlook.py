"""How long the parts of a run take: a few measured steps and clicks, times the amounts."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vfm_isbench.acceleration.speed import RunOptions
from vfm_isbench.estimate.amounts import Amounts, Holding
from vfm_isbench.estimate.cost import Part
from vfm_isbench.estimate.timing import LEAST_SECONDS, ClickCost, TrainingCost, time_clicks, time_training
from vfm_isbench.probe import Probe
from vfm_isbench.protocol import Protocol

CROPS_PER_OBJECT = 1
"""Crops of a trained probe besides that of the whole image; measured, see docs/where-the-time-goes.md."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What was measured for a run, and what follows from it.

    Attributes:
        training: Cost of training steps.
        clicks: Cost of clicks.
        workers: Processes that prepare samples.
    """

    training: TrainingCost
    clicks: ClickCost
    workers: int

    def parts(self, amounts: Amounts, protocol: Protocol, epochs_done: float = 0) -> tuple[Part, ...]:
        """The parts of a run, with their times: the training that is left, and every test set."""
        return (
            _training(amounts, protocol, self, epochs_done),
            *(_evaluation(test, protocol, self.clicks) for test in amounts.tests),
        )

    def seconds(self, amounts: Amounts, protocol: Protocol) -> float:
        """Seconds of a whole run, under this or another protocol with the same network."""
        return sum(part.seconds for part in self.parts(amounts, protocol))


def measure_outlook(
    probe: Probe,
    amounts: Amounts,
    protocol: Protocol,
    options: RunOptions,
    *,
    trains: bool = True,
    least_seconds: float = LEAST_SECONDS,
    most_seconds: float = math.inf,
) -> Outlook:
    """Measure a few training steps and clicks; changes the probe's weights.

    Args:
        probe: The probe on its device.
        amounts: What the run does.
        protocol: What it is trained under.
        options: Speed and worker processes.
        trains: Whether any training is left; without, no step of it is measured.
        least_seconds: How long a fast step is repeated; longer is more exact.
        most_seconds: Seconds from which a step or click counts as slow, and is measured on less.

    Raises:
        UpsamplerError, OutOfMemoryError: if the upsampler fails in a step, or a step does not fit into memory.
    """
    validates = protocol.validation_samples > 0
    training = TrainingCost(0.0, 0.0, 0.0, None)
    if trains:
        training = time_training(
            probe, amounts.training, protocol, options, validates=validates, least=least_seconds, most=most_seconds
        )
    most_objects = max(amounts.tests, key=lambda test: test.objects)
    clicks = time_clicks(probe, most_objects, protocol, options, least=least_seconds, most=most_seconds)
    return Outlook(training, clicks, options.workers)


def _training(amounts: Amounts, protocol: Protocol, outlook: Outlook, epochs_done: float) -> Part:
    validated = f", {amounts.validation_steps} batches of validation" if amounts.validation_steps else ""
    whole = outlook.training.seconds(amounts.steps, amounts.validation_steps, protocol.batch_size, outlook.workers)
    left = (protocol.epochs - epochs_done) / protocol.epochs
    return Part("training", f"{amounts.steps} steps of {protocol.batch_size} images{validated}", whole * left)


def _evaluation(test: Holding, protocol: Protocol, cost: ClickCost) -> Part:
    crops = test.images + (CROPS_PER_OBJECT * test.objects if protocol.zoom_in else 0)
    clicks = test.objects * protocol.max_clicks
    seconds = clicks * cost.per_click(test.image_size) + crops * cost.crop
    return Part(test.name, f"{test.objects} objects, {clicks} clicks", seconds)
