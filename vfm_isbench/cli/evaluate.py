"""``vfm-isbench eval`` and ``export-reference``: our own checkpoints, and those of iSegProbe."""

from __future__ import annotations

import argparse
from pathlib import Path

from vfm_isbench.cli.options import (
    Subparsers,
    add_boundary_option,
    add_data_root_option,
    add_replacement_options,
    add_speed_options,
    fields_from,
    load_options,
    speed_from,
)
from vfm_isbench.cli.terminal import say
from vfm_isbench.isegprobe import export_reference
from vfm_isbench.runs.checkpoints import evaluate_checkpoint, load_trained


def add_eval(commands: Subparsers) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("eval", help="evaluate a trained checkpoint, from a run or from iSegProbe")
    parser.set_defaults(function=eval_command)
    _add_checkpoint(parser)
    add_data_root_option(parser)
    parser.add_argument(
        "--datasets", nargs="+", metavar="NAME", help="test sets (default: those of the checkpoint's protocol)"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N objects of each test set")
    parser.add_argument(
        "--granularity", type=float, metavar="G", help="evaluate every object with this granularity in (0, 1]"
    )
    parser.add_argument(
        "--clicker", metavar="PATTERN", help="where the simulated user clicks, such as random (default: as in the run)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="set another field of the protocol that training does not read, such as flip_test=false; may be repeated",
    )
    parser.add_argument("--name", help="name of the upsampler in the table (default: its own)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="result file to write, such as result.json")
    add_boundary_option(parser)
    add_speed_options(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def add_export_reference(commands: Subparsers) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "export-reference",
        help="write the weights of a trained checkpoint in iSegProbe's format; for results, see export",
    )
    parser.set_defaults(function=export_command)
    _add_checkpoint(parser)
    parser.add_argument("output", type=Path, metavar="FILE", help="file to write, such as model.pth")
    parser.add_argument("--include-frozen", action="store_true", help="also write the backbone and the upsampler")


def _add_checkpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint", type=Path, metavar="CHECKPOINT", help="run folder, checkpoint.safetensors, or iSegProbe's .pth"
    )
    add_replacement_options(parser)


def eval_command(arguments: argparse.Namespace) -> None:
    """``vfm-isbench eval``."""
    result = evaluate_checkpoint(
        arguments.checkpoint,
        data_root=arguments.data_root,
        datasets=arguments.datasets,
        limit=arguments.limit,
        granularity=arguments.granularity,
        name=arguments.name,
        output=arguments.output,
        speed=speed_from(arguments),
        progress=not arguments.quiet,
        boundary_iou=arguments.boundary_iou,
        clicker=arguments.clicker,
        fields=fields_from(arguments),
        upsampler=arguments.upsampler,
        backbone_weights=arguments.backbone_weights,
        random_weights=arguments.random_weights,
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
        random_weights=arguments.random_weights,
        load_options=load_options(arguments),
        device=arguments.device,
    )
    export_reference(loaded.probe, loaded.protocol, arguments.output, include_frozen=arguments.include_frozen)
    say(f"saved: {arguments.output}")
