"""``vfm-isbench regress``: a gate for continuous integration."""

from __future__ import annotations

import argparse
import os
import traceback
from pathlib import Path

from vfm_isbench.cli.options import BAD_INPUT, Subparsers, add_statistics_options, write_json, write_text
from vfm_isbench.cli.terminal import say
from vfm_isbench.errors import ResultError, VfmIsbenchError
from vfm_isbench.results import regress
from vfm_isbench.results.regression import MARGIN

CODES = (
    "exit codes: 0 pass, 1 regression, 2 wrong use or a bad file, 3 incomparable, 4 inconclusive (0 with "
    "--allow-inconclusive)"
)


def add_regress(commands: Subparsers) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "regress",
        help="test whether an upsampler got worse than a baseline; the exit code is the verdict",
        epilog=CODES,
    )
    parser.set_defaults(function=regress_command)
    parser.add_argument(
        "results",
        nargs="+",
        type=Path,
        metavar="RESULT",
        help="result.json or run folder, one per seed, or a folder of result files",
    )
    parser.add_argument(
        "--baseline", nargs="+", type=Path, required=True, metavar="RESULT", help="what to compare with, likewise"
    )
    parser.add_argument(
        "--metric",
        metavar="SCORE",
        help="noc80, noc85, noc90, iou_at_K, mean_iou (default: the headline metric of the baseline's protocol)",
    )
    parser.add_argument(
        "--margin",
        type=float,
        default=MARGIN,
        metavar="M",
        help=f"worsening to tolerate: clicks for NoC, else IoU, where 0.01 is one point (default: {MARGIN})",
    )
    parser.add_argument("--dataset", metavar="NAME", help="judge only this data set (default: all of the baseline's)")
    parser.add_argument(
        "--allow-inconclusive",
        action="store_true",
        help="exit with 0 if the data are too few to tell; without it, that fails with code 4",
    )
    add_statistics_options(parser, "of each one-sided bound")
    parser.add_argument(
        "--summary", type=Path, metavar="FILE", help="write the verdict as Markdown; $GITHUB_STEP_SUMMARY gets it too"
    )


def regress_command(arguments: argparse.Namespace) -> int:
    """``vfm-isbench regress``."""
    try:
        return _judged(arguments)
    except VfmIsbenchError:
        raise
    except Exception:  # Python would exit with 1, which means a regression here.
        traceback.print_exc()
        return BAD_INPUT


def _judged(arguments: argparse.Namespace) -> int:
    regression = regress(
        arguments.results,
        arguments.baseline,
        metric=arguments.metric,
        margin=arguments.margin,
        confidence=arguments.confidence,
        dataset=arguments.dataset,
        allow_inconclusive=arguments.allow_inconclusive,
        resamples=arguments.resamples,
    )
    if arguments.json:
        write_json(arguments.json, regression.to_dict())
    if arguments.summary:
        write_text(arguments.summary, regression.to_markdown())
    if job_summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        _append(Path(job_summary), regression.to_markdown())
    say(str(regression))  # last, so that nothing about the terminal can lose a file
    return regression.exit_code


def _append(path: Path, text: str) -> None:
    try:
        # not atomic: other steps of the job append to it too
        with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError as error:
        raise ResultError(f"$GITHUB_STEP_SUMMARY names {path}, which cannot be written: {error}") from error
