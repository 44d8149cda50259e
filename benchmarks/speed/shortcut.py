"""Seconds per click by the shortcut, against the whole probe run for every click.

    python benchmarks/speed/shortcut.py --upsampler bilinear featup --injection late early --rounds 5

ViT-S of width 384 with random weights, flip on. "Whole" runs backbone, upsampler, click encoder and head for each
click, as the reference implementation does; "click" is the shortcut with the crop known, "crop" what a new crop costs
once. Rounds are interleaved; ratios are of medians. The bound is the one 3×3 convolution that every click needs.
"""

from __future__ import annotations

import argparse
import statistics

import torch
from timing import seconds
from upsamplers import LEARNED

from vfm_isbench import Protocol
from vfm_isbench.backbones import load_backbone
from vfm_isbench.benchmark import choose_device
from vfm_isbench.build import build_probe
from vfm_isbench.clicks import click_maps, points_tensor
from vfm_isbench.shortcut import QuickProbe
from vfm_isbench.types import Click
from vfm_isbench.upsamplers import load_upsampler

ENCODERS = {"late": "simple_vit", "early": "patch_embedding", "pre_upsampler": "simple_vit"}


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--upsampler", nargs="+", default=["bilinear"])
    parser.add_argument("--injection", nargs="+", default=["late", "early"], choices=ENCODERS)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    device, size = choose_device(options.device), options.image_size
    backbone = load_backbone("timm:vit_small_patch14_dinov2", size, pretrained=False)
    print(f"{size} px, width {backbone.width}, {device}, {torch.get_num_threads()} threads, {options.rounds} rounds\n")
    print(
        "| upsampler | injection | whole, s | click, s (range) | crop, s | whole / click | bound / click | deviation |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in options.upsampler:
        for injection in options.injection:
            upsampler = LEARNED[name](backbone.width) if name in LEARNED else load_upsampler(name)
            protocol = Protocol.preset("paper").replace(injection=injection, click_encoder=ENCODERS[injection])
            probe = build_probe(protocol, backbone, upsampler).to(device).eval()
            quick = QuickProbe(probe)
            image = torch.rand(2, 3, size, size, device=device)
            clicks = points_tensor([[Click(size / 2, size / 2, True)]] * 2).to(device)
            click_map = click_maps(clicks, torch.rand(2, 1, size, size, device=device))
            wide = torch.rand(2, backbone.width, size, size, device=device).to(memory_format=torch.channels_last)
            with torch.inference_mode():
                encoded = quick.encode(image)
                deviation = float((quick.logits(encoded, click_map) - probe(image, click_map)).abs().max())
                work = {
                    "whole": lambda p=probe, i=image, c=click_map: p(i, c),
                    "click": lambda q=quick, e=encoded, c=click_map: q.logits(e, c),
                    "crop": lambda q=quick, i=image: q.encode(i),
                    "bound": lambda p=probe, w=wide: p.head.convs[-1].conv(w),
                }
                for one in work.values():
                    one()
                times = {key: [] for key in work}
                for _ in range(options.rounds):
                    for key, one in work.items():
                        times[key].append(seconds(one, device))
            median = {key: statistics.median(found) for key, found in times.items()}
            print(
                f"| {name} | {injection} | {median['whole']:.2f} | {median['click']:.2f} ({min(times['click']):.2f} to "
                f"{max(times['click']):.2f}) | {median['crop']:.2f} | {median['whole'] / median['click']:.1f} | "
                f"{median['bound'] / median['click']:.2f} | {deviation:.0e} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
