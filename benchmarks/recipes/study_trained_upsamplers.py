"""Do learned upsamplers that were really trained beat interpolation? Scenes and held-out photographs.

    python benchmarks/recipes/study_trained_upsamplers.py --upsamplers runs/upsamplers --data-root DATA

``runs/upsamplers`` holds lift.safetensors, jbu.safetensors and loftup.safetensors of ``train_upsampler.py``, with the
JSON files beside them. ``DATA`` contains photographs in the layouts of SBD, GrabCut, Berkeley and DAVIS; without it,
only scenes are used. The interpolations' scores on scenes are taken from the leaderboard's entries. To evaluate their
probes on photographs, ``--reuse FOLDER`` names the folder of run folders that ``demo.py`` left, as NAME-seedN; without
it they are run again. With another protocol than the demo, all seven are run with its own data sets, and the table is
printed.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from study.cases import Case, Runs, add_arguments, parallel, run_cases, run_study, study_protocol, vfm_isbench
from study.kept import keep, keep_figures, kept, kept_figures, ranked
from study.page import table, write_page
from study.statistics import shown

from vfm_isbench import Protocol, Result
from vfm_isbench.results.intervals import Estimate, estimate_mean
from vfm_isbench.results.object_scores import Metric
from vfm_isbench.results.sides import Pair, side_of
from vfm_isbench.storage.strict_json import read_json
from vfm_isbench.types import Array

NAME = "trained-upsamplers"
PRESET = "demo"
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "jbu")
TRAINED = {"lift": "LiFT", "jbu": "FeatUp-JBU", "loftup": "LoftUp"}
KINDS = {"lift": "lift", "jbu": "featup", "loftup": "loftup"}
BASELINES = ("bilinear", "bicubic", "jbu")
SLOW = "FeatUp-JBU"
"""It takes ten times as long as the others: its output has four times the pixels of the image."""

METRICS = ("mean_iou", "noc80")
HELD_OUT = ("grabcut", "berkeley", "davis")

RESIZE_RANGE = (0.3, 0.6)
"""Of photographs in training: a crop of 96 pixels shows from half to all of a shorter side of 321 pixels."""

Estimates = dict[str, dict[str, list[float]]]
"""Value and interval by upsampler and column: a metric, or a metric and the baseline that it is compared with."""


def cases(protocol: Protocol, upsamplers: Path) -> list[Case]:
    """The three trained upsamplers."""
    return [
        Case(label=label, upsampler=f"{KINDS[file]}:{upsamplers / f'{file}.safetensors'}", protocol=protocol)
        for file, label in TRAINED.items()
    ]


def interpolations(protocol: Protocol) -> list[Case]:
    """What they are compared with."""
    return [Case(label=name, upsampler=name, protocol=protocol) for name in INTERPOLATIONS]


def trained_on_photographs(protocol: Protocol) -> Protocol:
    """The same probe, trained and tested on photographs."""
    return protocol.replace(
        train_dataset="sbd", validation_dataset="sbd", resize_range=RESIZE_RANGE, test_datasets=("sbd", *HELD_OUT)
    )


def estimates(results: Mapping[str, Sequence[Result]], datasets: Sequence[str]) -> Estimates:
    """Means and differences to the baselines, paired, over the objects of several test sets together.

    An upsampler that has fewer seeds than a baseline is compared with the baseline's results of these seeds.
    """
    found: Estimates = {label: {"seeds": [float(len(members))]} for label, members in results.items()}
    for metric in METRICS:
        scores = {label: _scores(members, datasets, metric) for label, members in results.items()}
        for label, (own, images) in scores.items():
            found[label][metric] = _numbers(estimate_mean(np.stack(list(own.values())), images))
            for baseline in BASELINES:
                other = scores[baseline][0] if baseline in scores else {}
                if label != baseline and own.keys() <= other.keys():
                    differences = np.stack([own[seed] - other[seed] for seed in own])
                    found[label][f"{metric} - {baseline}"] = _numbers(estimate_mean(differences, images))
    return found


def _scores(members: Sequence[Result], datasets: Sequence[str], metric: str) -> tuple[dict[int, Array], list[str]]:
    """Scores of all objects by seed, and the image of each object."""
    side = side_of(list(members))
    pairs = {dataset: Pair.of(side, side, dataset) for dataset in datasets}
    images = [f"{dataset}/{image}" for dataset, pair in pairs.items() for image in pair.images]
    rows = np.concatenate([pair.scores(Metric.named(metric))[0] for pair in pairs.values()], axis=1)
    return dict(zip(side.seeds, rows, strict=True)), images


def _numbers(estimate: Estimate) -> list[float]:
    return [round(value, 5) for value in (estimate.value, estimate.low, estimate.high)]


def in_order(results: Mapping[str, Sequence[Result]]) -> dict[str, Sequence[Result]]:
    """Interpolations first, then the trained ones."""
    return {label: results[label] for label in (*INTERPOLATIONS, *TRAINED.values()) if label in results}


def evaluated_on_photographs(
    runs: Sequence[Runs], specs: Mapping[str, str], arguments: argparse.Namespace
) -> dict[str, list[Result]]:
    """Evaluate probes that were trained on scenes on the photographs of the small test sets."""
    output = arguments.output / "scenes-to-photographs"
    output.mkdir(parents=True, exist_ok=True)
    folders = {label: members for group in runs for label, members in group.folders.items()}
    label_of = {folder: label for label, members in folders.items() for folder in members}

    def evaluate(folder: Path) -> None:
        words = ["eval", str(folder), "--datasets", *HELD_OUT, "--data-root", str(arguments.data_root), "--quiet"]
        words += ["--device", arguments.device, "--output", str(output / f"{folder.name}.json")]
        # A checkpoint names the file of its upsampler without its folder.
        words += ["--upsampler", specs[label_of[folder]]] if label_of[folder] in specs else []
        if reason := vfm_isbench(words, arguments.jobs):
            print(f"skipped: {folder}: {reason}", file=sys.stderr)

    parallel(evaluate, [folder for folder in label_of if not (output / f"{folder.name}.json").is_file()], arguments)
    files = {label: [output / f"{folder.name}.json" for folder in members] for label, members in folders.items()}
    there = {label: members for label, members in files.items() if all(file.is_file() for file in members)}
    return {label: [Result.load(file) for file in members] for label, members in there.items()}


def blocks() -> dict[str, str]:
    """The figures of the page, from what is kept."""
    figures = kept_figures(NAME)
    scenes = in_order({**ranked(Protocol.preset(PRESET)), **kept(NAME)})
    return {
        "training": training_table(figures.get("training", {})),
        "features": feature_table(figures.get("training", {})),
        "mirrored": mirrored_line(figures.get("training", {})),
        "scenes": score_table(estimates(scenes, Protocol.preset(PRESET).test_datasets)),
        "photographs": score_table(figures.get("photographs", {})),
        "transfer": score_table(figures.get("scenes to photographs", {})),
    }


def training_table(reports: Mapping[str, Any]) -> str:
    """How the upsamplers were trained."""
    rows = [
        [
            "upsampler",
            "photographs",
            "scenes",
            "crops",
            "steps",
            "batch",
            "first loss",
            "last loss",
            "CPU min",
            "guidance",
        ]
    ]
    for file, report in reports.items():
        settings, curve = report["settings"], report["curve"]
        counts = [str(report["pictures"].get(kind, 0)) for kind in ("photographs", "scenes")]
        numbers = [str(settings[name]) for name in ("crops", "steps", "batch_size")]
        losses = [f"{loss:.2f}" for loss in (curve[0][1], curve[-1][1])]
        effect = " / ".join(f"{value:.3f}" for value in report["guidance"].values())
        rows.append([TRAINED[file], *counts, *numbers, *losses, f"{report['seconds']['cpu'] / 60:.1f}", effect])
    return table(rows)


def feature_table(reports: Mapping[str, Any]) -> str:
    """Relative errors of held-out features; the interpolations are the same in every report."""
    errors: dict[str, dict[str, float]] = {}
    for file, report in reports.items():
        for entry in report["held_out"]:
            label = TRAINED[file] if entry["upsampler"] == "trained" else entry["upsampler"]
            errors.setdefault(label, {})[f"{entry['pictures']}, {entry['wanted']}"] = entry["error"]
    columns = list(next(iter(errors.values()), {}))
    best = {column: min(errors[label][column] for label in errors) for column in columns}
    rows = [["upsampler", *columns]]
    for label in (*INTERPOLATIONS, *TRAINED.values()):
        if label in errors:
            cells = [(errors[label][column], best[column]) for column in columns]
            rows.append([label, *(f"**{value:.3f}**" if value == low else f"{value:.3f}" for value, low in cells)])
    return table(rows)


def mirrored_line(reports: Mapping[str, Any]) -> str:
    """How far features of mirrored images are from mirrored features."""
    if not reports:
        return "(not trained yet)"
    found: dict[str, dict[str, float]] = next(iter(reports.values()))["mirrored"]
    shares = " and ".join(f"{entry['error']:.2f} on {pictures}" for pictures, entry in found.items())
    return f"The features of a mirrored image, mirrored back, have an error of {shares}."


def score_table(found: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """Scores with intervals, and differences to the baselines."""
    titles = {"mean_iou": "IoU", "noc80": "NoC80"}
    pairs = [("mean_iou", baseline) for baseline in BASELINES] + [("noc80", BASELINES[0])]
    rows = [["upsampler", "seeds", *titles.values(), *(f"{titles[metric]} − {baseline}" for metric, baseline in pairs)]]
    for label, columns in found.items():
        cells = [f"{columns['seeds'][0]:.0f}", f"{100 * columns['mean_iou'][0]:.1f}", f"{columns['noc80'][0]:.2f}"]
        for metric, baseline in pairs:
            numbers = columns.get(f"{metric} - {baseline}")
            cells.append("–" if numbers is None else shown(_estimate(numbers), percent=metric == "mean_iou"))
        rows.append([label, *cells])
    return table(rows)


def _estimate(numbers: Sequence[float]) -> Estimate:
    return Estimate(value=numbers[0], low=numbers[1], high=numbers[2], objects_error=math.nan, seeds_error=None)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, NAME)
    parser.add_argument("--upsamplers", type=Path, default=Path("runs/upsamplers"), help="folder of the trained ones")
    parser.add_argument("--reuse", type=Path, help="folder of the interpolations' run folders")
    parser.add_argument(
        "--photograph-seeds", nargs="+", type=int, default=[0, 1], help="seeds of the probes trained on photographs"
    )
    parser.add_argument("--slow-seeds", nargs="+", type=int, default=[0], help=f"seeds of {SLOW} (default: 0)")
    options = parser.parse_args(arguments)
    if not options.only_page:
        missing = [file for file in TRAINED if not (options.upsamplers / f"{file}.safetensors").is_file()]
        if missing:
            program = f"python benchmarks/recipes/train_upsampler.py {missing[0]} --output FILE"
            sys.exit(f"{options.upsamplers} lacks {missing[0]}.safetensors; make this FILE with {program}")
        protocol = study_protocol(options)
        if protocol.label.partition("@")[0] != PRESET:
            everything = [*interpolations(protocol), *cases(protocol, options.upsamplers)]
            found = run_all(everything, options, options.seeds, options.output)
            print(score_table(estimates(in_order(found.results), protocol.test_datasets)))
            return
        keep_figures(NAME, {"training": {file: read_json(options.upsamplers / f"{file}.json") for file in TRAINED}})
        run_demo(protocol, options)
    write_page(NAME, blocks())


def run_demo(protocol: Protocol, options: argparse.Namespace) -> None:
    """Do all runs of the demo's protocol, and keep what they give."""
    learned = cases(protocol, options.upsamplers)
    trained = run_all(learned, options, options.seeds, options.output)
    keep(NAME, trained.results)
    if options.data_root is None:
        return
    plain = run_all(interpolations(protocol), options, options.seeds, options.reuse or options.output)
    specs = {case.label: case.upsampler for case in learned}
    transferred = evaluated_on_photographs([plain, trained], specs, options)
    keep_figures(NAME, {"scenes to photographs": estimates(in_order(transferred), HELD_OUT)})
    other = trained_on_photographs(protocol)
    everything = [*interpolations(other), *cases(other, options.upsamplers)]
    found = run_all(everything, options, options.photograph_seeds, options.output / "photographs")
    keep_figures(NAME, {"photographs": estimates(in_order(found.results), other.test_datasets)})


def run_all(wanted: Sequence[Case], options: argparse.Namespace, seeds: Sequence[int], output: Path) -> Runs:
    """Run cases with some seeds, the slow upsampler with fewer of them."""
    fewer = [seed for seed in seeds if seed in options.slow_seeds]
    results: dict[str, Sequence[Result]] = {}
    folders: dict[str, Sequence[Path]] = {}
    for is_slow, own_seeds in ((False, seeds), (True, fewer)):
        chosen = [case for case in wanted if (case.label == SLOW) is is_slow]
        if chosen and own_seeds:
            found = run_cases(chosen, argparse.Namespace(**{**vars(options), "seeds": own_seeds, "output": output}))
            results |= found.results
            folders |= found.folders
    return Runs(results, folders)


if __name__ == "__main__":
    run_study(main)
