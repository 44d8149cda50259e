"""Does interactive segmentation order upsamplers as other probes do?

    python benchmarks/recipes/study_other_tasks.py

It measures the same upsamplers on the same frozen features by NoC90 (interactive segmentation), by the mIoU of a linear
probe (semantic segmentation, on the scenes' patterns and on label maps of photographs), and by two measures of features
that need no training. Then it correlates the orders, and asks some upsamplers for other output sizes. Results and
figures go into ``benchmarks/studies/other-tasks/``, the page is ``docs/studies/other-tasks.md``.

``--photographs DIR`` (a folder with ``SBD/``) makes label maps of object and background from instance masks;
``--label-maps TRAIN TEST`` takes existing label maps. Photographs are never kept, only figures are.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from study.cases import Case, add_arguments, run_cases, run_study, study_protocol
from study.kept import REPOSITORY, keep, keep_figures, kept_figures, ranked
from study.page import table, write_page
from study.probes import SemanticCase, counts_of, object_label_maps, run_probes
from study.statistics import kendall_tau, mean, scores_of

from vfm_isbench import Protocol, Result
from vfm_isbench.semantic import SemanticResult
from vfm_isbench.semantic.rank_agreement import (
    DRAWS,
    Interval,
    mean_iou_difference,
    mean_iou_interval,
    rank_correlation,
)

NAME = "other-tasks"
PICTURE = REPOSITORY / "docs" / "images" / "study-other-tasks.png"

UPSAMPLERS = ("nearest", "bilinear", "bicubic", "lanczos", "guided_filter", "jbu")
SWEPT = ("bilinear", "guided_filter", "jbu")
CLICKED_AT_SIZES = ("jbu",)
"""Of those, the ones whose NoC is measured at every size too: a run takes minutes, a semantic probe does not."""
SHARES = (0.25, 0.5, 2.0)
"""Output sizes relative to the input: 56, 112 and 448 at 224 pixels. The size 1 is the usual run."""
_NOTHING = "Not measured yet."


def at_size(upsampler: str, size: int) -> str:
    """The name of an upsampler that is asked for a size."""
    return f"vfm_isbench.semantic.at_size:AtSize?upsampler={upsampler}&size={size}"


def sizes(protocol: Protocol) -> list[int]:
    """Output sizes of the sweep in pixels, without that of the input."""
    return [round(share * protocol.image_size) for share in SHARES]


def clicked_cases(arguments: argparse.Namespace, there: Collection[str] = ()) -> list[Case]:
    """Runs of the benchmark.

    Args:
        arguments: Of the command line.
        there: Upsamplers whose results the leaderboard's entries have.
    """
    protocol = study_protocol(arguments)
    named = {**{name: name for name in arguments.upsamplers}, **dict(arguments.also)}
    return [Case(label=label, upsampler=spec, protocol=protocol) for label, spec in named.items() if label not in there]


def clicked_size_cases(arguments: argparse.Namespace) -> list[Case]:
    """Runs of the benchmark at other output sizes."""
    protocol = study_protocol(arguments)
    return [
        Case(label=f"{name}@{size}px", upsampler=at_size(name, size), protocol=protocol)
        for name in CLICKED_AT_SIZES
        for size in sizes(protocol)
    ]


def semantic_cases(arguments: argparse.Namespace, photographs: tuple[str, ...] = ()) -> list[SemanticCase]:
    """All semantic probes: on scenes, at other sizes, and on photographs."""
    named = {**{name: name for name in arguments.upsamplers}, **dict(arguments.also)}
    found = [SemanticCase(label=label, upsampler=spec) for label, spec in named.items()]
    found += [
        SemanticCase(label=f"{name}@{size}px", upsampler=at_size(name, size))
        for name in SWEPT
        for size in sizes(study_protocol(arguments))
    ]
    if photographs:
        found += [
            SemanticCase(label=f"{label}, photographs", upsampler=spec, data=photographs)
            for label, spec in named.items()
        ]
    return found


def figures_of(
    clicked: Mapping[str, Sequence[Result]],
    probed: Mapping[str, Sequence[SemanticResult]],
    labels: Sequence[str],
    draws: int = DRAWS,
) -> dict[str, Any]:
    """Every figure of the page, from results of both tasks.

    Args:
        clicked: Results of the benchmark.
        probed: Results of the semantic probe.
        labels: The upsamplers to compare, without sizes.
        draws: Bootstrap samples.
    """
    both = [label for label in labels if label in clicked and label in probed]
    scores, images_of_objects = scores_of({label: clicked[label] for label in both}, "noc90")
    figures: dict[str, Any] = {"upsamplers": both, "noc90": {}, "correlations": {}}
    for label, results in clicked.items():
        found = mean(results, "noc90")
        figures["noc90"][label] = [found.value, found.low, found.high]
    for name, ending in (("scenes", ""), ("photographs", ", photographs")):
        here = {label: probed[label + ending] for label in both if label + ending in probed}
        if len(here) < len(both):
            continue
        counts, images = counts_of(here)
        correlation = rank_correlation(counts, images, scores, images_of_objects, draws=draws)
        figures["correlations"][f"mIoU on {name}"] = _numbers(correlation)
        figures[name] = _task(here, counts, list(here).index("bilinear"), draws)
    for measure in ("sharpness", "agreement"):
        per_object = _per_object(measure, probed, both, images_of_objects)
        if per_object is not None:
            repeated = np.broadcast_to(per_object[:, None], scores.shape)
            figures["correlations"][measure] = list(kendall_tau(-scores, repeated, images_of_objects, draws))
    figures["sizes"] = {
        label: _numbers(mean_iou_interval(counts_of({label: results})[0][0], draws))
        for label, results in probed.items()
        if label.endswith("px") or label in SWEPT
    }
    return figures


def _numbers(found: Interval) -> list[float]:
    return [found.value, found.low, found.high]


def _task(results: Mapping[str, Sequence[SemanticResult]], counts: Any, usual: int, draws: int) -> dict[str, Any]:
    return {
        label: {
            "mean_iou": _numbers(mean_iou_interval(counts[place], draws)),
            "against_bilinear": _numbers(mean_iou_difference(counts[usual], counts[place], draws)),
            "sharpness": runs[0].sharpness,
            "agreement": runs[0].agreement,
        }
        for place, (label, runs) in enumerate(results.items())
    }


def _per_object(
    measure: str, probed: Mapping[str, Sequence[SemanticResult]], labels: Sequence[str], images: Sequence[str]
) -> Any:
    """A measure of features for the image of each object, cases×objects; None if an image has none."""
    rows = []
    for label in labels:
        of_image = {image.image_id: getattr(image, measure) for image in probed[label][0].images}
        if any(of_image.get(image) is None for image in images):
            return None
        rows.append([of_image[image] for image in images])
    return np.array(rows)


def blocks() -> dict[str, str]:
    """The figures of the page."""
    figures = kept_figures(NAME)
    if not figures:
        return dict.fromkeys(("tasks", "correlations", "sizes"), _NOTHING)
    picture = f"\n\n![NoC90 against mIoU](../images/{PICTURE.name})" if PICTURE.is_file() else ""
    return {"tasks": _tasks(figures) + picture, "correlations": _correlations(figures), "sizes": _sizes(figures)}


def _shown(numbers: Sequence[float], scale: float = 1, form: str = ".2f") -> str:
    if not all(map(math.isfinite, numbers)):
        return "–"
    value, low, high = (f"{scale * number:{form}}".replace("-", "−") for number in numbers)
    return f"{value} [{low}, {high}]"


def _tasks(figures: Mapping[str, Any]) -> str:
    tasks = [name for name in ("scenes", "photographs") if name in figures]
    head = ["upsampler", "NoC90"]
    for name in tasks:
        head += [f"mIoU, {name}", "against bilinear"]
    rows = [[*head, "sharpness", "agreement"]]
    for label in sorted(figures["upsamplers"], key=lambda label: figures["noc90"][label][0]):
        row = [label, _shown(figures["noc90"][label])]
        for name in tasks:
            found = figures[name][label]
            row += [_shown(found["mean_iou"], 100, ".1f"), _shown(found["against_bilinear"], 100, "+.1f")]
        found = figures["scenes"][label]
        sharpness = "–" if found["sharpness"] is None else f"{found['sharpness']:.2f}"
        rows.append([*row, sharpness, f"{found['agreement']:.3f}"])
    return table(rows)


def _correlations(figures: Mapping[str, Any]) -> str:
    rows = [["with NoC90", "Kendall's τ"]]
    rows += [[name, _shown(numbers)] for name, numbers in figures["correlations"].items()]
    return table(rows)


def _sizes(figures: Mapping[str, Any]) -> str:
    side = {label: int(label.partition("@")[2].removesuffix("px") or 0) for label in figures["sizes"]}
    every = [0, *sorted({size for size in side.values() if size})]
    rows = [["output size", *(f"{name}, mIoU" for name in SWEPT), *(f"{name}, NoC90" for name in CLICKED_AT_SIZES)]]
    for size in every:
        ending = f"@{size}px" if size else ""
        row = [f"{size} px" if size else "the input's"]
        row += [_shown(figures["sizes"].get(name + ending, [math.nan] * 3), 100, ".1f") for name in SWEPT]
        row += [_shown(figures["noc90"].get(name + ending, [math.nan] * 3)) for name in CLICKED_AT_SIZES]
        rows.append(row)
    return table(rows)


def draw(figures: Mapping[str, Any], path: Path) -> None:
    """A scatter of the upsamplers: NoC90 against mIoU, with their intervals."""
    from vfm_isbench.viz.canvas import grid_of_axes, new_figure, own_style, save_figure

    tasks = [name for name in ("scenes", "photographs") if name in figures]
    with own_style():
        figure = new_figure(4.2 * len(tasks), 3.6)
        for panel, name in zip(grid_of_axes(figure, 1, len(tasks), len(tasks)), tasks, strict=True):
            for label in figures["upsamplers"]:
                x, left, right = figures["noc90"][label]
                y, low, high = (100 * number for number in figures[name][label]["mean_iou"])
                spread = {"xerr": [[x - left], [right - x]], "yerr": [[y - low], [high - y]]}
                panel.errorbar(x, y, fmt="o", markersize=4, elinewidth=0.8, **spread)
                panel.annotate(label, (x, y), (4, 4), textcoords="offset points", fontsize=7)
            panel.set_title(f"mIoU on {name}", loc="left")
            panel.set_xlabel("NoC90 (clicks, fewer is better)")
            panel.set_ylabel("mIoU of the linear probe (%)")
        save_figure(figure, path, description="NoC90 and mIoU of the same upsamplers, with 95 % intervals")


def main(words: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser, NAME)
    parser.add_argument("--upsamplers", nargs="+", default=UPSAMPLERS)
    parser.add_argument(
        "--also", nargs=2, action="append", default=[], metavar=("LABEL", "SPEC"), help="a further upsampler"
    )
    parser.add_argument("--size-seeds", nargs="+", type=int, help="seeds of the runs at other sizes (default: all)")
    parser.add_argument("--photographs", type=Path, metavar="DIR", help="folder with SBD/: object against background")
    parser.add_argument("--label-maps", nargs=2, metavar=("TRAIN", "TEST"), help="label maps, each as folder:PATH")
    arguments = parser.parse_args(words)
    if not arguments.only_page:
        photographs = tuple(arguments.label_maps or ())
        if arguments.photographs is not None:
            photographs = object_label_maps(arguments.photographs, arguments.output / "photographs")
        probed = run_probes(semantic_cases(arguments, photographs), arguments)
        there = ranked(study_protocol(arguments))
        own = run_cases(clicked_cases(arguments, there), arguments).results
        at_sizes = argparse.Namespace(**vars(arguments) | {"seeds": arguments.size_seeds or arguments.seeds})
        swept = run_cases(clicked_size_cases(arguments), at_sizes).results
        keep(NAME, {**own, **swept})
        labels = [*arguments.upsamplers, *dict(arguments.also)]
        keep_figures(NAME, figures_of({**there, **own, **swept}, probed, labels))
        draw(kept_figures(NAME), PICTURE)
    write_page(NAME, blocks())


if __name__ == "__main__":
    run_study(main)
