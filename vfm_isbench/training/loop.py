"""The training loop (protocol section 2)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from vfm_isbench.acceleration.cached_probe import network_for
from vfm_isbench.acceleration.feature_cache import FeatureCache, open_feature_cache
from vfm_isbench.acceleration.speed import RunOptions, Speed, arithmetic, tf32
from vfm_isbench.clicks import add_click, click_maps, next_training_click, points_tensor
from vfm_isbench.errors import ProtocolError
from vfm_isbench.probe import Probe
from vfm_isbench.probe.finite import check_finite_loss, finite_logits
from vfm_isbench.probe.guarded import during
from vfm_isbench.probe.torch_state import benchmark_settings, current_device, own_random_numbers
from vfm_isbench.protocol import Protocol
from vfm_isbench.training.checkpoint import Checkpoint, EpochRecord, capture, check_finite
from vfm_isbench.training.loss import normalized_focal_loss
from vfm_isbench.training.samples import Batch, TrainingSamples, collate, items_per_epoch
from vfm_isbench.types import Click

_CLICK_STREAM = 2
"""First word of the seeds of iterative clicks; the samples use 0 and 1, the order of images 3."""

_GLOBAL_STREAM = 4
"""First word of the seeds of PyTorch's global random numbers, which only modules of others draw from."""

Keep: TypeAlias = Callable[[tuple[EpochRecord, ...], Mapping[str, Tensor]], None]
"""Called after every epoch with the records so far and the tensors of a :class:`Checkpoint`."""


