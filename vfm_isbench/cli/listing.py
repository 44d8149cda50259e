"""``vfm-isbench list``: what can be named."""

from __future__ import annotations

import argparse

from vfm_isbench.backbones import list_backbones
from vfm_isbench.cli.options import Subparsers, say
from vfm_isbench.datasets import list_datasets
from vfm_isbench.protocol import PRESETS
from vfm_isbench.upsamplers import describe_loaders, list_upsamplers

OF_OTHERS = {
    "hub:OWNER/REPO[@COMMIT]:ENTRY": "any repository made for torch.hub, with --trust-remote-code",
    "hf:OWNER/NAME[@REVISION]": "a module pushed to the Hugging Face hub with its mixin",
    "package.module:attribute": "your own; or path/to/file.py:attribute",
}
"""What can be written for upsamplers that this library does not know."""


def add_list(commands: Subparsers) -> None:
    """Add the subcommand."""
    listing = commands.add_parser("list", help="what can be named")
    listing.set_defaults(function=list_command)
    listing.add_argument("kind", choices=["protocols", "backbones", "upsamplers", "datasets"])


def list_command(arguments: argparse.Namespace) -> None:
    """``vfm-isbench list``."""
    entries: dict[str, str] = {
        "protocols": lambda: {name: protocol.signature() for name, protocol in PRESETS.items()},
        "backbones": list_backbones,
        "upsamplers": lambda: list_upsamplers() | describe_loaders() | OF_OTHERS,
        "datasets": list_datasets,
    }[arguments.kind]()
    width = max(map(len, entries))
    say(*(f"{name.ljust(width)}  {description}" for name, description in entries.items()))
