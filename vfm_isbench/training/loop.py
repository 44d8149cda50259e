"""The training loop (protocol section 2)."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from vfm_isbench.acceleration.feature_cache import FeatureCache, open_feature_cache, reporting
from vfm_isbench.acceleration.speed import RunOptions, tf32
from vfm_isbench.errors import ProtocolError, RunError, Terminated
from vfm_isbench.probe import Probe
from vfm_isbench.probe.guarded import during
from vfm_isbench.probe.torch_state import benchmark_settings, current_device, own_random_numbers, repeatable_gradients
from vfm_isbench.progress import Part
from vfm_isbench.protocol import Protocol
from vfm_isbench.training.averaging import WeightAverage
from vfm_isbench.training.checkpoint import Checkpoint, capture, check_finite
from vfm_isbench.training.figures import StepFigures
from vfm_isbench.training.loader import BatchLoader
from vfm_isbench.training.loss import normalized_focal_loss
from vfm_isbench.training.memory import within_memory
from vfm_isbench.training.prediction import click_generator, predict_batch
from vfm_isbench.training.records import EpochRecord
from vfm_isbench.training.samples import Batch, TrainingSamples, items_per_epoch
from vfm_isbench.training.unfinished import Keep, Keeper, UnfinishedEpoch

_GLOBAL_STREAM = 4
"""First word of the seeds of PyTorch's global random numbers, which only modules of others draw from."""


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
    """Train click encoder and head, and whatever else of the probe the protocol trains.

    Args:
        probe: Assembled network on its device; changed in place.
        samples: Training samples, which also hold the protocol.
        validation: Validation samples, or None.
        start: Checkpoint to continue from; the outcome equals that of an uninterrupted run.
        keep: Called after every epoch, and inside an epoch every ``options.checkpoint_minutes``, or when a signal asks
            the training to stop.
        options: Speed, worker processes, progress bars, signals.

    Returns:
        One record per epoch, those of ``start`` included.

    Raises:
        ProtocolError: if an epoch has fewer samples than one batch.
        UpsamplerError: if the upsampler fails in some step.
        OutOfMemoryError: if a step does not fit into memory; it names the setting to continue with.
        NonFiniteError: if a loss, a prediction or the trained weights become NaN or infinite. As with every error,
            ``keep`` has then been given the last checkpoint that was due.
        RunError: if ``start`` does not fit the network or the protocol.
    """
    options = options or RunOptions()
    protocol = samples.protocol
    _steps_per_epoch(samples)
    optimizer = _optimizer(probe, protocol)
    history: tuple[EpochRecord, ...] = ()
    unfinished = None
    if start is not None:
        start.restore(probe.trainable(), optimizer)
        history, unfinished = start.history, start.unfinished
    average = WeightAverage(probe.trainable(), protocol.average_decay, None if start is None else start.tensors)
    cache = open_feature_cache(probe, options.speed.feature_cache, training=True)
    sources = [samples, validation] if validation is not None else [samples]
    done = 0 if unfinished is None else unfinished.steps
    keeper = Keeper(keep, options.checkpoint_minutes, len(history), done)
    per_epoch = _steps_per_epoch(samples) + (_validation_steps(protocol) if validation is not None else 0)
    # TF32 also concerns the backward pass.
    with (
        tf32(options.speed.precision == "tf32"),
        current_device(probe.device),
        own_random_numbers(),
        repeatable_gradients(probe.device),
        closing(BatchLoader(sources, options.workers, probe.device)) as loader,
        options.progress_of("training", (protocol.epochs - len(history)) * per_epoch - done) as progress,
        reporting(cache),
        options.stop.held_back(),
    ):
        setup = _Setup(probe, samples, validation, optimizer, average, loader, cache, options, keeper, progress)
        for number in range(len(history), protocol.epochs):
            place = f"training with upsampler {probe.upsampler.name!r}, epoch {number + 1} of {protocol.epochs}"
            with during(place, keeper.says):
                progress.say(f"epoch {number + 1}/{protocol.epochs}")
                epoch = _Epoch(setup, number, history, unfinished)
                epoch.train()
                record, tensors = epoch.finish()
                history, unfinished = (*history, record), None
                keeper.keep(history, tensors)
    average.finish()
    probe.eval()
    return history


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
    """What the epochs of a training share."""

    probe: Probe
    samples: TrainingSamples
    validation: TrainingSamples | None
    optimizer: torch.optim.Adam
    average: WeightAverage
    loader: BatchLoader
    cache: FeatureCache | None
    options: RunOptions
    keeper: Keeper
    progress: Part

    def tensors(self) -> dict[str, Tensor]:
        """Tensors of a checkpoint, whose weights are averages if the protocol has any.

        Raises:
            NonFiniteError: if one of them is NaN or infinite.
        """
        with self.average.in_place():
            found = capture(self.probe.trainable(), self.optimizer)
        found |= self.average.unaveraged()
        check_finite(found)
        return found


