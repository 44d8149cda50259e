"""``vfm-isbench leaderboard build``: build the page as one self-contained file."""

from __future__ import annotations

import argparse
from pathlib import Path

from vfm_isbench import __version__
from vfm_isbench.cli.options import Subparsers, add_entries_option
from vfm_isbench.cli.terminal import say
from vfm_isbench.leaderboard import load_board, page_data
from vfm_isbench.leaderboard.page import write_page
from vfm_isbench.leaderboard.repository import checked_repository

SITE = Path("site")


def add_build(actions: Subparsers) -> None:
    """Add the action."""
    parser = actions.add_parser("build", help="build the page from the entries: one HTML file that works offline")
    parser.set_defaults(function=build_command)
    add_entries_option(parser)
    parser.add_argument("--output", type=Path, default=SITE, metavar="DIR", help=f"for index.html (default: {SITE})")
    parser.add_argument(
        "--repository", metavar="URL", help="address of this library's repository, for links (default: no links)"
    )


def build_command(arguments: argparse.Namespace) -> None:
    """``vfm-isbench leaderboard build``."""
    repository = checked_repository(arguments.repository)
    data = page_data(load_board(arguments.entries), version=__version__, repository=repository)
    say(f"saved: {write_page(data, arguments.output)}")
