"""Compare short trainings with those recorded from the reference implementation; loss and IoU of each step.

    python benchmarks/parity/courses.py record
    python benchmarks/parity/courses.py compare
    python benchmarks/parity/courses.py first-losses
    python benchmarks/parity/courses.py draw --picture docs/images/training-courses.png

``record`` trains the courses of this library that are missing in ``benchmarks/parity/courses/``, about 140 seconds
each on one thread. The other commands make the tables and the picture of the page "Is it the same benchmark?".
They all need the recordings of the reference, in the folder that ``--shared`` names.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import torch

from vfm_isbench.storage.atomic import write_text

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "support"))

from course_statistics import (
    apart,
    compare,
    late_means,
    permutation_p_value,
    typical_spread,
    unequally_spread,
    window_means,
)
from training_courses import (
    LATE,
    OUR_SEEDS,
    OUR_SHARED_SEEDS,
    SHARED_SEEDS,
    STEPS,
    TRUE_SEEDS,
    WINDOW,
    Course,
    first_losses,
    our_course_path,
    our_courses,
    our_sharing_courses,
    recorded_courses,
    train_course,
)

SCORES = ("loss", "iou")


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Courses that are drawn alike.

    Attributes:
        label: Its name in the legend.
        short: The same in two short lines, for an axis.
        courses: Its courses.
    """

    label: str
    short: str
    courses: list[Course]


def groups(shared: Path) -> list[Group]:
    """The four groups of courses: true replicates and those that share initial weights, theirs and ours."""
    parity = shared / "parity"
    return [
        Group("reference", "reference", recorded_courses(parity, TRUE_SEEDS)),
        Group("this library", "this\nlibrary", our_courses()),
        Group("reference, same initial weights", "reference,\nsame\nstart", recorded_courses(parity, SHARED_SEEDS)),
        Group("this library, same initial weights", "this\nlibrary,\nsame\nstart", our_sharing_courses()),
    ]


def record(shared: Path, pairs: Sequence[tuple[int, int]]) -> None:
    """Train the courses that are missing, each on one thread, and write them.

    Args:
        shared: Folder with ``parity/`` and ``real/``.
        pairs: Seeds of initial weights and of draws.
    """
    torch.set_num_threads(1)
    for initial, draws in pairs:
        path = our_course_path(initial, draws)
        if path.exists():
            continue
        began = time.process_time()
        course = train_course(shared / "parity", shared / "real", initial, draws)
        rounded = {name: [round(float(value), 5) for value in course.score(name)] for name in SCORES}
        path.parent.mkdir(exist_ok=True)
        write_text(path, json.dumps({"initial": initial, "draws": draws, **rounded}) + "\n")
        print(f"{path.name}: {time.process_time() - began:.0f} s of processor time", flush=True)


def print_comparison(shared: Path) -> None:
    """Print the tables of the documentation, and the means of every seed."""
    found = groups(shared)
    theirs, ours = (group.courses for group in found[:2])
    print("| Mean of steps 200 to 400 | Reference | This library | Difference | Allowed | Ratio of spreads | Allowed |")
    print("|---|---|---|---|---|---|---|")
    for score in SCORES:
        our, their = late_means(ours, score), late_means(theirs, score)
        comparison = compare(our, their)
        low, high = comparison.spread_bounds(0.99)
        print(
            f"| {score} | {their.mean():.4f} ± {their.std(ddof=1):.4f} | {our.mean():.4f} ± {our.std(ddof=1):.4f} "
            f"| {comparison.difference:+.4f} | ± {comparison.reach(0.99):.4f} "
            f"| {comparison.spread_ratio:.2f} | {low:.2f} to {high:.2f} |"
        )
    print("\n| Whole curves, p-values | Means | Spreads |\n|---|---|---|")
    for score in SCORES:
        curves = window_means(ours, score), window_means(theirs, score)
        p_values = (permutation_p_value(*curves, statistic) for statistic in (apart, unequally_spread))
        print(f"| {score} | " + " | ".join(f"{p_value:.2f}" for p_value in p_values) + " |")
    print("\n| Group | First losses | IoU of steps 200 to 400 | Spread of IoU, 50 steps | Of any three |")
    print("|---|---|---|---|---|")
    for group in found:
        curves = window_means(group.courses, "iou")
        threes = [typical_spread(curves[list(three)]) for three in combinations(range(len(curves)), 3)]
        range_of_threes = f"{min(threes):.3f} to {max(threes):.3f}" if len(threes) > 1 else ""
        print(
            f"| {group.label} | {', '.join(f'{course.loss[0]:.2f}' for course in group.courses)} "
            f"| {', '.join(f'{mean:.3f}' for mean in late_means(group.courses, 'iou'))} "
            f"| {typical_spread(curves):.3f} | {range_of_threes} |"
        )
    for score in SCORES:
        comparison = compare(late_means(ours, score), late_means(theirs, score))
        low, high = comparison.spread_bounds(0.95)
        print(f"\n{score}: the difference of means is known to ± {comparison.reach(0.95):.4f} (95 %),", end=" ")
        print(
            f"the ratio of spreads lies in {comparison.spread_ratio / high:.2f} to {comparison.spread_ratio / low:.2f}"
        )


