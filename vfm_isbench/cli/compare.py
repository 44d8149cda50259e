"""``vfm-isbench compare``: results beside each other, and beside what papers report."""

from __future__ import annotations

import argparse
from pathlib import Path

from vfm_isbench.cli.options import Subparsers, say
from vfm_isbench.results import Result
from vfm_isbench.results.quoted import beside_quoted


def add_compare(commands: Subparsers) -> None:
    """Add the subcommand."""
    compare = commands.add_parser("compare", help="show results one below the other, with quoted figures if asked")
    compare.set_defaults(function=compare_command)
    compare.add_argument("results", nargs="+", type=Path, metavar="RESULT", help="result.json, or a run folder")
    compare.add_argument("--quoted", action="store_true", help="beside the figures papers report, with citations")


def compare_command(arguments: argparse.Namespace) -> None:
    """``vfm-isbench compare``."""
    results = [Result.load(path / "result.json" if path.is_dir() else path) for path in arguments.results]
    say("\n\n".join(str(result) for result in results))
    if arguments.quoted:
        say("", beside_quoted(results))
