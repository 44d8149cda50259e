"""``vfm-isbench plot``: draw results."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vfm_isbench.cli.options import Subparsers
from vfm_isbench.cli.terminal import say
from vfm_isbench.errors import PictureError
from vfm_isbench.results import load_result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURES = ("curves", "noc", "scatter")


def add_plot(commands: Subparsers) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "plot",
        help="draw results: IoU or failures over clicks, histogram of clicks needed, one upsampler against another",
        description="Draws results. Results that differ only in the training seed are drawn as one.",
    )
    parser.set_defaults(function=plot_command)
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULT", help="result.json, or a run folder")
    parser.add_argument(
        "--picture",
        choices=(*PICTURES, "failures"),
        action="append",
        help="curves, noc, scatter (needs two upsamplers) or failures; may be repeated (default: all that can be "
        "drawn but failures)",
    )
    parser.add_argument("--datasets", nargs="+", metavar="NAME", help="data sets to draw (default: all)")
    parser.add_argument(
        "--percent", type=int, default=90, metavar="P", help="IoU in %% of histogram and failures (default: 90)"
    )
    parser.add_argument(
        "--score", metavar="SCORE", help="of the scatter: noc80, noc90, iou@1, iou@5, … (default: noc at --percent)"
    )
    add_output_options(parser, "PNG and SVG")


def plot_command(arguments: argparse.Namespace) -> None:
    """``vfm-isbench plot``."""
    # Imported here because matplotlib is optional, and most commands do not need it.
    from vfm_isbench.viz import failure_curves, group_by_seed, iou_curves, noc_histogram, object_scatter

    results = [load_result(path) for path in arguments.results]
    series = group_by_seed(results)
    score = arguments.score or f"noc{arguments.percent}"
    draw: dict[str, tuple[str, Callable[[], Figure]]] = {
        "curves": ("iou-curves", lambda: iou_curves(results, arguments.datasets)),
        "noc": (
            f"noc{arguments.percent}",
            lambda: noc_histogram(results, arguments.datasets, percent=arguments.percent),
        ),
        "failures": (
            f"failures{arguments.percent}",
            lambda: failure_curves(results, arguments.datasets, percent=arguments.percent),
        ),
        "scatter": (
            f"scatter-{score.replace('_at_', '-').replace('@', '-')}",
            lambda: object_scatter(series[0].results, series[1].results, arguments.datasets, score=score),
        ),
    }
    wanted = arguments.picture or [name for name in PICTURES if name != "scatter" or len(series) == 2]
    if "scatter" in wanted and len(series) != 2:
        labels = ", ".join(group.label for group in series)
        raise PictureError(f"a scatter compares two upsamplers, but there are {len(series)}: {labels}")
    if is_file(arguments.output) and len(wanted) > 1:
        raise PictureError(
            f"{arguments.output} is one file, but there are {len(wanted)} pictures to draw; choose one with "
            "--picture NAME, or give a folder with --output DIR"
        )
    signatures = "\n".join(result.signature() for result in results)
    for name in dict.fromkeys(wanted):
        stem, function = draw[name]
        save(function(), arguments, stem, signatures)


def is_file(output: Path) -> bool:
    """Whether a path means a file rather than a folder."""
    from vfm_isbench.viz import FORMATS

    return output.suffix.lower().removeprefix(".") in FORMATS and not output.is_dir()


def save(
    figure: Figure,
    arguments: argparse.Namespace,
    stem: str,
    description: str,
    formats: Sequence[str] = ("png", "svg"),
) -> None:
    """Save a figure to the given file, or to the given folder in several formats, and print where."""
    from vfm_isbench.viz import save_figure

    output = arguments.output
    files = [output] if is_file(output) else [output / f"{stem}.{ending}" for ending in formats]
    for file in files:
        say(f"saved: {save_figure(figure, file, description=description, dpi=arguments.dpi)}")


def add_output_options(parser: argparse.ArgumentParser, formats: str) -> None:
    """``--output`` and ``--dpi``."""
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("plots"),
        metavar="PATH",
        help=f"folder for {formats}, or one .png, .svg or .pdf file (default: plots)",
    )
    parser.add_argument("--dpi", type=int, default=200, metavar="N", help="dots per inch of a PNG (default: 200)")
