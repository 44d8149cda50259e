"""Measure how much faster the fast way is: seconds per click and per training step, against the slow way.

    python benchmarks/speed/ratios.py --data-root DATA --parity RECORDED --slow-clicks 4 --json ratios.json

The slow way runs the whole network for every click, as the reference implementation does; the fast way is the default.
Weights are random, which does not change the time. Each round evaluates a different object by both ways, including
reading and new crops. Values are medians of the rounds, with minimum and maximum; ratios are ratios of medians.
--busy-neighbours 1 measures beside another process that keeps a core busy, as on a laptop or a shared machine.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from cases import finish, parse_case, parser, started
from ratio_evaluation import (
    TARGETS,
    agreement_table,
    bound_table,
    evaluation_table,
    measure_evaluation,
    measure_recorded,
)
from ratio_stop_at_iou import STOPS, early_stop_table, measure_early_stop
from ratio_training import TARGETS as TRAINING_TARGETS
from ratio_training import measure_training, training_table
from timing import busy_neighbours

PARTS = ("evaluation", "recorded", "training", "stop_at_iou")


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    made = parser(__doc__)
    made.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    made.add_argument("--cases", nargs="+", type=parse_case, default=list(TARGETS), metavar="UPSAMPLER:INJECTION")
    made.add_argument("--clicks", type=int, default=20, help="clicks per object (default: 20)")
    made.add_argument(
        "--slow-clicks",
        type=int,
        default=20,
        metavar="K",
        help="place only the first K the slow way, which costs the same for every click (default: 20)",
    )
    made.add_argument("--objects-per-round", type=int, default=1)
    made.add_argument("--training-cases", nargs="+", type=parse_case, default=list(TRAINING_TARGETS), metavar="U:I")
    made.add_argument("--batch-size", type=int, default=2, help="images per training step (default: 2)")
    made.add_argument(
        "--parity",
        type=Path,
        help="folder with recorded models in end_to_end/; parts that need them are skipped without it",
    )
    made.add_argument("--objects", type=int, default=10, help="objects per data set, for stop_at_iou (default: 10)")
    made.add_argument(
        "--stop-at", nargs="+", type=int, default=list(STOPS), metavar="IOU", help="in percent, for stop_at_iou"
    )
    made.add_argument(
        "--busy-neighbours",
        type=int,
        default=0,
        metavar="N",
        help="measure beside N processes that each keep a core busy (default: 0)",
    )
    return made


def markdown(results: dict[str, Any]) -> str:
    """All tables with their explanations."""
    parts = []
    if neighbours := results["options"].get("busy_neighbours"):
        parts.append(f"Measured beside other processes that each keep a core busy: {neighbours}.")
    if rows := results.get("evaluation"):
        clicks = rows[0]["clicks"]
        only = f"; the slow way placed only the first {clicks['slow']}" if clicks["slow"] < clicks["fast"] else ""
        parts.append(
            f"### Evaluation, seconds per click\n\n{clicks['fast']} clicks per object, flip on{only}. Data: "
            f"{rows[0]['data']}.\n\n{evaluation_table(rows)}\n\nEvery click needs one of the two convolutions at "
            "image size: the share of a click that it takes by either algorithm (bilinear should reach 0.85), and "
            f"whether both ways agree.\n\n{bound_table(rows)}"
        )
    if rows := results.get("recorded"):
        clicks = rows[0]["clicks"]["fast"]
        parts.append(
            "### Recorded models, seconds per click\n\nThese networks are small but trained, so the crop follows the "
            f"prediction. Both ways place all {clicks} clicks.\n\n{evaluation_table(rows)}\n\n{agreement_table(rows)}"
        )
    if rows := results.get("training"):
        parts.append(
            "### Training, seconds per step\n\nMean over steps with 0 to 3 iterative clicks: on average 1.5 click "
            f"passes and one step.\n\n{training_table(rows)}"
        )
    if rows := results.get("stop_at_iou"):
        parts.append(
            "### Stop at an IoU\n\nSeconds for all objects, fast way. This saves the clicks that are not placed, so "
            f"only models that reach the IoU gain from it.\n\n{early_stop_table(rows)}"
        )
    return "\n\n".join(parts)


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    options = arguments().parse_args(argv)
    device, results = started(options)
    with busy_neighbours(options.busy_neighbours):
        if "evaluation" in options.parts:
            results["evaluation"] = measure_evaluation(options, device)
        if "training" in options.parts:
            results["training"] = measure_training(options, device)
        for part, measure in (("recorded", measure_recorded), ("stop_at_iou", measure_early_stop)):
            if part in options.parts and options.parity:
                results[part] = measure(options, device)
            elif part in options.parts:
                print(f"{part} skipped: it needs --parity")
    print(f"\n{markdown(results)}")
    finish(results, options)


if __name__ == "__main__":
    main()