def learning_rate(protocol: Protocol, epoch: int, step: int) -> float:
    """Learning rate in a step, counted from 0 over the whole training."""
    passed = sum(epoch >= milestone for milestone in protocol.milestones)
    warmup = min(1.0, (step + 1) / protocol.warmup_steps) if protocol.warmup_steps else 1.0
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
        NonFiniteError: if a loss, a prediction or the trained weights become NaN or infinite. As with every error,
            ``keep`` has then been given the last epoch that was finished.
    """
    options = options or RunOptions()
    protocol = samples.protocol
    _steps_per_epoch(samples)
    optimizer = torch.optim.Adam(
        list(probe.trainable().parameters()),
        lr=protocol.learning_rate,
        betas=protocol.adam_betas,
        eps=protocol.adam_epsilon,
    )
    history: tuple[EpochRecord, ...] = ()
    if start is not None:
        start.restore(probe.trainable(), optimizer)
        history = start.history
    cache = open_feature_cache(probe, options.speed.feature_cache)
    # TF32 also concerns the backward pass.
    with tf32(options.speed.precision == "tf32"), current_device(probe.device), own_random_numbers():
        for epoch in range(len(history), protocol.epochs):
            place = f"training with upsampler {probe.upsampler.name!r}, epoch {epoch + 1} of {protocol.epochs}"
            with during(place, _kept(keep, epoch)):
                began = time.perf_counter()
                torch.manual_seed(_global_seed(protocol, epoch))
                losses, ious = _train_epoch(probe, samples, optimizer, epoch, cache, options)
                validation_iou = None
                if validation is not None and protocol.validation_samples:
                    validation_iou = validate(probe, validation, cache, options)
                seconds = time.perf_counter() - began
                record = EpochRecord(epoch, float(np.mean(losses)), float(np.mean(ious)), validation_iou, seconds)
                history = (*history, record)
                tensors = capture(probe.trainable(), optimizer)
                check_finite(tensors)
                if keep is not None:
                    keep(history, tensors)
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


def _train_epoch(
    probe: Probe,
    samples: TrainingSamples,
    optimizer: torch.optim.Adam,
    epoch: int,
    cache: FeatureCache | None,
    options: RunOptions,
) -> tuple[list[float], list[float]]:
    """One pass; returns the loss of each step and the IoU of each sample."""
    protocol, steps = samples.protocol, _steps_per_epoch(samples)
    losses: list[float] = []
    ious: list[float] = []
    batches = _loader(samples, epoch, steps, options.workers, probe.device)
    title = f"epoch {epoch + 1}/{protocol.epochs}"
    with tqdm(batches, total=steps, desc=title, disable=not options.progress) as bar:
        for step, batch in enumerate(bar):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(protocol, epoch, epoch * steps + step)
            rng = click_generator(protocol, 0, epoch, step)
            with during(f"step {step + 1} of {steps}"):
                logits, targets = predict_batch(probe, batch, protocol, rng, speed=options.speed, cache=cache)
                loss = normalized_focal_loss(
                    logits, targets, alpha=protocol.loss_alpha, gamma=protocol.loss_gamma
                ).mean()
                optimizer.zero_grad(set_to_none=True)
                torch.autograd.backward(loss)
                optimizer.step()
                # Only now, because CUDA devices have to be waited for; the weights are given up if the check fails.
                losses.append(loss.item())
                finite_logits(logits)
                check_finite_loss(losses[-1])
            ious += batch_iou(logits, targets)
            bar.set_postfix(loss=f"{np.mean(losses[-50:]):.3f}", IoU=f"{np.mean(ious[-50 * len(targets) :]):.3f}")
    return losses, ious


def validate(
    probe: Probe, samples: TrainingSamples, cache: FeatureCache | None = None, options: RunOptions | None = None
) -> float:
    """Mean IoU over the protocol's validation samples: the same samples after every epoch."""
    options = options or RunOptions()
    protocol = samples.protocol
    steps = -(-protocol.validation_samples // protocol.batch_size)
    ious: list[float] = []
    batches = _loader(samples, 0, steps, options.workers, probe.device)
    bar = tqdm(batches, total=steps, desc="validation", leave=False, disable=not options.progress)
    with torch.no_grad(), bar:
        for step, batch in enumerate(bar):
            rng = click_generator(protocol, 1, 0, step)
            with during(f"validation, step {step + 1} of {steps}"):
                logits, targets = predict_batch(
                    probe, batch, protocol, rng, training=False, speed=options.speed, cache=cache
                )
                ious += batch_iou(finite_logits(logits), targets)
    return float(np.mean(ious[: protocol.validation_samples]))


def predict_batch(
    probe: Probe,
    batch: Batch,
    protocol: Protocol,
    rng: np.random.Generator,
    *,
    training: bool = True,
    speed: Speed | None = None,
    cache: FeatureCache | None = None,
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

    Returns:
        Logits and targets, both B×1×H×W.
    """
    speed = speed or Speed()
    images, targets = (tensor.to(probe.device, non_blocking=True) for tensor in (batch.images, batch.targets))
    network = network_for(probe, speed, cache)  # made anew, because the weights have changed
    previous = torch.zeros_like(targets)
    clicks = batch.clicks
    with arithmetic(speed.precision, probe.device):
        encoded = network.encode(images)
        probe.eval()
        for step in range(1, int(rng.integers(protocol.max_iterative_clicks + 1)) + 1):
            with torch.no_grad():
                logits = network.logits(encoded, _click_map(clicks, previous, protocol))
            previous = torch.sigmoid(logits.float())
            clicks = _more_clicks(clicks, batch, previous, protocol, step, rng)
        probe.train(training)
        logits = network.logits(encoded, _click_map(clicks, previous, protocol))
    return logits.float(), targets


def _click_map(clicks: list[list[Click]], previous: Tensor, protocol: Protocol) -> Tensor:
    return click_maps(points_tensor(clicks).to(previous.device), previous, protocol.disk_radius)


def _more_clicks(
    clicks: list[list[Click]], batch: Batch, previous: Tensor, protocol: Protocol, step: int, rng: np.random.Generator
) -> list[list[Click]]:
    """Clicks per image with one more each, on an error of the previous prediction."""
    probabilities = previous[:, 0].cpu().numpy()
    targets = batch.targets[:, 0].numpy() > 0.5
    more = []
    for so_far, target, probability in zip(clicks, targets, probabilities, strict=True):
        new = next_training_click(target, probability, rng, protocol.training_threshold)
        more.append(so_far if new is None else add_click(so_far, new, protocol.max_first_clicks, step))
    return more


def batch_iou(logits: Tensor, targets: Tensor) -> list[float]:
    """IoU of each image at probability 0.5; images without object in both count as 1."""
    predicted, wanted = logits > 0, targets > 0.5
    shared = (predicted & wanted).sum(dim=(1, 2, 3))
    union = (predicted | wanted).sum(dim=(1, 2, 3))
    return [float(s / u) if u else 1.0 for s, u in zip(shared.tolist(), union.tolist(), strict=True)]


def click_generator(protocol: Protocol, purpose: int, epoch: int, step: int) -> np.random.Generator:
    """Generator of a step's iterative clicks; ``purpose`` 0 training, 1 validation."""
    return np.random.default_rng([_CLICK_STREAM, purpose, protocol.seed, epoch, step])


def _loader(samples: TrainingSamples, epoch: int, steps: int, workers: int, device: torch.device) -> Iterable[Batch]:
    keys = [(epoch, item) for item in range(steps * samples.protocol.batch_size)]
    return DataLoader(
        samples,
        batch_size=samples.protocol.batch_size,
        sampler=keys,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),  # otherwise every loader draws a number from the global generator
    )
