"""``vfm-isbench power``: which difference a benchmark shows, and what would buy a better resolution."""

from __future__ import annotations

import argparse
from pathlib import Path

from vfm_isbench.cli.options import Subparsers, write_json
from vfm_isbench.cli.plot import save
from vfm_isbench.cli.terminal import say
from vfm_isbench.errors import ComparisonError
from vfm_isbench.protocol import Protocol
from vfm_isbench.results import load_result, resolution
from vfm_isbench.results.components import Aim
from vfm_isbench.results.measured import stored
from vfm_isbench.results.resolution import resolution_of


def add_power(commands: Subparsers) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "power",
        help="which difference between upsamplers would be shown, and what a better resolution costs",
        description="Which difference between two upsamplers would be shown with these objects and seeds, and which "
        "objects and seeds resolve a given difference in the least time.",
    )
    parser.set_defaults(function=power_command)
    parser.add_argument(
        "results",
        nargs="*",
        type=Path,
        metavar="RESULT",
        help="result.json or a run folder, of one or better several upsamplers, with at least two seeds each",
    )
    parser.add_argument("--protocol", metavar="NAME", help="without results: use what is stored for this protocol")
    parser.add_argument("--seeds", type=int, metavar="N", help="seeds per upsampler (default: those of the results)")
    parser.add_argument("--objects", type=int, metavar="N", help="test objects (default: those of the results)")
    parser.add_argument(
        "--margin", type=float, metavar="X", help="difference to resolve: clicks for NoC, otherwise IoU of [0, 1]"
    )
    parser.add_argument(
        "--metric", metavar="SCORE", help="score of the budgets (default: the headline metric of the protocol)"
    )
    parser.add_argument("--dataset", action="append", metavar="NAME", help="only this data set; may be repeated")
    parser.add_argument(
        "--power", type=float, default=Aim().power, metavar="P", help="probability of showing it (default: 0.8)"
    )
    parser.add_argument(
        "--confidence",
        type=float,
        default=Aim().confidence,
        metavar="C",
        help="confidence of the one-sided bound that shows it (default: 0.95)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers as JSON")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the smallest difference over the time of a run")


def power_command(arguments: argparse.Namespace) -> None:
    """``vfm-isbench power``."""
    if bool(arguments.results) == bool(arguments.protocol):
        raise ComparisonError(
            "expected either results or --protocol NAME: vfm-isbench power runs/bilinear-seed* runs/nearest-seed*, or "
            "vfm-isbench power --protocol demo"
        )
    plan = {name: getattr(arguments, name) for name in ("seeds", "objects", "margin", "metric", "power", "confidence")}
    if arguments.protocol:
        protocol = Protocol.preset(arguments.protocol)
        known, plan["metric"] = stored(protocol), arguments.metric or protocol.headline
        found = resolution_of([one for one in known if one.dataset in (arguments.dataset or [one.dataset])], **plan)
    else:
        found = resolution(*map(load_result, arguments.results), datasets=arguments.dataset, **plan)
    if arguments.json:
        write_json(arguments.json, found.to_dict())
    if arguments.plot:
        # Imported here because matplotlib is optional.
        from vfm_isbench.viz import resolution_over_time

        arguments.output, arguments.dpi = arguments.plot, 200
        save(resolution_over_time(found), arguments, "resolution", str(found))
    say(str(found))
