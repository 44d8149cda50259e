"""Trains a linear layer on frozen, upsampled features, and counts what it gets right."""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vfm_isbench.acceleration.cached_probe import CachedProbe
from vfm_isbench.backbones import Backbone
from vfm_isbench.errors import NonFiniteError
from vfm_isbench.probe import Probe
from vfm_isbench.probe.guarded import during
from vfm_isbench.probe.torch_state import own_random_numbers, repeatable_gradients
from vfm_isbench.progress import RunProgress
from vfm_isbench.semantic.confusion import IGNORED, confusion, mean_iou
from vfm_isbench.semantic.data import SemanticDataset
from vfm_isbench.semantic.feature_measures import boundary_sharpness, pooled_agreement
from vfm_isbench.semantic.result import ImageCounts
from vfm_isbench.semantic.samples import Batch, Samples
from vfm_isbench.semantic.settings import SemanticSettings
from vfm_isbench.types import Array
from vfm_isbench.upsamplers import LoadedUpsampler

_ORDER_STREAM = 5
"""First word of the seeds of the order of images."""


def build_linear_probe(
    backbone: Backbone, upsampler: LoadedUpsampler, classes: int, settings: SemanticSettings
) -> Probe:
    """The frozen part of the benchmark's probe, with one 1×1 convolution as its head, and no click encoder."""
    with own_random_numbers():
        torch.manual_seed(settings.seed)
        head = nn.Conv2d(backbone.channels, classes, 1)
    return Probe(backbone, upsampler, nn.Identity(), head, injection="late", align_corners=settings.align_corners)


def train_linear(
    probe: Probe, dataset: SemanticDataset, settings: SemanticSettings, progress: RunProgress
) -> tuple[float, ...]:
    """Train the head by cross-entropy over the pixels that count.

    Args:
        probe: From :func:`build_linear_probe`, on its device; changed in place.
        dataset: Training images.
        settings: Epochs, batch size, learning rate, seed.
        progress: Shows the loss and the time left.

    Returns:
        The mean loss of each epoch.

    Raises:
        NonFiniteError: if the loss becomes NaN or infinite.
    """
    images = dataset.image_ids[: settings.limit]
    samples = Samples(dataset, probe, settings.image_size)
    per_epoch = math.ceil(len(images) / settings.batch_size)
    optimizer = torch.optim.Adam(probe.head.parameters(), lr=settings.learning_rate)
    losses = []
    with progress.part("training", settings.epochs * per_epoch) as part, repeatable_gradients(probe.device):
        for epoch in range(settings.epochs):
            part.say(f"epoch {epoch + 1}/{settings.epochs}")
            order = np.random.default_rng([_ORDER_STREAM, settings.seed, epoch]).permutation(len(images))
            total = 0.0
            for step in range(per_epoch):
                chosen = [images[at] for at in order[step * settings.batch_size : (step + 1) * settings.batch_size]]
                done = (epoch * per_epoch + step) / (settings.epochs * per_epoch)
                for group in optimizer.param_groups:
                    group["lr"] = settings.learning_rate * (1 + math.cos(math.pi * done)) / 2
                with during(f"training, epoch {epoch + 1}, step {step + 1} of {per_epoch}"):
                    loss = _step(probe, samples.batch(chosen), optimizer)
                total += loss * len(chosen)
                part.advance(loss=f"{loss:.3f}")
            losses.append(total / len(images))
    return tuple(losses)


def _step(probe: Probe, batch: Batch, optimizer: torch.optim.Adam) -> float:
    features, labels = _upsampled(probe, batch), batch.labels
    with torch.enable_grad():
        logits = probe.resize(probe.head(features), labels.shape[-2:])
        summed = functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
        # A batch may consist of pixels that do not count.
        loss = summed / max(1, int((labels != IGNORED).sum()))
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
    optimizer.step()
    value = float(loss.detach())
    if not math.isfinite(value):
        raise NonFiniteError(
            f"the loss is {value}. Most likely the upsampler returned NaN, infinite or very large values: look for "
            "divisions by zero and overflow in it"
        )
    return value


@torch.no_grad()
def count_pixels(
    probe: Probe, dataset: SemanticDataset, settings: SemanticSettings, progress: RunProgress
) -> tuple[ImageCounts, ...]:
    """Predict every test image; count its pixels, and measure its features."""
    images = dataset.image_ids[: settings.limit]
    samples = Samples(dataset, probe, settings.image_size, kept_bytes=0)
    classes = cast(nn.Conv2d, probe.head).out_channels
    found = []
    total = np.zeros((classes, classes), np.int64)
    with progress.part("testing", len(images)) as part:
        for image_id in images:
            with during(f"image {image_id!r}"):
                batch = samples.batch([image_id])
                features, labels = _upsampled(probe, batch), batch.labels
                logits = probe.resize(probe.head(features), labels.shape[-2:])
            counts = confusion(_array(labels[0]), _array(logits[0].argmax(dim=0)), classes)
            total += counts
            large = probe.resize(features, labels.shape[-2:])[0]
            found.append(
                ImageCounts(
                    image_id=image_id,
                    counts=counts,
                    sharpness=boundary_sharpness(large, labels[0]),
                    agreement=pooled_agreement(large, batch.small[0]),
                )
            )
            part.advance(mIoU=f"{100 * float(mean_iou(total)):.1f}")
    return tuple(found)


def _upsampled(probe: Probe, batch: Batch) -> Tensor:
    """Features as the head gets them, without gradients."""
    with torch.no_grad():
        features = CachedProbe(probe).encode(batch.pixels, batch.small).features
    assert features is not None, "with late injection, features do not depend on clicks"
    return features


def _array(tensor: Tensor) -> Array:
    array: Array = tensor.cpu().numpy()
    return array
