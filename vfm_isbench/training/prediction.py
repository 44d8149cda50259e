"""Predictions of a training step: a batch after a random number of iterative clicks (protocol section 2.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vfm_isbench.acceleration.cached_probe import Network, network_for
from vfm_isbench.acceleration.feature_cache import FeatureCache
from vfm_isbench.acceleration.speed import Speed, arithmetic
from vfm_isbench.acceleration.transfers import upload
from vfm_isbench.clicks import add_click, click_maps, next_training_clicks, points_tensor
from vfm_isbench.probe import Probe
from vfm_isbench.protocol import Protocol
from vfm_isbench.training.figures import overlap
from vfm_isbench.training.samples import Batch
from vfm_isbench.types import Click

_CLICK_STREAM = 2
"""First word of the seeds of iterative clicks; the samples use 0 and 1, the order of images 3."""


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
            parts = [part for _, part in passes.logits(_click_map(clicks, previous, batch, protocol))]
        previous = torch.sigmoid(_joined(parts))
        clicks = _more_clicks(clicks, targets, previous, protocol, step, rng)
    probe.train(training)
    found = []
    for rows, logits in passes.logits(_click_map(clicks, previous, batch, protocol), are_last=True):
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
        """Images and float32 logits of each pass, under the click maps of the whole batch."""
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


def _click_map(clicks: list[list[Click]], previous: Tensor, batch: Batch, protocol: Protocol) -> Tensor:
    points = upload(points_tensor(clicks), previous.device)
    granularities = None if protocol.granularity == "none" else batch.granularities
    return click_maps(points, previous, protocol.disk_radius, granularities)


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