def _optimizer(probe: Probe, protocol: Protocol) -> torch.optim.Adam:
    """Adam over everything that is trained; the groups' "share" says how much of the learning rate they get."""
    parts = probe.trainable()
    new = [weight for name, part in parts.items() if name not in probe.trained_parts for weight in part.parameters()]
    given = [weight for name, part in parts.items() if name in probe.trained_parts for weight in part.parameters()]
    tuned = [{"params": given, "share": protocol.fine_tuning_rate}] if given else []
    return torch.optim.Adam(
        [{"params": new, "share": 1.0}, *tuned],
        lr=protocol.learning_rate,
        betas=protocol.adam_betas,
        eps=protocol.adam_epsilon,
        # One kernel for all weights, which saves time only where launching kernels takes most of it.
        fused=True if probe.device.type == "cuda" else None,
    )


class _Epoch:
    """One pass over the samples, and the validation after it.

    Args:
        setup: What the epochs share.
        number: Its number, from 0.
        history: Records of the epochs before it.
        unfinished: How far an interrupted training had come in it; None starts it.
    """

    def __init__(
        self, setup: _Setup, number: int, history: tuple[EpochRecord, ...], unfinished: UnfinishedEpoch | None
    ) -> None:
        self._setup = setup
        self._number = number
        self._history = history
        self._steps = _steps_per_epoch(setup.samples)
        self._began = time.perf_counter()
        self._figures = StepFigures()
        torch.manual_seed(_global_seed(setup.samples.protocol, number))
        if unfinished is not None:
            if unfinished.steps > self._steps:
                raise RunError(
                    f"the checkpoint has {unfinished.steps} steps of an epoch that has {self._steps}: it belongs to "
                    "other data. Choose another output folder, or overwrite=True (command line: --overwrite)"
                )
            self._began -= unfinished.seconds
            self._figures = StepFigures(unfinished.losses, unfinished.ious)
            unfinished.restore_random_numbers(setup.probe.device)

    def train(self) -> None:
        """Take the steps that are left."""
        setup, figures, protocol = self._setup, self._figures, self._setup.samples.protocol
        images_at_once = min(setup.options.speed.images_at_once or protocol.batch_size, protocol.batch_size)
        first = len(figures.losses)
        with figures:
            for step, batch in enumerate(setup.loader.batches(setup.samples, self._number, self._steps, first), first):
                place = f"step {step + 1} of {self._steps}"
                before = self._number * self._steps + step
                rate = learning_rate(protocol, self._number, before, protocol.epochs * self._steps)
                for group in setup.optimizer.param_groups:
                    group["lr"] = rate * group["share"]
                with during(place):
                    compute = partial(_compute_gradients, setup, batch, self._number, step)
                    logits, targets, loss = within_memory(compute, images_at_once, setup.probe.device)
                    setup.optimizer.step()
                    setup.average.update(before + 1)
                # Checked only after the next step, because the device has to be waited for; until the next checkpoint,
                # the weights are given up if a check fails.
                figures.add(place, logits, targets, loss)
                self._show(len(targets))
                if setup.keeper.is_due or setup.options.stop.is_wanted:
                    self._keep_unfinished(self._unfinished())
                setup.options.stop.stop_here()

    def finish(self) -> tuple[EpochRecord, dict[str, Tensor]]:
        """Validate; returns the epoch's record and the tensors of its checkpoint."""
        setup = self._setup
        validation_iou = None
        if setup.validation is not None and setup.samples.protocol.validation_samples:
            before = self._unfinished() if setup.keeper.is_keeping else {}
            try:
                with setup.average.in_place():
                    validation_iou = validate(
                        setup.probe, setup.validation, setup.cache, setup.options, setup.loader, setup.progress
                    )
            except (KeyboardInterrupt, Terminated):
                self._keep_unfinished(before)
                raise
        tensors = setup.tensors()
        loss, iou = float(np.mean(self._figures.losses)), float(np.mean(self._figures.ious))
        return EpochRecord(self._number, loss, iou, validation_iou, time.perf_counter() - self._began), tensors

    def _unfinished(self) -> dict[str, Tensor]:
        """Tensors of a checkpoint after the steps so far."""
        figures = self._figures
        figures.read()
        seconds = time.perf_counter() - self._began
        epoch = UnfinishedEpoch.now(figures.losses, figures.ious, seconds, self._setup.probe.device)
        return self._setup.tensors() | epoch.tensors()

    def _keep_unfinished(self, tensors: Mapping[str, Tensor]) -> None:
        self._setup.keeper.keep(self._history, tensors, len(self._figures.losses))

    def _show(self, images: int) -> None:
        figures = self._figures
        if figures.losses:
            recent = np.mean(figures.losses[-50:]), np.mean(figures.ious[-50 * images :])
            self._setup.progress.advance(loss=f"{recent[0]:.3f}", IoU=f"{recent[1]:.3f}")
        else:
            self._setup.progress.advance()


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
    shown = options.progress_of("validation", steps) if progress is None else nullcontext(progress)
    with torch.no_grad(), shown as part, StepFigures() as figures:
        for step, batch in enumerate(loader.batches(samples, 0, steps)):
            place = f"validation, step {step + 1} of {steps}"
            rng = click_generator(protocol, 1, 0, step)
            with during(place):
                logits, targets = predict_batch(
                    probe, batch, protocol, rng, training=False, speed=options.speed, cache=cache
                )
            figures.add(place, logits, targets)
            part.advance()
            options.stop.stop_here()
    return float(np.mean(figures.ious[: protocol.validation_samples]))
