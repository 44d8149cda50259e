"""``vfm-isbench list``: list the names that other commands accept."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

from vfm_isbench.backbones import BACKBONE_PLUGINS, list_backbones
from vfm_isbench.backbones.table import table_lines
from vfm_isbench.cli.options import Subparsers
from vfm_isbench.cli.terminal import say
from vfm_isbench.click_encoders import CLICK_ENCODER_PLUGINS, list_click_encoders
from vfm_isbench.datasets import DATASET_PLUGINS, list_datasets
from vfm_isbench.datasets.own_names import OWN_DATASETS
from vfm_isbench.errors import UnknownNameError
from vfm_isbench.protocol import PRESETS, Protocol
from vfm_isbench.upsamplers import KNOWN, UPSAMPLER_PLUGINS, describe_loaders, list_upsamplers

EXTERNAL_UPSAMPLERS = {
    "hub:OWNER/REPO[@COMMIT]:ENTRY": "any repository for torch.hub, with --trust-remote-code",
    "code:FOLDER:MODULE:CLASS": "code in a folder without hubconf.py, with --trust-remote-code",
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


def _known_upsamplers() -> Iterator[str]:
    """The table of known upsamplers, one paragraph each, because its columns are too wide for a line."""
    for number, known in enumerate(KNOWN):
        if number:
            yield ""
        yield f"{known.title}: {known.spec}"
        fields = {"fits": known.fitted(), "licence": known.licence}
        if known.packages:
            missing = known.missing()
            advice = f" (missing here: pip install {' '.join(missing)})" if missing else " (installed)"
            fields["needs"] = f"{', '.join(known.packages)}{advice}"
        fields["verified"] = known.verified
        if known.remark:
            fields["note"] = known.remark
        yield from (f"  {name + ':':10}{value}" for name, value in fields.items())


TABLES = {"upsamplers": _known_upsamplers, "backbones": table_lines}
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
        "--all",
        action="store_true",
        help="upsamplers, backbones: the table of all that are known, with what fits together and what was tried",
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
        "datasets": lambda: list_datasets() | OWN_DATASETS,
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
