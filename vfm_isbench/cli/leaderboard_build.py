"""``vfm-isbench leaderboard build``: build the page as one self-contained file."""

from __future__ import annotations

import argparse
from pathlib import Path

from vfm_isbench import __version__
from vfm_isbench.cli.options import Subparsers, add_entries_option
from vfm_isbench.cli.terminal import say
from vfm_isbench.leaderboard import Board, load_board, page_data
from vfm_isbench.leaderboard.page import write_page
from vfm_isbench.leaderboard.repository import checked_repository
from vfm_isbench.leaderboard.validation import entry_files
from vfm_isbench.progress import RunProgress

SITE = Path("site")


def load_with_progress(folder: Path, progress: RunProgress) -> Board:
    """Load the leaderboard; the progress counts the entries that are checked."""
    files = len(entry_files(folder)) if folder.is_dir() else 0
    with progress.part(f"checking {files} {'entry' if files == 1 else 'entries'}", files) as part:
        return load_board(folder, on_checked=part.advance)


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
    with RunProgress() as progress:
        board = load_with_progress(arguments.entries, progress)
        with progress.part("computing scores and ranks", 1):
            data = page_data(board, version=__version__, repository=repository)
    say(f"saved: {write_page(data, arguments.output)}")
