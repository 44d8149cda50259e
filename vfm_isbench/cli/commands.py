"""The parser of all subcommands, and the exit codes of their errors.

Exit codes: 0 success, 2 wrong use or bad input, 3 results that must not be compared, 130 interrupted, 143 and 129 ended
by SIGTERM and SIGHUP. A command may return other codes of its own; None means 0.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import traceback
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

from vfm_isbench import __version__
from vfm_isbench.cli.baseline import add_baseline
from vfm_isbench.cli.check import add_check
from vfm_isbench.cli.compare import add_compare
from vfm_isbench.cli.data import add_data
from vfm_isbench.cli.evaluate import add_eval, add_export_reference
from vfm_isbench.cli.export import add_export
from vfm_isbench.cli.features import add_features
from vfm_isbench.cli.leaderboard import add_leaderboard
from vfm_isbench.cli.listing import add_list
from vfm_isbench.cli.options import BAD_INPUT, INCOMPARABLE, INTERRUPTED, OK
from vfm_isbench.cli.plot import add_plot
from vfm_isbench.cli.power import add_power
from vfm_isbench.cli.probe_semantic import add_probe_semantic
from vfm_isbench.cli.regress import add_regress
from vfm_isbench.cli.run import add_run
from vfm_isbench.cli.show import add_show
from vfm_isbench.cli.terminal import Parser, complain
from vfm_isbench.errors import IncomparableError, Terminated, VfmIsbenchError, VfmIsbenchWarning

_CONTINUED = ("run", "eval", "baseline", "data")
"""Commands that continue an interrupted piece of work when they are given again."""


def build_parser() -> argparse.ArgumentParser:
    """The parser of all subcommands."""
    parser: argparse.ArgumentParser = Parser(
        prog="vfm-isbench",
        description="How good is my feature upsampler? A benchmark based on interactive segmentation.",
        epilog="Start with: vfm-isbench run bilinear",
    )
    parser.add_argument("--version", action="version", version=f"vfm-isbench {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_run(commands)
    add_eval(commands)
    add_compare(commands)
    add_regress(commands)
    add_baseline(commands)
    add_power(commands)
    add_data(commands)
    add_export(commands)
    add_export_reference(commands)
    add_list(commands)
    add_check(commands)
    add_leaderboard(commands)
    add_plot(commands)
    add_show(commands)
    add_features(commands)
    add_probe_semantic(commands)
    return parser


def _show_warning(message: Warning | str, category: type[Warning], *_where: Any, **_more: Any) -> None:
    kind = "warning" if issubclass(category, VfmIsbenchWarning) else category.__name__
    complain(f"{kind}: {message}")


def execute(arguments: Sequence[str]) -> int:
    """Run a command; returns the exit code."""
    if not arguments:
        build_parser().print_help(sys.stderr)
        return BAD_INPUT
    parsed = build_parser().parse_args(_allow_debug_anywhere(arguments))
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            code: int | None = parsed.function(parsed)
        except VfmIsbenchError as error:
            if parsed.debug:
                traceback.print_exc()
            complain(f"vfm-isbench: {error}")
            return INCOMPARABLE if isinstance(error, IncomparableError) else BAD_INPUT
        except Terminated as end:
            if how := _how_to_continue(parsed, arguments):
                complain(how.removeprefix("; "))  # what stopped it has been logged
            return int(str(end.code))
        except SystemExit as end:  # of an upsampler or a plugin: no code of this library ends the program
            if parsed.debug:
                traceback.print_exc()
            sys.stderr.write(
                f"vfm-isbench: code that is not part of this library called sys.exit({end.code!r}), so the command "
                "could not finish; let it raise an exception instead (--debug shows where)\n"
            )
            return BAD_INPUT
        except KeyboardInterrupt:
            complain(f"interrupted{_how_to_continue(parsed, arguments)}")
            return INTERRUPTED
    return OK if code is None else code


def _how_to_continue(parsed: argparse.Namespace, arguments: Sequence[str]) -> str:
    if parsed.command == "eval" and not parsed.output:
        return "; nothing was saved; with --output, the same command could resume"
    if parsed.command not in _CONTINUED or getattr(parsed, "estimate", False):
        return ""
    # --overwrite would delete what was kept.
    words = ["vfm-isbench", *(word for word in arguments if word != "--overwrite")]
    return f"; continue with:\n    {shlex.join(words)}"


def _allow_debug_anywhere(arguments: Iterable[str]) -> list[str]:
    arguments = list(arguments)
    rest = [argument for argument in arguments if argument != "--debug"]
    return ["--debug", *rest] if len(rest) < len(arguments) else rest
