"""``vfm-isbench run``: train and evaluate an upsampler."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from vfm_isbench.acceleration.speed import CHECKPOINT_MINUTES
from vfm_isbench.benchmark import Benchmark
from vfm_isbench.cli.options import (
    UPSAMPLER_HELP,
    Subparsers,
    add_backbone_weights_option,
    add_boundary_option,
    add_data_root_option,
    add_device_option,
    add_loading_options,
    add_protocol_options,
    add_random_weights_option,
    add_speed_options,
    load_options,
    protocol_from,
    speed_from,
)
from vfm_isbench.cli.terminal import say
from vfm_isbench.protocol import Protocol

_NETWORK = ("backbone", "click_encoder", "injection", "head", "image_size")
"""Fields of a protocol that a run folder has in its name where they are not the preset's."""


def add_run(commands: Subparsers) -> None:
    """Add the subcommand."""
    run = commands.add_parser("run", help="train and evaluate an upsampler and print the standard table")
    run.set_defaults(function=run_command)
    run.add_argument("upsampler", metavar="UPSAMPLER", help=UPSAMPLER_HELP)
    run.add_argument("--name", help="name of the upsampler in the table (default: its own)")
    run.add_argument(
        "--identity",
        metavar="TEXT",
        help="which upsampler it is, if its code or weights cannot be hashed; change the text whenever they change",
    )
    add_protocol_options(run)
    run.add_argument("--datasets", nargs="+", metavar="NAME", help="test sets to evaluate (default: the protocol's)")
    add_data_root_option(run)
    add_backbone_weights_option(run)
    add_random_weights_option(run)
    add_loading_options(run)
    add_device_option(run)
    run.add_argument("--workers", type=int, default=0, metavar="N", help="processes that prepare training samples")
    run.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="run folder (default: runs/UPSAMPLER-PROTOCOL[@VERSION][-BACKBONE][-train-PART][-random]-seedN)",
    )
    run.add_argument(
        "--checkpoint-minutes",
        type=float,
        default=CHECKPOINT_MINUTES,
        metavar="N",
        help=f"minutes between two checkpoints inside an epoch (default: {CHECKPOINT_MINUTES:g})",
    )
    run.add_argument("--overwrite", action="store_true", help="discard a different run found in the run folder")
    run.add_argument(
        "--estimate",
        action="store_true",
        help="measure a few steps and clicks, print what the run would download and take, and stop; writes nothing",
    )
    add_boundary_option(run)
    add_speed_options(run)
    run.add_argument("--quiet", action="store_true", help="no progress bars")


def run_command(arguments: argparse.Namespace) -> None:
    """``vfm-isbench run``."""
    protocol = protocol_from(arguments)
    output = arguments.output or default_output(
        arguments.name or arguments.upsampler, protocol, random_weights=arguments.random_weights
    )
    speed = speed_from(arguments)
    benchmark = Benchmark(
        protocol,
        device=arguments.device,
        data_root=arguments.data_root,
        output_dir=output,
        backbone_weights=arguments.backbone_weights,
        random_weights=arguments.random_weights,
        workers=arguments.workers,
        progress=not arguments.quiet,
        overwrite=arguments.overwrite,
        load_options=load_options(arguments),
        speed=speed,
        checkpoint_minutes=arguments.checkpoint_minutes,
        boundary_iou=arguments.boundary_iou,
    )
    if arguments.estimate:
        say(str(benchmark.estimate(arguments.upsampler)))
        return
    result = benchmark.run(arguments.upsampler, arguments.name, arguments.identity)
    say(str(result), f"saved: {output / f'result{speed.label()}.json'}")


def default_output(upsampler: str, protocol: Protocol, *, random_weights: bool = False) -> Path:
    """The run folder if none is given."""
    # Every part of the network that was chosen, so that no run of another network has the same folder.
    chosen = [str(getattr(protocol, part)) for part in _NETWORK if part in protocol.changed_fields()]
    words = [re.sub(r"[^\w.@-]+", "-", part) for part in (upsampler.replace("@", "-"), protocol.name)]
    version = f"@{protocol.version}" if protocol.version > 1 else ""
    network = "".join(re.sub(r"[^\w.@-]+", "-", f"-{part}") for part in chosen)
    trained = "".join(f"-train-{part}" for part in protocol.trained_parts)
    dry = "-random" if random_weights else ""
    return Path("runs") / f"{'-'.join(words)}{version}{network}{trained}{dry}-seed{protocol.seed}"
