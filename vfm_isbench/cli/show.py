"""``vfm-isbench show``: a contact sheet of objects of a result, or a table of its scores."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from vfm_isbench.cli.options import Subparsers, add_data_root_option, add_replacement_options, load_options
from vfm_isbench.cli.plot import add_output_options, save
from vfm_isbench.cli.terminal import say
from vfm_isbench.datasets import open_dataset
from vfm_isbench.errors import PictureError
from vfm_isbench.registry.registry import unknown_name
from vfm_isbench.results import Result, load_result
from vfm_isbench.runs import TrainedProbe, load_trained

_WORST = 8


def add_show(commands: Subparsers) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "show",
        help="draw objects of a result (clicks, prediction, errors), or print a table of its scores",
        description="Draws objects of a result with their clicks. A result stores no predictions; its checkpoint "
        "recomputes them from the recorded clicks. With --columns or --by-size, prints a table instead.",
    )
    parser.set_defaults(function=show_command)
    parser.add_argument("result", type=Path, metavar="RESULT", help="result.json, or a run folder")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--worst", type=int, metavar="N", help=f"the N worst by NoC90, then by IoU (default: {_WORST})")
    which.add_argument("--best", type=int, metavar="N", help="the N best")
    which.add_argument("--objects", nargs="+", metavar="ID", help="these objects, each as IMAGE or IMAGE:INSTANCE")
    parser.add_argument("--dataset", metavar="NAME", help="data set (default: the result's first)")
    add_data_root_option(parser)
    parser.add_argument("--click", type=int, metavar="K", help="show the objects after click K (default: the last)")
    parser.add_argument(
        "--checkpoint", type=Path, metavar="PATH", help="recomputes the predictions (default: that of the run folder)"
    )
    parser.add_argument("--no-replay", action="store_true", help="do not show predictions")
    parser.add_argument(
        "--columns",
        type=lambda text: text.split(","),
        metavar="NAME,…",
        help="print a table with these columns: noc95, nof90, iou_auc, iou@5, boundary_iou@5, gflops, parameters, …",
    )
    parser.add_argument(
        "--by-size", action="store_true", help="print a table with a row for small, medium and large objects"
    )
    add_replacement_options(parser)
    add_output_options(parser, "a PNG")


def show_command(arguments: argparse.Namespace) -> None:
    """``vfm-isbench show``."""
    if arguments.columns or arguments.by_size:
        say(load_result(arguments.result).table(arguments.columns, by_size=arguments.by_size))
        return
    # Imported here because matplotlib is optional, and most commands do not need it.
    from vfm_isbench.inspection.replay import shown_objects
    from vfm_isbench.viz import best_objects, contact_sheet, find_objects, worst_objects

    result = load_result(arguments.result)
    if not result.datasets:
        raise PictureError(f"{arguments.result} has no data set, so there is nothing to show")
    name = next(iter(result.datasets)) if arguments.dataset is None else arguments.dataset
    if name not in result.datasets:
        raise unknown_name("data set of this result", name, list(result.datasets))
    found = result.datasets[name]
    if arguments.objects:
        chosen, how = find_objects(found, arguments.objects), "objects"
    elif arguments.best is not None:
        chosen, how = best_objects(found, arguments.best), "best"
    else:
        chosen, how = worst_objects(found, _WORST if arguments.worst is None else arguments.worst), "worst"
    dataset = open_dataset(name, "test", arguments.data_root, result.protocol)
    loaded, remarks = _predictor(arguments)
    shown = shown_objects(
        chosen, dataset, result.protocol, probe=None if loaded is None else loaded.probe, click=arguments.click
    )
    differing = sum(object_.differs for object_ in shown)
    if differing:
        remarks.append(f"{differing} of {len(shown)} predictions differ from the measured ones.")
    figure = contact_sheet(shown, title=_title(result, name, how, len(shown)), remarks=remarks)
    stem = re.sub(r"\W+", "-", f"{how}-{result.upsampler.get('name', 'unnamed')}-{name}").strip("-")[:80]
    save(figure, arguments, stem, result.signature(), formats=("png",))


def _title(result: Result, dataset: str, how: str, count: int) -> str:
    from vfm_isbench.viz.canvas import plain

    what = {"objects": f"{count} objects", "best": f"the {count} best objects", "worst": f"the {count} worst objects"}
    return f"{plain(result.upsampler.get('name', 'unnamed'))} on {plain(dataset)}: {what[how]}"


def _predictor(arguments: argparse.Namespace) -> tuple[TrainedProbe | None, list[str]]:
    """The checkpoint that recomputes predictions, if any, and remarks about it for the picture."""
    if arguments.no_replay:
        return None, ["Predictions were left out."]
    folder = arguments.result if arguments.result.is_dir() else arguments.result.parent
    path = arguments.checkpoint or folder / "checkpoint.safetensors"
    if arguments.checkpoint is None and not path.is_file():
        return None, ["No predictions: there is no checkpoint beside the result (give one with --checkpoint PATH)."]
    loaded = load_trained(
        path,
        upsampler=arguments.upsampler,
        backbone_weights=arguments.backbone_weights,
        random_weights=arguments.random_weights,
        load_options=load_options(arguments),
        device=arguments.device,
    )
    return loaded, [f"Note: {note}." for note in loaded.notes]
