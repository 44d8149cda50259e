"""Do learned upsamplers that were really trained beat interpolation? Scenes and held-out photographs.

    python benchmarks/recipes/study_trained_upsamplers.py --upsamplers runs/upsamplers --data-root DATA

``runs/upsamplers`` holds lift.safetensors, jbu.safetensors and loftup.safetensors of ``train_upsampler.py``, with the
JSON files beside them. The interpolations are taken from the leaderboard's entries if these have the protocol. For the
photographs, the probes of all upsamplers are needed: ``--reuse FOLDER`` names the folder of run folders that
``demo.py`` left, as NAME-seedN, and without it they are run. ``DATA`` contains the photographs in the layouts of
``--photographs``; without it, only scenes are evaluated.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from study.cases import Case, Runs, add_arguments, parallel, run_cases, run_study, study_protocol, vfm_isbench
from study.kept import keep, keep_figures, kept, kept_figures, ranked
from study.page import table, write_page
from study.statistics import mean, mean_difference, shown

from vfm_isbench import Protocol, Result
from vfm_isbench.results.intervals import Estimate, estimate_mean
from vfm_isbench.results.object_scores import Metric
from vfm_isbench.results.sides import Pair, side_of
from vfm_isbench.storage.strict_json import read_json

NAME = "trained-upsamplers"
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "jbu")
TRAINED = {"lift": "LiFT", "jbu": "FeatUp-JBU", "loftup": "LoftUp"}
KINDS = {"lift": "lift", "jbu": "featup", "loftup": "loftup"}
BASELINE = "bilinear"
METRICS = {"mean_iou": "IoU in points", "noc80": "NoC80", "noc90": "NoC90"}


def cases(protocol: Protocol, upsamplers: Path) -> list[Case]:
    """The three trained upsamplers."""
    return [
        Case(label=label, upsampler=f"{KINDS[file]}:{upsamplers / f'{file}.safetensors'}", protocol=protocol)
        for file, label in TRAINED.items()
    ]


def interpolations(protocol: Protocol) -> list[Case]:
    """What they are compared with."""
    return [Case(label=name, upsampler=name, protocol=protocol) for name in INTERPOLATIONS]


def on_photographs(runs: Sequence[Runs], specs: Mapping[str, str], arguments: argparse.Namespace) -> dict[str, Any]:
    """Evaluate every trained probe on the photographs; the scores of all objects, by metric and label.

    Returns:
        ``images``, the image of each object, and for each metric and label a list per seed of a score per object.
    """
    folders = {label: members for group in runs for label, members in group.folders.items()}
    of_folder = {folder: label for label, members in folders.items() for folder in members}

    def evaluate(folder: Path) -> None:
        words = ["eval", str(folder), "--datasets", *arguments.photographs, "--data-root", str(arguments.data_root)]
        words += ["--device", arguments.device, "--output", str(_evaluated(arguments, folder)), "--quiet"]
        # A checkpoint names the file of its upsampler, not the folder.
        words += ["--upsampler", specs[of_folder[folder]]] if of_folder[folder] in specs else []
        if reason := vfm_isbench(words, arguments.jobs):
            print(f"skipped: {folder}: {reason}", file=sys.stderr)

    (arguments.output / "photographs").mkdir(parents=True, exist_ok=True)
    parallel(evaluate, [one for one in of_folder if not _evaluated(arguments, one).is_file()], arguments)
    results = {
        label: [Result.load(_evaluated(arguments, folder)) for folder in members]
        for label, members in folders.items()
        if all(_evaluated(arguments, folder).is_file() for folder in members)
    }
    return scores_of_photographs(results, arguments.photographs)


def scores_of_photographs(results: Mapping[str, Sequence[Result]], datasets: Sequence[str]) -> dict[str, Any]:
    """The scores of all objects of several test sets; see :func:`on_photographs`."""
    found: dict[str, Any] = {"images": [], "scores": {metric: {} for metric in METRICS}}
    for label, members in results.items():
        sides = side_of(list(members))
        pairs = [Pair.of(sides, sides, dataset) for dataset in datasets]
        found["images"] = [
            f"{dataset}/{image}" for dataset, pair in zip(datasets, pairs, strict=True) for image in pair.images
        ]
        for metric in METRICS:
            scores = np.concatenate([pair.scores(Metric.named(metric))[0] for pair in pairs], axis=1)
            found["scores"][metric][label] = np.round(scores, 5).tolist()
    return found


def _evaluated(arguments: argparse.Namespace, folder: Path) -> Path:
    output: Path = arguments.output
    return output / "photographs" / f"{folder.name}.json"


def difference_on_photographs(figures: Mapping[str, Any], metric: str, first: str, second: str) -> Estimate:
    """Second minus first, paired by object and seed."""
    scores = figures["scores"][metric]
    return estimate_mean(np.array(scores[second]) - np.array(scores[first]), figures["images"])


def blocks() -> dict[str, str]:
    """The figures of the page, from what is kept."""
    figures = kept_figures(NAME)
    trained = kept(NAME)
    scenes = {**ranked(Protocol.preset("demo")), **trained}
    scenes = {label: scenes[label] for label in (*INTERPOLATIONS, *TRAINED.values()) if label in scenes}
    return {
        "training": _training(figures.get("training", {})),
        "features": _features(figures.get("training", {})),
        "scenes": _on_scenes(scenes),
        "photographs": _on_photographs(figures.get("photographs")),
    }


def _training(reports: Mapping[str, Any]) -> str:
    rows = [["upsampler", "photographs", "scenes", "crops", "steps", "batch", "first loss", "last loss", "CPU min"]]
    for file, report in reports.items():
        settings, curve = report["settings"], report["curve"]
        counts = [str(report["pictures"].get(kind, 0)) for kind in ("photographs", "scenes")]
        numbers = [str(settings[name]) for name in ("crops", "steps", "batch_size")]
        losses = [f"{loss:.3f}" for loss in (curve[0][1], curve[-1][1])]
        rows.append([TRAINED[file], *counts, *numbers, *losses, f"{report['seconds']['cpu'] / 60:.1f}"])
    return table(rows) if len(rows) > 1 else "(not trained yet)"


def _features(reports: Mapping[str, Any]) -> str:
    """Relative errors of held-out features; the interpolations are the same in every report."""
    errors: dict[str, dict[tuple[str, str], float]] = {}
    for file, report in reports.items():
        for entry in report["held_out"]:
            label = TRAINED[file] if entry["upsampler"] == "trained" else entry["upsampler"]
            errors.setdefault(label, {})[entry["pictures"], entry["wanted"]] = entry["error"]
    if not errors:
        return "(not trained yet)"
    columns = list(next(iter(errors.values())))
    best = {column: min(errors[label][column] for label in errors) for column in columns}
    rows = [["upsampler", *(f"{pictures}, {wanted}" for pictures, wanted in columns)]]
    for label in (*INTERPOLATIONS, *TRAINED.values()):
        if label in errors:
            cells = [(errors[label][column], best[column]) for column in columns]
            rows.append([label, *(f"**{value:.3f}**" if value == low else f"{value:.3f}" for value, low in cells)])
    return table(rows)


def _on_scenes(results: Mapping[str, Sequence[Result]]) -> str:
    rows = [["upsampler", "mean IoU in %", *_headings()]]
    for label, members in results.items():
        cells = [shown(mean(members, "mean_iou"), percent=True, signed=False)]
        for metric in METRICS:
            if label == BASELINE or BASELINE not in results:
                cells.append("–")
            else:
                difference = mean_difference(results[BASELINE], members, metric)
                cells.append(shown(difference, percent=metric == "mean_iou"))
        rows.append([label, *cells])
    return table(rows)


def _on_photographs(figures: Mapping[str, Any] | None) -> str:
    if figures is None:
        return "(not evaluated yet)"
    rows = [["upsampler", "mean IoU in %", *_headings()]]
    for label, scores in figures["scores"]["mean_iou"].items():
        cells = [shown(estimate_mean(np.array(scores), figures["images"], limits=(0, 1)), percent=True, signed=False)]
        for metric in METRICS:
            if label == BASELINE:
                cells.append("–")
            else:
                difference = difference_on_photographs(figures, metric, BASELINE, label)
                cells.append(shown(difference, percent=metric == "mean_iou"))
        rows.append([label, *cells])
    return table(rows)


def _headings() -> list[str]:
    return [
        f"{title} − {BASELINE}" + (" in points" if metric == "mean_iou" else "") for metric, title in METRICS.items()
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, NAME)
    parser.add_argument("--upsamplers", type=Path, default=Path("runs/upsamplers"), help="folder of the trained ones")
    parser.add_argument("--reuse", type=Path, help="folder of the interpolations' run folders")
    parser.add_argument("--photographs", nargs="+", default=["grabcut", "berkeley", "davis"], metavar="DATASET")
    options = parser.parse_args(arguments)
    if not options.only_page:
        protocol = study_protocol(options)
        learned = cases(protocol, options.upsamplers)
        for file in TRAINED:
            if not (options.upsamplers / f"{file}.safetensors").is_file():
                sys.exit(
                    f"{options.upsamplers} lacks {file}.safetensors; make FILE with "
                    f"python benchmarks/recipes/train_upsampler.py {file} --output FILE"
                )
        trained = run_cases(learned, options)
        known = ranked(protocol)
        plain = Runs()
        if options.data_root or options.reuse or not set(INTERPOLATIONS) <= set(known):
            place = {**vars(options), "output": options.reuse or options.output}
            plain = run_cases(interpolations(protocol), argparse.Namespace(**place))
        keep(NAME, trained.results | {name: runs for name, runs in plain.results.items() if name not in known})
        reports = {file: read_json(options.upsamplers / f"{file}.json") for file in TRAINED}
        keep_figures(NAME, {"training": reports})
        if options.data_root:
            specs = {case.label: case.upsampler for case in learned}
            keep_figures(NAME, {"photographs": on_photographs([plain, trained], specs, options)})
    write_page(NAME, blocks())


if __name__ == "__main__":
    run_study(main)
