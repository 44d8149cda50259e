"""How much memory a run would need, found out from one and two images, and whether it is there."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from vfm_isbench.acceleration.speed import RunOptions, tf32
from vfm_isbench.estimate.amounts import Holding
from vfm_isbench.estimate.photographs import StandInPhotographs
from vfm_isbench.estimate.timing import drawing
from vfm_isbench.probe import Probe, build_probe
from vfm_isbench.probe.build import widest
from vfm_isbench.probe.free_memory import free_bytes, require_memory
from vfm_isbench.probe.torch_state import benchmark_settings, current_device, own_random_numbers
from vfm_isbench.protocol import Protocol
from vfm_isbench.training import TrainingSamples, normalized_focal_loss
from vfm_isbench.training.prediction import predict_batch
from vfm_isbench.training.samples import collate
from vfm_isbench.upsamplers.costs import MemoryNeed, counted_memory

_COPIES = 50
"""Copies of a batch's upsampled features, or of a pyramid's fused levels if these have more channels, that a step
certainly stays below."""

_MOMENTS = 2
"""Copies of the trained weights that Adam keeps, and a counted step does not make."""


def images_in_a_pass(protocol: Protocol, options: RunOptions) -> int:
    """Images in one pass of the network in training."""
    return min(options.speed.images_at_once or protocol.batch_size, protocol.batch_size)


def require_memory_to_train(
    probe: Probe, training: Holding, protocol: Protocol, options: RunOptions, upsampler_bytes: int | None = None
) -> MemoryNeed | None:
    """Check that a training fits into memory, before the first step of it.

    Nothing is measured where it certainly fits, by a rough count, which holds for frozen backbones and upsamplers only.

    Args:
        probe: The probe on its device; it stays as it is.
        training: The training set.
        protocol: What is trained under.
        options: Images in one pass, and precision.
        upsampler_bytes: What a call of the upsampler needs by itself; None if unknown.

    Returns:
        What was measured; None if nothing was.

    Raises:
        OutOfMemoryError: if the training does not fit; the message says what would.
    """
    images, free = images_in_a_pass(protocol, options), free_bytes(probe.device)
    if free is None:
        return None
    channels = max(probe.backbone.channels, widest(protocol))
    features = 4 * images * channels * protocol.image_size**2
    if not protocol.trained_parts and _COPIES * features + 4 * (upsampler_bytes or 0) < free:
        return None
    need = training_memory(probe, training, protocol, options)
    require_memory(need, images, probe.device, "the training")
    return need


@benchmark_settings()
def training_memory(probe: Probe, training: Holding, protocol: Protocol, options: RunOptions) -> MemoryNeed | None:
    """Memory that a training step makes use of, by the images in one pass of the network.

    Steps with one and with two images are made, on a copy of what is trained. The weights of the network are in memory
    already and not counted.

    Returns:
        None if such a step fails; the training will say why.
    """
    copy = build_probe(protocol, probe.backbone, probe.upsampler).to(probe.device)
    samples = TrainingSamples(training.dataset or StandInPhotographs(training.image_size), protocol, training.weights)
    two = [samples[0, item] for item in range(2)]
    speed = replace(options.speed, images_at_once=None, feature_cache=None)

    def backward(logits: Tensor, targets: Tensor) -> None:
        loss = normalized_focal_loss(logits, targets, alpha=protocol.loss_alpha, gamma=protocol.loss_gamma)
        torch.autograd.backward(loss.mean())

    def bytes_of(images: int) -> int:
        copy.zero_grad(set_to_none=True)
        batch, clicks = collate(two[:images]), drawing(0, protocol.max_iterative_clicks)
        with counted_memory(copy.device) as peak:
            predict_batch(copy, batch, protocol, clicks, speed=speed, backward=backward)
        trained = (weight for weight in copy.trainable().parameters() if weight.grad is not None)
        return peak.n_bytes + _MOMENTS * sum(weight.nbytes for weight in trained)

    with tf32(speed.precision == "tf32"), current_device(probe.device), own_random_numbers():
        return MemoryNeed.measured(bytes_of)
