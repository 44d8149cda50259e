"""``vfm-isbench list``: list the names that other commands accept."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from vfm_isbench.backbones import BACKBONE_PLUGINS, list_backbones
from vfm_isbench.backbones.table import table_lines
from vfm_isbench.cli.options import Subparsers
from vfm_isbench.cli.terminal import say
from vfm_isbench.click_encoders import CLICK_ENCODER_PLUGINS, list_click_encoders
from vfm_isbench.datasets import DATASET_PLUGINS, list_datasets
from vfm_isbench.errors import UnknownNameError
from vfm_isbench.protocol import PRESETS, Protocol
from vfm_isbench.upsamplers import UPSAMPLER_PLUGINS, describe_loaders, list_upsamplers

EXTERNAL_UPSAMPLERS = {
    "hub:OWNER/REPO[@COMMIT]:ENTRY": "any repository for torch.hub, with --trust-remote-code",
    "hf:OWNER/NAME[@REVISION]": "a module pushed to the Hugging Face hub with its mixin",
    "package.module:attribute": "your own; also path/to/file.py:attribute",
}
"""How to name an upsampler that does not come with this library."""

PLUGINS = {
    "backbones": BACKBONE_PLUGINS,
    "upsamplers": UPSAMPLER_PLUGINS,
    "datasets": DATASET_PLUGINS,
    "click_encoders": CLICK_ENCODER_PLUGINS,
}

TABLES = {"backbones": table_lines}
"""What ``--all`` shows."""

KINDS = {
    "protocols": "--protocol NAME",
    "backbones": "--backbone NAME",
    "upsamplers": "vfm-isbench run NAME",
    "datasets": "--datasets NAME …",
    "click_encoders": "--click-encoder NAME",
}
"""What can be listed, and where its names are used."""


def add_list(commands: Subparsers) -> None:
    """Add the subcommand."""
    listing = commands.add_parser("list", help="list the names that other commands accept")
    listing.set_defaults(function=list_command)
    listing.add_argument(
        "kind",
        nargs="?",
        type=lambda kind: kind.replace("-", "_"),
        choices=list(KINDS),
        help="what to list (default: everything)",
    )
    listing.add_argument(
        "--all", action="store_true", help="backbones: the table of everything that was tried, with what fits it"
    )


def list_command(arguments: argparse.Namespace) -> None:
    """``vfm-isbench list``."""
    if arguments.all:
        if arguments.kind not in TABLES:
            commands = ", ".join(f"vfm-isbench list {kind} --all" for kind in TABLES)
            raise UnknownNameError(f"--all goes with a kind that has a table: {commands}")
        say(*TABLES[arguments.kind]())
        return
    if arguments.kind is not None:
        say(*_lines(_entries(arguments.kind)))
        return
    for number, (kind, usage) in enumerate(KINDS.items()):
        heading = f"{kind.replace('_', ' ')} ({usage})"
        say(*([""] if number else []), heading, *(f"  {line}" for line in _lines(_entries(kind))))


def _entries(kind: str) -> list[tuple[str, str]]:
    """Names of a kind, each with a description, plugins last."""
    own: dict[str, str] = {
        "protocols": lambda: {name: _described(protocol) for name, protocol in PRESETS.items()},
        "backbones": list_backbones,
        "upsamplers": lambda: list_upsamplers() | describe_loaders() | EXTERNAL_UPSAMPLERS,
        "datasets": list_datasets,
        "click_encoders": list_click_encoders,
    }[kind]()
    # A list, not a dictionary: a plugin refused for using a built-in name still gets its own line.
    return [*own.items(), *(PLUGINS[kind].describe() if kind in PLUGINS else [])]


def _described(protocol: Protocol) -> str:
    """What a preset trains on and for how long, on what it tests, and its signature."""
    per_epoch = "all images" if protocol.samples_per_epoch is None else f"{protocol.samples_per_epoch:,} samples"
    return (
        f"{protocol.epochs} epochs of {per_epoch} of {protocol.train_dataset}, tested on "
        f"{', '.join(protocol.test_datasets)} · {protocol.signature()}"
    )


def _lines(entries: Sequence[tuple[str, str]]) -> list[str]:
    width = max(len(name) for name, _ in entries)
    return [f"{name.ljust(width)}  {description}" for name, description in entries]
