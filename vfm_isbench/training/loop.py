"""The training loop (protocol section 2)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from vfm_isbench.acceleration.cached_probe import Network, network_for
from vfm_isbench.acceleration.feature_cache import FeatureCache, open_feature_cache, reporting
from vfm_isbench.acceleration.speed import RunOptions, Speed, arithmetic, tf32
from vfm_isbench.acceleration.transfers import upload
from vfm_isbench.clicks import add_click, click_maps, next_training_clicks, points_tensor
from vfm_isbench.errors import ProtocolError
from vfm_isbench.probe import Probe
from vfm_isbench.probe.guarded import during
from vfm_isbench.probe.torch_state import benchmark_settings, current_device, own_random_numbers, repeatable_gradients
from vfm_isbench.progress import Part
from vfm_isbench.protocol import Protocol
from vfm_isbench.training.averaging import WeightAverage
from vfm_isbench.training.checkpoint import Checkpoint, EpochRecord, capture, check_finite
from vfm_isbench.training.figures import StepFigures, overlap
from vfm_isbench.training.loader import BatchLoader
from vfm_isbench.training.loss import normalized_focal_loss
from vfm_isbench.training.memory import within_memory
from vfm_isbench.training.samples import Batch, TrainingSamples, items_per_epoch
from vfm_isbench.types import Click

_CLICK_STREAM = 2
"""First word of the seeds of iterative clicks; the samples use 0 and 1, the order of images 3."""

_GLOBAL_STREAM = 4
"""First word of the seeds of PyTorch's global random numbers, which only modules of others draw from."""

Keep: TypeAlias = Callable[[tuple[EpochRecord, ...], Mapping[str, Tensor]], None]
"""Called after every epoch with the records so far and the tensors of a :class:`Checkpoint`."""


def learning_rate(protocol: Protocol, epoch: int, step: int, steps: int) -> float:
    """Learning rate in a step, counted from 0 over the whole training of this many steps."""
    warmup = min(1.0, (step + 1) / protocol.warmup_steps) if protocol.warmup_steps else 1.0
    if protocol.schedule == "cosine":
        return protocol.learning_rate * (1 + math.cos(math.pi * step / steps)) / 2 * warmup
    passed = sum(epoch >= milestone for milestone in protocol.milestones)
    return protocol.learning_rate * protocol.decay**passed * warmup


@benchmark_settings()
def train(
    probe: Probe,
    samples: TrainingSamples,
    validation: TrainingSamples | None,
    *,
    start: Checkpoint | None = None,
    keep: Keep | None = None,
    options: RunOptions | None = None,
) -> tuple[EpochRecord, ...]:
    """Train click encoder and head.

    Args:
        probe: Assembled network on its device; changed in place.
        samples: Training samples, which also hold the protocol.
        validation: Validation samples, or None.
        start: Checkpoint to continue from; the outcome equals that of an uninterrupted run.
        keep: Called after every epoch.
        options: Speed, worker processes and progress bars.

    Returns:
        One record per epoch, those of ``start`` included.

    Raises:
        ProtocolError: if an epoch has fewer samples than one batch.
        UpsamplerError: if the upsampler fails in some step.
        OutOfMemoryError: if a step does not fit into memory; it names the setting to continue with.
        NonFiniteError: if a loss, a prediction or the trained weights become NaN or infinite. As with every error,
            ``keep`` has then been given the last epoch that was finished.
    """
    options = options or RunOptions()
    protocol = samples.protocol
    _steps_per_epoch(samples)
    optimizer = _optimizer(probe, protocol)
    history: tuple[EpochRecord, ...] = ()
    if start is not None:
        start.restore(probe.trainable(), optimizer)
        history = start.history
    average = WeightAverage(probe.trainable(), protocol.average_decay, None if start is None else start.tensors)
    cache = open_feature_cache(probe, options.speed.feature_cache)
    sources = [samples, validation] if validation is not None else [samples]
    loader = BatchLoader(sources, options.workers, probe.device)
    setup = _Setup(probe, samples, optimizer, average, loader, cache, options)
    epochs = protocol.epochs - len(history)
    steps = epochs * (_steps_per_epoch(samples) + (_validation_steps(protocol) if validation is not None else 0))
    # TF32 also concerns the backward pass.
    with (
        tf32(options.speed.precision == "tf32"),
        current_device(probe.device),
        own_random_numbers(),
        repeatable_gradients(probe.device),
        options.progress_of("training", steps) as progress,
        reporting(cache),
    ):
        for epoch in range(len(history), protocol.epochs):
            place = f"training with upsampler {probe.upsampler.name!r}, epoch {epoch + 1} of {protocol.epochs}"
            with during(place, _kept(keep, epoch)):
                began = time.perf_counter()
                torch.manual_seed(_global_seed(protocol, epoch))
                progress.say(f"epoch {epoch + 1}/{protocol.epochs}")
                found = _train_epoch(setup, epoch, progress)
                validation_iou = None
                with average.in_place():
                    if validation is not None and protocol.validation_samples:
                        validation_iou = validate(probe, validation, cache, options, loader, progress)
                    tensors = capture(probe.trainable(), optimizer)
                tensors |= average.unaveraged()
                seconds = time.perf_counter() - began
                loss, iou = float(np.mean(found.losses)), float(np.mean(found.ious))
                record = EpochRecord(epoch, loss, iou, validation_iou, seconds)
                history = (*history, record)
                check_finite(tensors)
                if keep is not None:
                    keep(history, tensors)
    average.finish()
    probe.eval()
    return history


