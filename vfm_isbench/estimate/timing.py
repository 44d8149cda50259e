"""Measures on the spot what single steps of a run take: a training step, a click, a sample."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
import torch
from torch import Tensor

from vfm_isbench.acceleration.cached_probe import network_for
from vfm_isbench.acceleration.speed import RunOptions, tf32
from vfm_isbench.datasets import ObjectDataset, read_sample
from vfm_isbench.estimate.amounts import Holding
from vfm_isbench.estimate.photographs import StandInPhotographs
from vfm_isbench.evaluation import ClickedObject, EvaluationTimes, evaluate_objects
from vfm_isbench.evaluation.predictor import ImageCrops
from vfm_isbench.probe import Probe
from vfm_isbench.probe.torch_state import benchmark_settings, current_device, own_random_numbers
from vfm_isbench.protocol import Protocol
from vfm_isbench.runs.peak_memory import peak_bytes, start_counting
from vfm_isbench.training import TrainingSamples, normalized_focal_loss
from vfm_isbench.training.prediction import predict_batch
from vfm_isbench.training.samples import Batch, collate

LEAST_SECONDS = 1.0
"""What is faster is repeated until it has taken this long; what is slower is done once."""

_MOST_REPEATS = 20


@dataclass(frozen=True, slots=True)
class TrainingCost:
    """What training takes.

    Attributes:
        step: Seconds of the device per step, with the mean number of iterative clicks.
        validation_step: The same for a batch of validation.
        sample: Seconds of one process to prepare one sample.
        peak_bytes: Peak memory, see :func:`vfm_isbench.runs.peak_memory.peak_bytes`; None if only a single image was
            tried.
    """

    step: float
    validation_step: float
    sample: float
    peak_bytes: int | None

    def seconds(self, steps: int, validation_steps: int, batch_size: int, workers: int) -> float:
        """Seconds of a whole training: without workers, samples are prepared between steps, otherwise beside them."""
        samples = batch_size * self.sample
        return sum(
            number * (seconds + samples if not workers else max(seconds, samples / workers))
            for number, seconds in ((steps, self.step), (validation_steps, self.validation_step))
        )


@dataclass(frozen=True, slots=True)
class ClickCost:
    """What clicks take.

    Attributes:
        predicting: Seconds of the network per click.
        placing: Seconds to measure IoU and place the next click, on images of ``image_size``.
        crop: Seconds to encode a crop.
        image_size: (H, W) in pixels.
        peak_bytes: Peak memory, as above.
    """

    predicting: float
    placing: float
    crop: float
    image_size: tuple[int, int]
    peak_bytes: int | None

    def per_click(self, image_size: tuple[int, int]) -> float:
        """Seconds per click on images of another size, without crops; placing takes time in proportion to the area."""
        area = image_size[0] * image_size[1] / (self.image_size[0] * self.image_size[1])
        return self.predicting + self.placing * area


@benchmark_settings()
def time_training(
    probe: Probe,
    training: Holding,
    protocol: Protocol,
    options: RunOptions,
    *,
    validates: bool,
    least: float = LEAST_SECONDS,
    most: float = math.inf,
) -> TrainingCost:
    """Measure a few steps, without and with iterative clicks; changes the probe's weights.

    Args:
        probe: The probe.
        training: The training set.
        protocol: What it is trained under.
        options: Speed.
        validates: Whether there is a validation, which is measured too.
        least: Seconds for which a fast step is repeated.
        most: Seconds from which a step counts as slow. It is then measured on a single image and with a single click,
            and counted for the whole batch, which is somewhat too much.
    """
    device = probe.device
    dataset = training.dataset or StandInPhotographs(training.image_size)
    samples = TrainingSamples(dataset, protocol, training.weights)
    began = time.perf_counter()
    one = collate([samples[0, 0]])
    batch = collate([samples[0, item] for item in range(protocol.batch_size)])
    per_sample = (time.perf_counter() - began) / (1 + protocol.batch_size)
    optimizer = torch.optim.Adam(probe.trainable().parameters(), lr=protocol.learning_rate)
    drawn = protocol.max_iterative_clicks

    def backward(logits: Tensor, targets: Tensor) -> None:
        loss = normalized_focal_loss(logits, targets, alpha=protocol.loss_alpha, gamma=protocol.loss_gamma)
        torch.autograd.backward(loss.mean())

    def step(clicks: int, images: Batch) -> None:
        optimizer.zero_grad(set_to_none=True)
        predict_batch(probe, images, protocol, drawing(clicks, drawn), speed=options.speed, backward=backward)
        optimizer.step()

    def validation_step(images: Batch) -> None:
        with torch.no_grad():
            predict_batch(probe, images, protocol, drawing(0, drawn), training=False, speed=options.speed)

    with tf32(options.speed.precision == "tf32"), current_device(device), own_random_numbers():
        start_counting(device)
        used, times, clicks_measured = batch, 1, drawn
        if most < math.inf:
            alone = seconds_of(lambda: step(0, one), device, 0.0)
            if alone * protocol.batch_size > most:
                used, times, clicks_measured = one, protocol.batch_size, min(drawn, 1)
        without = alone if used is one else seconds_of(lambda: step(0, used), device, least)
        clicks = 0.0
        if drawn:  # half of them on average
            with_clicks = seconds_of(lambda: step(clicks_measured, used), device, least)
            clicks = max(with_clicks - without, 0.0) / clicks_measured * drawn / 2
        peak = None if used is one else peak_bytes(device)  # of a whole batch, or unknown
        validation = seconds_of(lambda: validation_step(used), device, least) + clicks if validates else 0.0
    return TrainingCost(times * (without + clicks), times * validation, per_sample, peak)


@benchmark_settings()
def time_clicks(
    probe: Probe,
    test: Holding,
    protocol: Protocol,
    options: RunOptions,
    *,
    least: float = LEAST_SECONDS,
    most: float = math.inf,
) -> ClickCost:
    """Measure a few clicks on as many objects as are clicked at once, in crops of the whole image.

    If the first click takes longer than ``most`` seconds, only two more are measured instead of four.
    """
    device, speed = probe.device, replace(options.speed, stop_at_iou=None, feature_cache=None)
    size = speed.lockstep(device)
    network = network_for(probe.eval(), speed, None)
    whole = protocol.replace(zoom_in=False)
    examples = _objects(test.dataset or StandInPhotographs(test.image_size), size)

    def click(clicks: int) -> EvaluationTimes:
        times = EvaluationTimes()
        objects = [ClickedObject(ImageCrops(network, image, whole), mask) for image, mask in examples]
        with current_device(device), own_random_numbers():
            evaluate_objects(network, objects, whole.replace(max_clicks=clicks), speed=speed, times=times)
        return times

    start_counting(device)
    began = time.perf_counter()
    one = click(1)
    spent = time.perf_counter() - began
    more = 4 if spent < most else 2
    if spent < least:
        one, more = click(1), max(protocol.max_clicks, 4)
    several = click(more)
    predicting = max(several.predicting - one.predicting, 0.0) / (more - 1) / size
    return ClickCost(
        predicting=predicting,
        placing=several.clicking / more / size,
        crop=max(one.predicting / size - predicting, 0.0),
        image_size=(examples[0][0].shape[0], examples[0][0].shape[1]),
        peak_bytes=peak_bytes(device),
    )


def _objects(dataset: ObjectDataset, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images and masks of objects on different images, as far as there are as many."""
    found = []
    for number in range(count):
        sample = read_sample(dataset, dataset.image_ids[number % len(dataset.image_ids)])
        found.append((sample.image, sample.object_mask(sample.instance_ids()[0])))
    return found


def drawing(number: int, most: int) -> np.random.Generator:
    """A generator that draws ``number`` as the first whole number from 0 to ``most``."""
    return next(
        np.random.default_rng(seed) for seed in count() if int(np.random.default_rng(seed).integers(most + 1)) == number
    )


def seconds_of(work: Callable[[], object], device: torch.device, least: float = LEAST_SECONDS) -> float:
    """Seconds that work takes: of the first time if that is long, otherwise the median of the repetitions after it."""
    spent: list[float] = []
    while not spent or (spent[0] < least and sum(spent[1:]) < least and len(spent) <= _MOST_REPEATS):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        spent.append(time.perf_counter() - began)
    return float(np.median(spent[1:] or spent))
