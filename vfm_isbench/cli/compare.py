"""``vfm-isbench compare``: compare upsamplers object by object, or with figures from papers."""

from __future__ import annotations

import argparse
from pathlib import Path

from vfm_isbench.cli.options import INCOMPARABLE, Subparsers, add_statistics_options, write_json, write_text
from vfm_isbench.cli.terminal import say
from vfm_isbench.errors import ComparisonError
from vfm_isbench.results import compare, group_sides, load_result
from vfm_isbench.results.quoted import beside_quoted


def add_compare(commands: Subparsers) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "compare", help="compare upsamplers object by object, or with figures quoted from papers"
    )
    parser.set_defaults(function=compare_command)
    parser.add_argument(
        "results",
        nargs="+",
        type=Path,
        metavar="RESULT",
        help="result.json or a run folder; seeds of the same upsampler are combined, and all other upsamplers are "
        "compared with the first",
    )
    parser.add_argument("--quoted", action="store_true", help="add figures from papers, with citations")
    parser.add_argument(
        "--dataset", action="append", metavar="NAME", help="compare only on this data set; may be repeated"
    )
    add_statistics_options(parser, "of the two-sided intervals")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the comparison as Markdown")


def compare_command(arguments: argparse.Namespace) -> int | None:
    """``vfm-isbench compare``."""
    results = [load_result(path) for path in arguments.results]
    sides = [] if arguments.quoted else group_sides(results)
    if len(sides) < 2:
        if arguments.json or arguments.markdown:
            raise ComparisonError("--json and --markdown need a comparison, not --quoted or only one upsampler")
        say("\n\n".join(str(result) for result in results))
        if arguments.quoted:
            say("", beside_quoted(results))
        return None
    comparison = compare(
        *sides,
        datasets=arguments.dataset,
        confidence=arguments.confidence,
        resamples=arguments.resamples,
    )
    if arguments.json:
        write_json(arguments.json, comparison.to_dict())
    if arguments.markdown:
        write_text(arguments.markdown, comparison.to_markdown())
    say(str(comparison))  # last, so that nothing about the terminal can lose a file
    return None if comparison.is_complete else INCOMPARABLE