def _kept(keep: Keep | None, epochs: int) -> str:
    """What is left when training stops after some finished epochs."""
    if keep is None:
        return "Nothing was kept; with an output folder (command line: --output DIR), the same command would continue."
    if not epochs:
        return "No epoch is finished, so the same command starts the training again."
    return f"The checkpoint of epoch {epochs} is kept, and the same command continues from there."


def _global_seed(protocol: Protocol, epoch: int) -> int:
    """Seed of PyTorch's global random numbers in an epoch, so that neither a resumed run nor the caller changes it."""
    return int(np.random.default_rng([_GLOBAL_STREAM, protocol.seed, epoch]).integers(2**63))


def _steps_per_epoch(samples: TrainingSamples) -> int:
    protocol = samples.protocol
    steps = items_per_epoch(protocol, samples.dataset) // protocol.batch_size
    if steps == 0:
        per_epoch = protocol.samples_per_epoch or len(samples.dataset)
        raise ProtocolError(f"an epoch of {per_epoch} samples is less than one batch of {protocol.batch_size}")
    return steps


def _validation_steps(protocol: Protocol) -> int:
    return -(-protocol.validation_samples // protocol.batch_size)


@dataclass(frozen=True, slots=True, eq=False)
class _Setup:
    """What the steps of a training share."""

    probe: Probe
    samples: TrainingSamples
    optimizer: torch.optim.Adam
    average: WeightAverage
    loader: BatchLoader
    cache: FeatureCache | None
    options: RunOptions


def _optimizer(probe: Probe, protocol: Protocol) -> torch.optim.Adam:
    return torch.optim.Adam(
        list(probe.trainable().parameters()),
        lr=protocol.learning_rate,
        betas=protocol.adam_betas,
        eps=protocol.adam_epsilon,
        # One kernel for all weights, which saves time only where launching kernels takes most of it.
        fused=True if probe.device.type == "cuda" else None,
    )


def _train_epoch(setup: _Setup, epoch: int, progress: Part) -> StepFigures:
    """One pass; returns the loss of each step and the IoU of each sample."""
    protocol, steps = setup.samples.protocol, _steps_per_epoch(setup.samples)
    images_at_once = min(setup.options.speed.images_at_once or protocol.batch_size, protocol.batch_size)
    batches = setup.loader.batches(setup.samples, epoch, steps)
    with StepFigures() as figures:
        for step, batch in enumerate(batches):
            place = f"step {step + 1} of {steps}"
            before = epoch * steps + step
            for group in setup.optimizer.param_groups:
                group["lr"] = learning_rate(protocol, epoch, before, protocol.epochs * steps)
            with during(place):
                compute = partial(_compute_gradients, setup, batch, epoch, step)
                logits, targets, loss = within_memory(compute, images_at_once, setup.probe.device)
                setup.optimizer.step()
                setup.average.update(before + 1)
            # Checked only after the next step, because the device has to be waited for; until the end of the epoch,
            # the weights are given up if a check fails.
            figures.add(place, logits, targets, loss)
            if figures.losses:
                recent = np.mean(figures.losses[-50:]), np.mean(figures.ious[-50 * len(targets) :])
                progress.advance(loss=f"{recent[0]:.3f}", IoU=f"{recent[1]:.3f}")
            else:
                progress.advance()
    return figures


def _compute_gradients(
    setup: _Setup, batch: Batch, epoch: int, step: int, images_at_once: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Add up the gradients of a batch; returns its logits, targets and loss."""
    protocol = setup.samples.protocol
    losses: list[Tensor] = []

    def backward(logits: Tensor, targets: Tensor) -> None:
        loss = normalized_focal_loss(logits, targets, alpha=protocol.loss_alpha, gamma=protocol.loss_gamma).mean()
        loss = loss * (len(logits) / len(batch.clicks))  # the mean over the batch, part by part
        torch.autograd.backward(loss)
        losses.append(loss.detach())

    setup.optimizer.zero_grad(set_to_none=True)
    logits, targets = predict_batch(
        setup.probe,
        batch,
        protocol,
        click_generator(protocol, 0, epoch, step),
        speed=replace(setup.options.speed, images_at_once=images_at_once),
        cache=setup.cache,
        backward=backward,
    )
    return logits, targets, torch.stack(losses).sum()


def validate(
    probe: Probe,
    samples: TrainingSamples,
    cache: FeatureCache | None = None,
    options: RunOptions | None = None,
    loader: BatchLoader | None = None,
    progress: Part | None = None,
) -> float:
    """Mean IoU over the protocol's validation samples: the same samples after every epoch.

    Args:
        probe: The network.
        samples: Validation samples.
        cache: Backbone features on disk.
        options: Speed, worker processes and progress bars.
        loader: A loader with these samples among its sources; None starts new workers.
        progress: Progress of the training; None shows the validation's own.
    """
    options = options or RunOptions()
    protocol = samples.protocol
    steps = _validation_steps(protocol)
    loader = loader or BatchLoader([samples], options.workers, probe.device)
    batches = loader.batches(samples, 0, steps)
    shown = options.progress_of("validation", steps) if progress is None else nullcontext(progress)
    with torch.no_grad(), shown as part, StepFigures() as figures:
        for step, batch in enumerate(batches):
            place = f"validation, step {step + 1} of {steps}"
            rng = click_generator(protocol, 1, 0, step)
            with during(place):
                logits, targets = predict_batch(
                    probe, batch, protocol, rng, training=False, speed=options.speed, cache=cache
                )
            figures.add(place, logits, targets)
            part.advance()
    return float(np.mean(figures.ious[: protocol.validation_samples]))


def predict_batch(
    probe: Probe,
    batch: Batch,
    protocol: Protocol,
    rng: np.random.Generator,
    *,
    training: bool = True,
    speed: Speed | None = None,
    cache: FeatureCache | None = None,
    backward: Callable[[Tensor, Tensor], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """Predict a batch after a random number of iterative clicks.

    Args:
        probe: The network.
        batch: Images, targets, first clicks.
        protocol: For the clicks.
        rng: Source of randomness of the iterative clicks.
        training: Whether the last prediction is made in training mode.
        speed: See :func:`train`.
        cache: Backbone features on disk.
        backward: Called with the logits and targets of each pass of the network, before the next pass begins, so that
            it can free the memory of the pass. The returned logits have no gradient then.

    Returns:
        Logits and targets, both B×1×H×W.
    """
    speed = speed or Speed()
    images, targets = (tensor.to(probe.device, non_blocking=True) for tensor in (batch.images, batch.targets))
    network = network_for(probe, speed, cache)  # made anew, because the weights have changed
    passes = _Passes(network, images, speed)
    previous = torch.zeros_like(targets)
    clicks = batch.clicks
    probe.eval()
    for step in range(1, int(rng.integers(protocol.max_iterative_clicks + 1)) + 1):
        with torch.no_grad():
            parts = [part for _, part in passes.logits(_click_map(clicks, previous, protocol))]
        previous = torch.sigmoid(_joined(parts))
        clicks = _more_clicks(clicks, targets, previous, protocol, step, rng)
    probe.train(training)
    found = []
    for rows, logits in passes.logits(_click_map(clicks, previous, protocol), are_last=True):
        if backward is not None:
            backward(logits, targets[rows])
            logits = logits.detach()
        found.append(logits)
    return _joined(found), targets


class _Passes:
    """A batch in one or more passes of the network.

    In one pass, a batch is encoded once for all its predictions. In several, each pass encodes its images again, so
    that only those of one pass take memory.

    Args:
        network: The network.
        images: B×3×H×W.
        speed: Precision, and images in one pass.
    """

    def __init__(self, network: Network, images: Tensor, speed: Speed) -> None:
        self._network = network
        self._images = images
        self._precision = speed.precision
        size = min(speed.images_at_once or len(images), len(images))
        self._parts = [slice(start, start + size) for start in range(0, len(images), size)]
        self._encoded = self._encode(self._parts[0]) if len(self._parts) == 1 else None

    def logits(self, maps: Tensor, *, are_last: bool = False) -> Iterator[tuple[slice, Tensor]]:
        """Images and float32 logits of each pass, under click maps B×3×H×W of the whole batch."""
        for rows in self._parts:
            yield rows, self._logits(rows, maps[rows], are_last)

    def _logits(self, rows: slice, maps: Tensor, are_last: bool) -> Tensor:
        encoded = self._encode(rows) if self._encoded is None else self._encoded
        if are_last:
            self._encoded = None  # the backward pass needs its memory
        with arithmetic(self._precision, self._network.device):
            return self._network.logits(encoded, maps).float()

    def _encode(self, rows: slice) -> Any:
        with arithmetic(self._precision, self._network.device):
            return self._network.encode(self._images[rows])


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _click_map(clicks: list[list[Click]], previous: Tensor, protocol: Protocol) -> Tensor:
    points = upload(points_tensor(clicks), previous.device)
    return click_maps(points, previous, protocol.disk_radius)


def _more_clicks(
    clicks: list[list[Click]],
    targets: Tensor,
    previous: Tensor,
    protocol: Protocol,
    step: int,
    rng: np.random.Generator,
) -> list[list[Click]]:
    """Clicks per image with one more each, on an error of the previous prediction."""
    added = next_training_clicks(targets[:, 0], previous[:, 0], rng, protocol.training_threshold)
    return [
        so_far if new is None else add_click(so_far, new, protocol.max_first_clicks, step)
        for so_far, new in zip(clicks, added, strict=True)
    ]


def batch_iou(logits: Tensor, targets: Tensor) -> list[float]:
    """IoU of each image at probability 0.5; images without object in both count as 1."""
    shared, union = overlap(logits, targets)
    return [float(s / u) if u else 1.0 for s, u in zip(shared.tolist(), union.tolist(), strict=True)]


def click_generator(protocol: Protocol, purpose: int, epoch: int, step: int) -> np.random.Generator:
    """Generator of a step's iterative clicks; ``purpose`` 0 training, 1 validation."""
    return np.random.default_rng([_CLICK_STREAM, purpose, protocol.seed, epoch, step])
