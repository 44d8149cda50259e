"""``vfm-isbench eval`` and ``export-reference``: checkpoints of ours, and of the reference implementation."""

from __future__ import annotations

import argparse
from pathlib import Path

from vfm_isbench.cli.options import (
    UPSAMPLER_HELP,
    Subparsers,
    add_device_option,
    add_loading_options,
    add_speed_options,
    load_options,
    say,
    speed_from,
)
from vfm_isbench.isegprobe import export_reference
from vfm_isbench.runs.checkpoints import evaluate_checkpoint, load_trained


def add_eval(commands: Subparsers) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("eval", help="evaluate a trained checkpoint: a run's, or one trained with iSegProbe")
    parser.set_defaults(function=eval_command)
    _add_checkpoint(parser)
    parser.add_argument("--data-root", type=Path, metavar="DIR", help="folder with SBD/, GrabCut/, Berkeley/, DAVIS/")
    parser.add_argument(
        "--datasets", nargs="+", metavar="NAME", help="test sets (default: the checkpoint's protocol's)"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N objects of each test set")
    parser.add_argument("--name", help="what the table calls the upsampler (default: its own name)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="result file to write, R.json")
    add_speed_options(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def add_export_reference(commands: Subparsers) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("export-reference", help="write a trained checkpoint in iSegProbe's layout")
    parser.set_defaults(function=export_command)
    _add_checkpoint(parser)
    parser.add_argument("output", type=Path, metavar="FILE", help="file to write, such as model.pth")
    parser.add_argument("--include-frozen", action="store_true", help="write backbone and upsampler as well")


def _add_checkpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint", type=Path, metavar="CHECKPOINT", help="run folder, checkpoint.safetensors, or iSegProbe's .pth"
    )
    parser.add_argument(
        "--upsampler", metavar="UPSAMPLER", help=f"use this instead of the checkpoint's own: {UPSAMPLER_HELP}"
    )
    add_loading_options(parser)
    parser.add_argument(
        "--backbone-weights", type=Path, metavar="PATH", help="file or folder with the backbone's weights"
    )
    add_device_option(parser)


def eval_command(arguments: argparse.Namespace) -> None:
    """``vfm-isbench eval``."""
    result = evaluate_checkpoint(
        arguments.checkpoint,
        data_root=arguments.data_root,
        datasets=arguments.datasets,
        limit=arguments.limit,
        name=arguments.name,
        output=arguments.output,
        speed=speed_from(arguments),
        progress=not arguments.quiet,
        upsampler=arguments.upsampler,
        backbone_weights=arguments.backbone_weights,
        load_options=load_options(arguments),
        device=arguments.device,
    )
    say(str(result), *([f"saved: {arguments.output}"] if arguments.output else []))


def export_command(arguments: argparse.Namespace) -> None:
    """``vfm-isbench export-reference``."""
    loaded = load_trained(
        arguments.checkpoint,
        upsampler=arguments.upsampler,
        backbone_weights=arguments.backbone_weights,
        load_options=load_options(arguments),
        device=arguments.device,
    )
    export_reference(loaded.probe, loaded.protocol, arguments.output, include_frozen=arguments.include_frozen)
    say(f"saved: {arguments.output}")
