"""What each preset takes: images, objects, clicks, and products of numbers, counted and not timed.

    python benchmarks/budgets/accounting.py --protocols quick lite paper

Counts the floating-point operations (a product and a sum are two) of one training image and of one click, with random
weights, on a stand-in photograph, and multiplies. Convolutions are counted as PyTorch's own, without Winograd's
filtering, as CUDA devices get them. The numbers are those of docs/decisions/0025-quick-and-lite.md.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from vfm_isbench import Protocol, Speed
from vfm_isbench.acceleration.cached_probe import network_for
from vfm_isbench.backbones import load_backbone
from vfm_isbench.estimate.amounts import amounts_of
from vfm_isbench.estimate.estimate import CROPS_PER_OBJECT
from vfm_isbench.estimate.photographs import StandInPhotographs
from vfm_isbench.evaluation import ClickedObject, evaluate_objects
from vfm_isbench.evaluation.predictor import ImageCrops
from vfm_isbench.probe import Probe, build_probe
from vfm_isbench.probe.preparation import follow_protocol
from vfm_isbench.training import TrainingSamples
from vfm_isbench.training.prediction import predict_batch
from vfm_isbench.training.samples import collate
from vfm_isbench.upsamplers import load_upsampler
from vfm_isbench.upsamplers.published.pretrained import without_weights

WITHOUT_EFFECT: dict[str, Any] = {
    "epochs": 1,
    "samples_per_epoch": 8,
    "validation_samples": 0,
    "learning_rate": 1.0,
    "warmup_steps": 0,
    "milestones": (),
    "test_datasets": ("sbd",),
}
"""Fields that do not change what a single piece takes."""

SPEED = Speed(winograd_channels=10**9, objects_at_once=1, clicks_on_device=False)


@dataclass(frozen=True)
class Work:
    """Floating-point operations of single pieces: an image of training, a click, an encoded crop."""

    image: float
    click: float
    crop: float


def flops(work: Callable[[], object]) -> float:
    """Floating-point operations of products and convolutions."""
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def work_of(protocol: Protocol, upsampler: str) -> Work:
    """Count the pieces of a protocol with an upsampler."""
    backbone = load_backbone(protocol.backbone, protocol.image_size, pretrained=False)
    loaded = load_upsampler(without_weights(upsampler, backbone.channels) or upsampler)
    loaded, protocol, _ = follow_protocol(loaded, protocol)
    probe = build_probe(protocol, backbone, loaded)
    photographs = StandInPhotographs((375, 500))
    return Work(_training_image(probe, photographs, protocol), *_click_and_crop(probe, photographs, protocol))


def _training_image(probe: Probe, photographs: StandInPhotographs, protocol: Protocol) -> float:
    batch = collate([TrainingSamples(photographs, protocol)[0, 0]])
    most = protocol.max_iterative_clicks

    def backward(logits: Tensor, _targets: Tensor) -> None:
        torch.autograd.backward(logits.square().mean())

    def step(clicks: int) -> float:
        rng = next(
            np.random.default_rng(seed)
            for seed in range(1000)
            if int(np.random.default_rng(seed).integers(most + 1)) == clicks
        )
        return flops(lambda: predict_batch(probe, batch, protocol, rng, speed=SPEED, backward=backward))

    return (step(0) + step(most)) / 2


def _click_and_crop(probe: Probe, photographs: StandInPhotographs, protocol: Protocol) -> tuple[float, float]:
    sample = photographs.read(photographs.image_ids[0])
    whole = protocol.replace(zoom_in=False)
    network = network_for(probe.eval(), SPEED, None)

    def click(clicks: int) -> float:
        object_ = ClickedObject(ImageCrops(network, sample.image, whole), sample.object_mask(1))
        return flops(lambda: evaluate_objects(network, [object_], whole.replace(max_clicks=clicks), speed=SPEED))

    one, two = click(1), click(2)
    return two - one, 2 * one - two


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--protocols", nargs="+", default=["quick", "lite", "paper"])
    parser.add_argument("--upsamplers", nargs="+", default=["bilinear", "loftup:dinov2s"])
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    print("| Protocol | Upsampler | Steps | Training images | Objects | Clicks | PFLOP training | PFLOP evaluation |")
    print("|---|---|---|---|---|---|---|---|")
    pieces: dict[tuple[Protocol, str], Work] = {}
    for name in options.protocols:
        protocol = Protocol.preset(name)
        amounts = amounts_of(protocol, None)
        objects = sum(test.objects for test in amounts.tests)
        crops = sum(test.images for test in amounts.tests) + CROPS_PER_OBJECT * objects
        clicks = objects * protocol.max_clicks
        for upsampler in options.upsamplers:
            key = (protocol.replace(name="any", **WITHOUT_EFFECT), upsampler)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                work = pieces.setdefault(key, work_of(protocol, upsampler)) if key not in pieces else pieces[key]
            training, evaluation = amounts.training_images * work.image, clicks * work.click + crops * work.crop
            print(
                f"| {name} | {upsampler} | {amounts.steps} | {amounts.training_images} | {objects} | {clicks} | "
                f"{training / 1e15:.2f} | {evaluation / 1e15:.2f} |",
                flush=True,
            )
    for (_, upsampler), work in pieces.items():
        print(
            f"\n{upsampler}: {work.image / 1e9:.0f} GFLOP per training image, {work.click / 1e9:.0f} per click, "
            f"{work.crop / 1e9:.0f} per crop"
        )


if __name__ == "__main__":
    main()
