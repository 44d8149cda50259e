"""``vfm-isbench check``: check an upsampler against its contract, without training."""

from __future__ import annotations

import argparse

from vfm_isbench.cli.options import (
    UPSAMPLER_HELP,
    Subparsers,
    add_device_option,
    add_loading_options,
    load_options,
)
from vfm_isbench.cli.terminal import say
from vfm_isbench.probe.preparation import check_on_grid, choose_device
from vfm_isbench.protocol import Protocol
from vfm_isbench.upsamplers import load_upsampler


def add_check(commands: Subparsers) -> None:
    """Add the subcommand."""
    check = commands.add_parser("check", help="check an upsampler against its contract, without training")
    check.set_defaults(function=check_command)
    check.add_argument("upsampler", metavar="UPSAMPLER", help=UPSAMPLER_HELP)
    check.add_argument("--channels", type=int, default=384, metavar="C", help="feature channels (default: 384)")
    check.add_argument("--patch-size", type=int, default=14, metavar="P", help="patch size in pixels (default: 14)")
    check.add_argument("--image-size", type=int, default=224, metavar="S", help="image size in pixels (default: 224)")
    check.add_argument(
        "--injection", default="late", metavar="NAME", help="all but late also check gradients (default: late)"
    )
    add_loading_options(check)
    add_device_option(check)


def check_command(arguments: argparse.Namespace) -> None:
    """``vfm-isbench check``."""
    protocol = Protocol.preset("paper").replace(injection=arguments.injection, image_size=arguments.image_size)
    side = arguments.image_size // arguments.patch_size
    device = choose_device(arguments.device)
    upsampler = load_upsampler(arguments.upsampler, load_options(arguments))
    report = check_on_grid(upsampler, protocol, (side, side), arguments.channels, device)
    say(f"{arguments.upsampler} keeps the contract", str(report))
