"""``vfm-isbench export``: results in the formats of others."""

from __future__ import annotations

import argparse
from pathlib import Path

from vfm_isbench.cli.options import Subparsers
from vfm_isbench.cli.terminal import complain, say
from vfm_isbench.errors import ResultError
from vfm_isbench.export import FORMATS, ExportOptions, export_results
from vfm_isbench.results.intervals import CONFIDENCE


def add_export(commands: Subparsers) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "export",
        help="write results in another format: for the Hugging Face Hub, Every Eval Ever, a model card, CSV or LaTeX",
        description="Write results in another format. Results of one upsampler with different training seeds are "
        "combined. To write the weights of a trained checkpoint in iSegProbe's format, see export-reference.",
        epilog="formats:\n" + "\n".join(f"  {name:<16} {what}" for name, what in FORMATS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(function=export_command)
    parser.add_argument(
        "results",
        nargs="+",
        type=Path,
        metavar="RESULT",
        help="result.json or a run folder; csv and latex take any",
    )
    parser.add_argument("--format", required=True, choices=list(FORMATS), metavar="FORMAT", help=", ".join(FORMATS))
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="file to write, or folder for every-eval-ever (default: print)"
    )
    parser.add_argument(
        "--metric", action="append", metavar="SCORE", help="score to export, such as noc90 or iou_at_1; may be repeated"
    )
    parser.add_argument(
        "--confidence", type=float, default=CONFIDENCE, metavar="C", help=f"of the intervals (default: {CONFIDENCE})"
    )
    parser.add_argument("--model", metavar="OWNER/NAME", help="id of the model on the Hub")
    parser.add_argument(
        "--hub-dataset",
        action="append",
        default=[],
        metavar="[NAME=]OWNER/NAME[@REVISION]",
        help="id on the Hub of the data set NAME, or of all of them; may be repeated",
    )
    parser.add_argument("--source-url", metavar="URL", help="where readers find more about the evaluation")
    parser.add_argument("--source-name", metavar="TEXT", help="who or what that is")


def export_command(arguments: argparse.Namespace) -> None:
    """``vfm-isbench export``."""
    options = ExportOptions(
        metrics=arguments.metric,
        confidence=arguments.confidence,
        model=arguments.model,
        hub_datasets=_hub_datasets(arguments.hub_dataset),
        source_url=arguments.source_url,
        source_name=arguments.source_name,
    )
    text = export_results(arguments.results, arguments.format, arguments.output, options)
    if arguments.output is None:
        say(text.removesuffix("\n"))
    else:
        complain(f"saved: {arguments.output}")


def _hub_datasets(given: list[str]) -> dict[str, str]:
    """What was given, by name of the test set; "" for all.

    Raises:
        ResultError: if a test set was given twice.
    """
    found: dict[str, str] = {}
    for text in given:
        name, equals, hub = text.partition("=")
        name, hub = (name, hub) if equals else ("", text)
        if name in found:
            raise ResultError(f"--hub-dataset was given twice for {name or 'all data sets'}; give each data set once")
        found[name] = hub
    return found
