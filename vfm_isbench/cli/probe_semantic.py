"""``vfm-isbench probe-semantic``: measure an upsampler by another task, semantic segmentation."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vfm_isbench.cli.options import (
    UPSAMPLER_HELP,
    Subparsers,
    add_backbone_weights_option,
    add_data_root_option,
    add_device_option,
    add_loading_options,
    add_random_weights_option,
    load_options,
)
from vfm_isbench.cli.terminal import say
from vfm_isbench.errors import VfmIsbenchError
from vfm_isbench.protocol import PRESETS
from vfm_isbench.runs import check_random

_SETTINGS = ("backbone", "image_size", "seed", "train", "test", "epochs", "batch_size", "learning_rate", "limit")


def add_probe_semantic(commands: Subparsers) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "probe-semantic",
        help="measure an upsampler by semantic segmentation with a linear probe (mIoU)",
        description="Train a linear layer on the frozen, upsampled features of a protocol, and print the mIoU on test "
        "images. Data sets are embedded ones, whose classes are the patterns of the objects, or folder:PATH with "
        "images/ and labels/ (255: ignore).",
    )
    parser.set_defaults(function=probe_semantic_command)
    parser.add_argument("upsampler", metavar="UPSAMPLER", help=UPSAMPLER_HELP)
    parser.add_argument("--name", help="name of the upsampler in the table (default: its own)")
    parser.add_argument(
        "--protocol",
        default="demo",
        metavar="NAME",
        help=f"whose frozen features: {', '.join(PRESETS)} (default: demo)",
    )
    parser.add_argument("--backbone", metavar="NAME", help="see: vfm-isbench list backbones")
    parser.add_argument("--image-size", type=int, metavar="S", help="image size in pixels (default: the protocol's)")
    parser.add_argument("--train", metavar="DATA", help="data set for training (default: the protocol's)")
    parser.add_argument("--test", metavar="DATA", help="data set for testing (default: the protocol's first)")
    parser.add_argument("--seed", type=int, metavar="N", help="seed of the initial weights and the order of images")
    parser.add_argument("--epochs", type=int, metavar="N", help="passes over the training images (default: 10)")
    parser.add_argument("--batch-size", type=int, metavar="N", help="images per step (default: 8)")
    parser.add_argument("--learning-rate", type=float, metavar="R", help="Adam's first learning rate (default: 0.01)")
    parser.add_argument("--limit", type=int, metavar="N", help="use only the first N images of each data set")
    add_data_root_option(parser)
    add_backbone_weights_option(parser)
    add_random_weights_option(parser)
    add_loading_options(parser)
    add_device_option(parser)
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the result there, as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def probe_semantic_command(arguments: argparse.Namespace) -> None:
    """``vfm-isbench probe-semantic``."""
    from vfm_isbench.semantic import SemanticSettings, probe_semantic

    check_random(arguments.random_weights, arguments.backbone_weights)
    given: dict[str, Any] = {name: getattr(arguments, name) for name in _SETTINGS}
    changes = {name: value for name, value in given.items() if value is not None}
    output: Path | None = arguments.output
    if output is not None and output.is_dir():
        raise VfmIsbenchError(f"{output} is a folder; give a file as --output FILE, such as {output / 'mine.json'}")
    result = probe_semantic(
        arguments.upsampler,
        SemanticSettings.of(arguments.protocol, **changes),
        name=arguments.name,
        device=arguments.device,
        data_root=arguments.data_root,
        backbone_weights=arguments.backbone_weights,
        random_weights=arguments.random_weights,
        load_options=load_options(arguments),
        progress=not arguments.quiet,
    )
    say(str(result), *([] if output is None else [f"saved: {result.save(output)}"]))