def print_first_losses(shared: Path, initial: int = 16, draws: int = 24) -> None:
    """Print how first losses spread between sets of initial weights, and between first batches for one set."""
    torch.set_num_threads(1)
    losses = first_losses(shared / "parity", shared / "real", initial, draws)
    spread = np.array([course.loss[0] for course in recorded_courses(shared / "parity", SHARED_SEEDS)]).std(ddof=1)
    rng = np.random.default_rng(0)
    alike = [losses[rng.integers(initial), rng.choice(draws, 3, False)].std(ddof=1) for _ in range(20_000)]
    apart_ = [losses[rng.choice(initial, 3, False), rng.choice(draws, 3, False)].std(ddof=1) for _ in range(20_000)]
    print(f"means of {initial} sets of initial weights:", *(f"{mean:.3f}" for mean in losses.mean(axis=1)))
    print(f"standard deviation between sets {losses.mean(axis=1).std(ddof=1):.3f}")
    print(f"standard deviation between batches {np.sqrt(losses.var(axis=1, ddof=1).mean()):.3f}")
    print(f"three recorded first losses: {spread:.4f}; as close: {100 * np.mean(np.array(alike) <= spread):.1f} % of")
    print(f"triples with one set, {100 * np.mean(np.array(apart_) <= spread):.1f} % of triples with three sets")


def draw(shared: Path, path: Path) -> None:
    """Draw the courses of all groups."""
    from vfm_isbench.viz import canvas

    # Dark colours for the replicates, which are to be compared; each group also has its own dashes and marker.
    styles = [(canvas.PALETTE[index], canvas.DASHES[dash]) for index, dash in ((3, 0), (0, 1), (1, 2), (4, 3))]
    found = groups(shared)
    centres = np.arange(WINDOW / 2, STEPS, WINDOW)
    with canvas.own_style():
        figure = canvas.new_figure(7.8, 3.1)
        panels = canvas.grid_of_axes(figure, 1, 3, 3)
        for panel, (score, label) in zip(panels, (("iou", "IoU (%)"), ("loss", "loss")), strict=False):
            for number, (group, (color, dashes)) in enumerate(zip(found[:3], styles, strict=False)):
                factor = 100 if score == "iou" else 1
                curves = factor * window_means(group.courses, score)
                panel.plot(centres, curves.T, color=color, linestyle=dashes, linewidth=0.6, alpha=0.75)
                panel.plot(
                    centres,
                    curves.mean(axis=0),
                    color=color,
                    linestyle=dashes,
                    linewidth=2.2,
                    marker=canvas.MARKERS[number],
                    markersize=3.5,
                    label=f"{group.label} ({len(group.courses)} seeds)",
                )
            panel.set(xlabel=f"training step (means of {WINDOW})", title=label, xlim=(0, STEPS))
        for number, (group, (color, _)) in enumerate(zip(found, styles, strict=True)):
            means = 100 * late_means(group.courses, "iou")
            places = number + np.linspace(-0.2, 0.2, len(means))  # so that equal means do not hide each other
            panels[2].plot(places, means, canvas.MARKERS[number], color=color, alpha=0.8, markersize=4.5)
            panels[2].plot([number - 0.3, number + 0.3], [means.mean()] * 2, color=color, linewidth=2.2)
        panels[2].set(title=f"IoU (%), mean of steps {LATE} to {STEPS}", xlim=(-0.6, len(found) - 0.4))
        panels[2].set_xticks(range(len(found)), [group.short for group in found], fontsize=7)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    canvas.save_figure(figure, path, dpi=130)  # lines of this many colours make large files


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("record", "compare", "first-losses", "draw"))
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with parity/ and real/")
    parser.add_argument("--picture", type=Path, default=Path("training-courses.png"), help="file that draw writes")
    options = parser.parse_args(arguments)
    if options.command == "record":
        record(options.shared, [(seed, seed) for seed in OUR_SEEDS] + [(0, draws) for draws in OUR_SHARED_SEEDS])
    elif options.command == "compare":
        print_comparison(options.shared)
    elif options.command == "first-losses":
        print_first_losses(options.shared)
    else:
        draw(options.shared, options.picture)


if __name__ == "__main__":
    main()
