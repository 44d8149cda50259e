"""What the tests in ``tests/cuda`` share: probes that are trained a little, and when a device agrees with the CPU."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from small import SMALL, evaluated
from torch import nn

from vfm_isbench.acceleration.speed import RunOptions, Speed
from vfm_isbench.probe import Probe, build_probe
from vfm_isbench.protocol import Protocol
from vfm_isbench.testing.fakes import FakeBackbone, FakeDataset, FakeUpsampler
from vfm_isbench.training import Checkpoint, EpochRecord, TrainingSamples, train
from vfm_isbench.training.prediction import predict_batch
from vfm_isbench.training.samples import collate
from vfm_isbench.types import ObjectEvidence
from vfm_isbench.upsamplers import Upsampler, load_upsampler
from vfm_isbench.upsamplers.published.featup import FeatUpJBU
from vfm_isbench.upsamplers.published.lift import LiFT
from vfm_isbench.upsamplers.published.loftup import LoftUp

CHANNELS = 8
IMAGE_SIZE = 56
IOU_TOLERANCE = 0.01
"""Largest difference of an IoU between devices: a few of the objects' hundreds of pixels."""

OBJECTS_THAT_MAY_PART = 0.25
"""Share of objects whose clicks may differ, once a pixel at probability 0.5 has fallen to different sides."""

LEARNED: dict[str, Callable[[], nn.Module]] = {
    "lift": lambda: LiFT(CHANNELS),
    "featup": lambda: FeatUpJBU(CHANNELS),
    "loftup": lambda: LoftUp(CHANNELS),
    "two steps": lambda: FakeUpsampler(CHANNELS),
}
"""Upsamplers with weights, which are random."""


def upsampler_called(name: str) -> Upsampler:
    """A built-in upsampler, or one of :data:`LEARNED`, always with the same weights."""
    if name not in LEARNED:
        return load_upsampler(name).call
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LEARNED[name]()


def protocol_with(**changes: object) -> Protocol:
    """A protocol that trains for a second: enough for predictions that follow the clicks."""
    settings = {"image_size": IMAGE_SIZE, "epochs": 2, "samples_per_epoch": 8, "max_clicks": 5, "flip_test": True}
    return SMALL.replace(**(settings | changes))  # type: ignore[arg-type]


def new_probe(name: str, protocol: Protocol) -> Probe:
    """A probe on the CPU that is not trained."""
    return build_probe(protocol, FakeBackbone(CHANNELS), upsampler_called(name))


@lru_cache(maxsize=64)
def _trained(name: str, protocol: Protocol) -> Probe:
    probe = new_probe(name, protocol)
    trained(probe, protocol)
    _select_half(probe, protocol)
    return probe


@torch.no_grad()
def _select_half(probe: Probe, protocol: Protocol) -> None:
    """Shift the logits so that about half of the pixels are selected: after a second of training, often none is."""
    samples = TrainingSamples(FakeDataset(), protocol)
    batch = collate([samples[0, item] for item in range(4)])
    logits, _ = predict_batch(probe, batch, protocol, np.random.default_rng(0), training=False)
    last = [module for module in probe.head.modules() if isinstance(module, nn.Conv2d)][-1]
    assert last.bias is not None
    last.bias -= logits.median()


def trained_probe(name: str, protocol: Protocol, device: torch.device | str = "cpu") -> Probe:
    """A probe that was trained on the CPU, on a device."""
    return copy.deepcopy(_trained(name, protocol)).to(device).eval()


def trained(
    probe: Probe, protocol: Protocol, *, workers: int = 0, speed: Speed | None = None
) -> dict[str, torch.Tensor]:
    """Train a probe where it is; returns a copy of its weights."""
    samples = TrainingSamples(FakeDataset(), protocol)
    train(probe, samples, None, options=RunOptions(speed=speed or Speed(), workers=workers, progress=False))
    return weights_of(probe)


def weights_of(probe: Probe) -> dict[str, torch.Tensor]:
    """Copies of the trained weights, on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in probe.trainable().state_dict().items()}


def checkpoints(probe: Probe, protocol: Protocol, start: Checkpoint | None = None) -> Iterator[Checkpoint]:
    """Train a probe; its checkpoint after every epoch."""
    kept: list[Checkpoint] = []

    def keep(history: tuple[EpochRecord, ...], tensors: dict[str, torch.Tensor]) -> None:
        kept.append(Checkpoint(protocol, {"name": "test"}, history, tensors))

    samples = TrainingSamples(FakeDataset(), protocol)
    train(probe, samples, None, start=start, keep=keep, options=RunOptions(progress=False))  # type: ignore[arg-type]
    yield from kept


def evidence_of(probe: Probe, protocol: Protocol, speed: Speed | None = None) -> list[ObjectEvidence]:
    """Evidence on some objects of different images."""
    dataset = FakeDataset(images=4, instances=2, size=(90, 120), seed=1)
    return evaluated(probe, dataset, protocol, speed=speed)[0]


@dataclass(frozen=True)
class Agreement:
    """How far the evidence of two devices agrees.

    Attributes:
        parted: Objects that got different clicks at some point.
        unexplained: Objects of which the same predictions, to the last pixel, led to different clicks.
        iou_difference: Largest difference of an IoU as long as the clicks were the same.
    """

    parted: int
    unexplained: list[str]
    iou_difference: float


def agreement(one: Sequence[ObjectEvidence], other: Sequence[ObjectEvidence]) -> Agreement:
    """Compare evidence object by object, up to the first click that differs."""
    parted, unexplained, differences = 0, [], [0.0]
    for left, right in zip(one, other, strict=True):
        assert left.object_id == right.object_id
        same = 0
        while same < len(left.clicks) and left.clicks[same] == right.clicks[same]:
            same += 1
        so_far = [abs(a - b) for a, b in zip(left.ious[:same], right.ious[:same], strict=True)]
        differences += so_far
        if same < len(left.clicks):
            parted += 1
            if not so_far or so_far[-1] == 0:
                unexplained.append(str(left.object_id))
    return Agreement(parted, unexplained, max(differences))


def assert_agrees(one: Sequence[ObjectEvidence], other: Sequence[ObjectEvidence]) -> None:
    """Fail unless two devices agree within the tolerances above."""
    found = agreement(one, other)
    assert found.iou_difference <= IOU_TOLERANCE
    assert not found.unexplained
    assert found.parted <= OBJECTS_THAT_MAY_PART * len(one)
