"""Seconds per click and per training step, by part.

    python benchmarks/speed/parts.py --backbone timm:vit_small_patch14_dinov2 --upsampler bilinear jbu

Weights are random: they do not change how long a pass takes. Every figure is the median of the rounds, with minimum and
maximum; shares are of the whole step measured in the same round, so that they compare on a noisy machine.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from itertools import count

import numpy as np
import torch
from timing import seconds

from vfm_isbench import Protocol
from vfm_isbench.backbones import load_backbone
from vfm_isbench.benchmark import choose_device
from vfm_isbench.build import build_probe
from vfm_isbench.clicks import click_maps, next_click, points_tensor
from vfm_isbench.datasets.scenes import ScenesDataset
from vfm_isbench.metrics import intersection_over_union
from vfm_isbench.probe import Probe
from vfm_isbench.training import TrainingSamples, normalized_focal_loss
from vfm_isbench.training.loop import predict_batch
from vfm_isbench.training.samples import Batch, collate
from vfm_isbench.types import Click
from vfm_isbench.upsamplers import load_upsampler


def parts_of_a_click(probe: Probe, protocol: Protocol, device: torch.device) -> dict[str, Callable[[], object]]:
    """The work of one click of late injection with flip, part by part."""
    size = protocol.image_size
    image = torch.rand(2, 3, size, size, device=device)
    features = probe.backbone(image)
    upsampled = probe.upsampler(features, image)
    points = points_tensor([[Click(size / 2, size / 2, True)]] * 2).to(device)
    previous = torch.rand(2, 1, size, size, device=device)
    click_map = click_maps(points, previous)
    encoded = probe.encode(image)
    scenes = ScenesDataset(split="test", n_images=1)
    truth = scenes.read(scenes.image_ids[0]).object_mask(1)
    guess = np.roll(truth == 1, 9, axis=1)
    clicked = np.zeros_like(guess)
    return {
        "backbone (per crop)": lambda: probe.backbone(image),
        "upsampler (per crop)": lambda: probe.upsampler(features, image),
        "click maps": lambda: click_maps(points, previous),
        "click encoder": lambda: probe.click_encoder(click_map),
        "head": lambda: probe.head(upsampled),
        "clicker and IoU": lambda: (next_click(truth, guess, clicked), intersection_over_union(truth, guess)),
        "network, crop known": lambda: probe.logits(encoded, click_map),
        "network, new crop": lambda: probe(image, click_map),
    }


def parts_of_a_step(
    probe: Probe, protocol: Protocol, samples: TrainingSamples, device: torch.device
) -> dict[str, Callable[[], object]]:
    """The work of one training step."""
    size = protocol.batch_size
    batch: Batch = collate([samples[0, item] for item in range(size)])
    images = batch.images.to(device)
    optimizer = torch.optim.Adam(probe.trainable().parameters(), lr=1e-6)

    def step(iterative: int) -> None:
        # The first draw decides how many iterative clicks there are: take the first generator that draws as many.
        choices = protocol.max_iterative_clicks + 1
        seed = next(seed for seed in count() if np.random.default_rng(seed).integers(choices) == iterative)
        logits, targets = predict_batch(probe, batch, protocol, np.random.default_rng(seed))
        normalized_focal_loss(logits, targets).mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return {
        "samples": lambda: [samples[0, item] for item in range(size)],
        "backbone and upsampler": lambda: probe.encode(images),
        "step, no iterative click": lambda: step(0),
        "step, most iterative clicks": lambda: step(protocol.max_iterative_clicks),
    }


def report(title: str, parts: dict[str, Callable[[], object]], whole: str, rounds: int, device: torch.device) -> None:
    """Time every part once per round, interleaved, and print medians, spread, and shares."""
    for work in parts.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(rounds):
        for name, work in parts.items():
            times[name].append(seconds(work, device))
    print(f"\n{title}")
    for name, measured in times.items():
        shares = [part / one for part, one in zip(measured, times[whole], strict=True)]
        print(
            f"  {name:32} {1e3 * statistics.median(measured):9.1f} ms"
            f"  ({1e3 * min(measured):.1f} to {1e3 * max(measured):.1f})  {100 * statistics.median(shares):6.1f} %"
        )


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="timm:vit_small_patch14_dinov2", help="any backbone; random weights")
    parser.add_argument("--upsampler", nargs="+", default=["bilinear"])
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--skip-training", action="store_true")
    options = parser.parse_args()
    device = choose_device(options.device)
    protocol = Protocol.preset("paper").replace(
        backbone=options.backbone, image_size=options.image_size, batch_size=options.batch_size, train_dataset="scenes"
    )
    backbone = load_backbone(options.backbone, options.image_size, pretrained=False)
    samples = TrainingSamples(ScenesDataset(split="train"), protocol)
    threads = torch.get_num_threads()
    print(f"{options.backbone}, {options.image_size} px, width {backbone.width}, {device}, {threads} threads")
    for name in options.upsampler:
        probe = build_probe(protocol, backbone, load_upsampler(name)).to(device).eval()
        with torch.inference_mode():
            clicks = parts_of_a_click(probe, protocol, device)
            report(f"{name}: one click, flip on", clicks, "network, crop known", options.rounds, device)
        if not options.skip_training:
            steps = parts_of_a_step(probe, protocol, samples, device)
            title = f"{name}: one training step, batch {protocol.batch_size}"
            report(title, steps, "step, no iterative click", options.rounds, device)


if __name__ == "__main__":
    main()
