"""Measure time and peak memory of every upsampler at two image sizes, each in its own process.

    python benchmarks/speed/upsamplers.py --sizes 224 448 --rounds 5

Weights are random, which changes neither. The patch grid is image size / 14. Memory is how far the peak of the process
(CUDA: of the allocator) rises above its use with upsampler and inputs loaded, including the output. Ratios are to
bilinear at the same size.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from timing import seconds

from vfm_isbench.probe.preparation import choose_device
from vfm_isbench.upsamplers import TwoStepUpsampler, Upsampler, count_parameters, find_module, freeze, load_upsampler
from vfm_isbench.upsamplers.published.featup import FeatUpJBU
from vfm_isbench.upsamplers.published.lift import LiFT
from vfm_isbench.upsamplers.published.loftup import LoftUp

LEARNED: dict[str, Callable[[int], Upsampler]] = {"lift": LiFT, "featup": FeatUpJBU, "loftup": LoftUp}
NAMES = ("nearest", "bilinear", "bicubic", "jbu", *LEARNED)
PATCH_SIZE = 14
GIB = 2**30


def measure(name: str, size: int, width: int, rounds: int, device: torch.device, with_gradient: bool) -> dict[str, Any]:
    """Measure one upsampler in this process."""
    torch.manual_seed(0)
    upsampler = LEARNED[name](width) if name in LEARNED else load_upsampler(name).call
    module = find_module(upsampler)
    if module is not None:
        freeze(module)
        module.to(device)
    side = size // PATCH_SIZE
    features = torch.randn(1, width, side, side, device=device, requires_grad=with_gradient)
    image = torch.randn(1, 3, size, size, device=device)
    before = held(device)

    def call() -> None:
        output = upsampler(features, image)
        if with_gradient:
            output.sum().backward()

    with torch.set_grad_enabled(with_gradient):
        first = seconds(call, device)
        peak = held(device)
        times = [seconds(call, device) for _ in range(rounds)]
        again = None
        if isinstance(upsampler, TwoStepUpsampler) and not with_gradient:
            guidance = upsampler.encode_guidance(image)
            upsampler.upsample(features, guidance)  # computes what depends on the size of the grid
            again = statistics.median(
                seconds(lambda: upsampler.upsample(features, guidance), device) for _ in range(rounds)
            )
    return {
        "parameters": count_parameters(upsampler) or 0,
        "first": first,
        "times": times,
        "features_again": again,
        "peak": peak - before,
    }


def held(device: torch.device) -> int:
    """Peak memory in bytes so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # Linux counts in KiB, macOS in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def in_own_process(name: str, size: int, options: argparse.Namespace) -> dict[str, Any]:
    """The same in a fresh process, so that an earlier peak cannot hide this one."""
    command = [sys.executable, str(Path(__file__)), "--one", name, "--sizes", str(size)]
    command += ["--rounds", str(options.rounds), "--width", str(options.width), "--device", options.device]
    command += ["--gradient"] if options.gradient else []
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, Any] = json.loads(output)
    return found


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upsamplers", nargs="+", default=list(NAMES), choices=NAMES)
    parser.add_argument("--sizes", nargs="+", type=int, default=[224, 448])
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--gradient", action="store_true", help="measure forward and backward to the features, as in training"
    )
    parser.add_argument("--one", choices=NAMES, help=argparse.SUPPRESS)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    options = arguments().parse_args(argv)
    device = choose_device(options.device)
    if options.one:
        print(
            json.dumps(measure(options.one, options.sizes[0], options.width, options.rounds, device, options.gradient))
        )
        return
    what = "forward and backward" if options.gradient else "forward"
    threads = f"{torch.get_num_threads()} threads, torch {torch.__version__}"
    print(f"width {options.width}, batch 1, {what}, {device}, {threads}\n")
    print(
        "| upsampler | parameters | px | seconds: median (least to most) | × bilinear | guidance known, s | peak, GiB |"
    )
    print("|---|---|---|---|---|---|---|")
    for size in options.sizes:
        measured = {name: in_own_process(name, size, options) for name in ["bilinear", *options.upsamplers]}
        bilinear = statistics.median(measured["bilinear"]["times"])
        for name in options.upsamplers:
            found = measured[name]
            median = statistics.median(found["times"])
            again = "–" if found["features_again"] is None else f"{found['features_again']:.3f}"
            print(
                f"| {name} | {found['parameters']:,} | {size} | {median:.3f} ({min(found['times']):.3f} to "
                f"{max(found['times']):.3f}) | {median / bilinear:.1f} | {again} | {found['peak'] / GIB:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
