"""Evaluate trained probes with other click patterns: how far NoC90 moves, and whether the order of upsamplers stays.

``python benchmarks/recipes/study_clicks.py``: see docs/studies/click-patterns.md. No probe is trained again: the runs
are evaluated with ``vfm-isbench eval --clicker``.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from study.cases import Case, Runs, add_arguments, commands, run_cases, run_study
from study.kept import keep, keep_figures, kept_figures
from study.page import PAGES, table, write_page
from study.statistics import kendall_tau, shown

from vfm_isbench import Protocol, Result, VfmIsbenchError
from vfm_isbench.metrics import number_of_clicks
from vfm_isbench.results.intervals import Estimate, estimate_mean
from vfm_isbench.storage.atomic import replacing
from vfm_isbench.types import Array

NAME = "click-patterns"
UPSAMPLERS = ("nearest", "bilinear", "bicubic", "jbu")
PATTERNS = (
    "center",
    "random",
    "boundary",
    "clustered",
    "jitter:5",
    "jitter:15",
    "realistic",
    "mix:center=0.5,random=0.3,boundary=0.2",
)
BAND = ("worst_of:3", "best_of:3")
OBJECTS, OBJECTS_OF_BAND = 128, 48
"""Objects per evaluation; a pattern that tries three clicks costs four predictions per click."""


def cases(protocol: Protocol) -> list[Case]:
    """The trained probes."""
    return [Case(label=upsampler, upsampler=upsampler, protocol=protocol) for upsampler in UPSAMPLERS]


def evaluate(runs: Runs, arguments: argparse.Namespace) -> dict[str, dict[str, list[Result]]]:
    """Evaluate every run under every pattern, unless that is done; results by pattern and upsampler."""
    objects = {**dict.fromkeys(PATTERNS, OBJECTS), **dict.fromkeys(BAND, OBJECTS_OF_BAND)}
    words: dict[Path, list[str]] = {}
    files: dict[str, dict[str, list[Path]]] = {pattern: {} for pattern in objects}
    for pattern, count in objects.items():
        limit = count if arguments.limit is None else min(count, arguments.limit)
        for upsampler, folders in runs.folders.items():
            for folder in folders:
                slug = pattern.replace(":", "-").replace("=", "").replace(",", "-")
                file = arguments.output / "patterns" / f"{folder.name}-{slug}-{limit}.json"
                files[pattern].setdefault(upsampler, []).append(file)
                data = ["--data-root", str(arguments.data_root)] if arguments.data_root else []
                words[file] = [
                    "eval", str(folder), "--clicker", pattern, "--limit", str(limit), "--output", str(file),
                    "--device", arguments.device, "--quiet", *data,
                ]  # fmt: skip

    todo = [file for file in words if not file.is_file()]
    (arguments.output / "patterns").mkdir(parents=True, exist_ok=True)
    for file, reason in zip(todo, commands([words[file] for file in todo], arguments), strict=True):
        if reason:
            print(f"failed: {file.name}: {reason}", file=sys.stderr)
    missing = [str(file) for file in words if not file.is_file()]
    if missing:
        raise VfmIsbenchError(f"{len(missing)} evaluations failed, such as {missing[0]}; the same command tries again")
    return {
        pattern: {upsampler: [Result.load(file) for file in of_seeds] for upsampler, of_seeds in found.items()}
        for pattern, found in files.items()
    }


def figures_of(found: Mapping[str, Mapping[str, Sequence[Result]]]) -> dict[str, Any]:
    """NoC90 of every object, and the rank correlations, which take too long for :func:`blocks`."""
    first = found["center"][UPSAMPLERS[0]][0]
    dataset = next(iter(first.datasets))
    images = [object_id.image for object_id in first.datasets[dataset].object_ids]
    scores = {
        pattern: {
            upsampler: [number_of_clicks(result.datasets[dataset].ious, 0.9).tolist() for result in results]
            for upsampler, results in of_pattern.items()
        }
        for pattern, of_pattern in found.items()
    }
    center = np.array(list(scores["center"].values()))
    taus = {}
    for pattern, of_pattern in scores.items():
        other = np.array(list(of_pattern.values()))
        count = other.shape[2]
        found_tau = kendall_tau(center[:, :, :count], other, images[:count])
        # With all upsamplers equal, τ is not defined.
        taus[pattern] = [value if math.isfinite(value) else None for value in found_tau]
    return {"dataset": dataset, "images": images, "noc90": scores, "tau": taus, "protocol": first.protocol.label}


def blocks() -> dict[str, str]:
    """The figures of the page, from what is kept."""
    figures = kept_figures(NAME)
    if not figures:
        return dict.fromkeys(("picture", "patterns", "changes", "ranks", "band"), "Not measured yet.")
    scores = {
        pattern: {upsampler: np.array(rows, dtype=float) for upsampler, rows in of_pattern.items()}
        for pattern, of_pattern in figures["noc90"].items()
    }
    images, names = figures["images"], list(scores["center"])
    return {
        "picture": f"![NoC90 by click pattern and upsampler, with 95 % intervals](images/{NAME}.png)",
        "patterns": _patterns(scores, images, names),
        "changes": _changes(scores, images, names),
        "ranks": _ranks(scores, figures["tau"], names),
        "band": _band(scores, images, names),
    }


Scores = Mapping[str, Mapping[str, Array]]


def _mean(scores: Array, images: Sequence[str]) -> Estimate:
    return estimate_mean(scores, images[: scores.shape[1]])


def _patterns(scores: Scores, images: Sequence[str], names: Sequence[str]) -> str:
    rows = [["Pattern", *names]]
    for pattern in PATTERNS:
        rows.append([f"`{pattern}`", *(shown(_mean(scores[pattern][name], images), signed=False) for name in names)])
    means = np.array([[scores[pattern][name].mean() for name in names] for pattern in PATTERNS])
    rows.append(["mean over patterns", *(f"{value:.2f}" for value in means.mean(axis=0))])
    rows.append(["standard deviation over patterns", *(f"{value:.2f}" for value in means.std(axis=0, ddof=1))])
    return table(rows)


def _changes(scores: Scores, images: Sequence[str], names: Sequence[str]) -> str:
    rows = [["Pattern", *names]]
    for pattern in PATTERNS[1:]:
        changes = [scores[pattern][name] - scores["center"][name] for name in names]
        rows.append([f"`{pattern}`", *(shown(_mean(change, images)) for change in changes)])
    return table(rows)


def _ranks(scores: Scores, taus: Mapping[str, Sequence[float | None]], names: Sequence[str]) -> str:
    rows = [["Pattern", "order, best first", "τ", "95 % interval"]]
    for pattern in (*PATTERNS, *BAND):
        order = sorted(names, key=lambda name: float(scores[pattern][name].mean()))
        value, low, high = (
            "undefined" if number is None else f"{number:.2f}".replace("-", "−") for number in taus[pattern]
        )
        rows.append([f"`{pattern}`", ", ".join(order), value, f"{low} to {high}"])
    return table(rows, text_columns=2)


def _band(scores: Scores, images: Sequence[str], names: Sequence[str]) -> str:
    worst, best = (scores[pattern] for pattern in BAND)
    rows = [["Upsampler", f"`{BAND[1]}`", "`center`, same objects", f"`{BAND[0]}`", "worst − best"]]
    for name in names:
        center = scores["center"][name][:, : worst[name].shape[1]]
        cells = [shown(_mean(found, images), signed=False) for found in (best[name], center, worst[name])]
        rows.append([name, *cells, shown(_mean(worst[name] - best[name], images))])
    return table(rows)


def draw(file: Path) -> None:
    """NoC90 by pattern and upsampler, with intervals."""
    from matplotlib.figure import Figure

    figures = kept_figures(NAME)
    patterns = [*PATTERNS, *BAND]
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    axes = figure.subplots()
    names = list(figures["noc90"]["center"])
    for number, name in enumerate(names):
        estimates = [_mean(np.array(figures["noc90"][one][name], dtype=float), figures["images"]) for one in patterns]
        values = np.array([estimate.value for estimate in estimates])
        errors = [
            values - [estimate.low for estimate in estimates],
            np.array([estimate.high for estimate in estimates]) - values,
        ]
        places = np.arange(len(patterns)) + (number - (len(names) - 1) / 2) * 0.18
        axes.errorbar(places, values, yerr=errors, fmt="o", markersize=4, capsize=2, label=name)
    axes.set_xticks(range(len(patterns)), [one.split(":center")[0] for one in patterns], rotation=20)
    axes.set_ylabel("NoC90 (fewer is better)")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(ncols=len(names), frameon=False)
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as partial:
        figure.savefig(partial, dpi=110, format="png")


def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, NAME)
    arguments = parser.parse_args()
    if not arguments.only_page:
        runs = run_cases(cases(Protocol.preset(arguments.protocol)), arguments)
        if runs.skipped:
            raise VfmIsbenchError(f"not all probes are trained: {runs.skipped}")
        found = evaluate(runs, arguments)
        keep(NAME, {f"{name} {pattern}": results for pattern, of in found.items() for name, results in of.items()})
        keep_figures(NAME, figures_of(found))
    write_page(NAME, blocks())
    if kept_figures(NAME):
        draw(PAGES / "images" / f"{NAME}.png")


if __name__ == "__main__":
    run_study(main)
