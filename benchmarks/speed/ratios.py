"""How many times sooner: seconds per click and per training step, the slow way against the fast one.

    python benchmarks/speed/ratios.py --data-root DATA --parity RECORDED --slow-clicks 4 --json ratios.json

Slow runs the whole network for every click, as the reference implementation does; fast is what the library does by
itself. Weights are random: they do not change how long a pass takes. Each round evaluates another object by both ways,
reading included, so that the crops that change are part of the seconds per click. Figures are medians of the rounds,
with the least and the largest; ratios are of medians.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from cases import case, finish, parser, started
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

PARTS = ("evaluation", "recorded", "training", "stop_at_iou")


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    made = parser(__doc__)
    made.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    made.add_argument("--cases", nargs="+", type=case, default=list(TARGETS), metavar="UPSAMPLER:INJECTION")
    made.add_argument("--clicks", type=int, default=20, help="clicks per object (default 20)")
    made.add_argument(
        "--slow-clicks",
        type=int,
        default=20,
        metavar="K",
        help="place only the first K the slow way, whose cost per click is always the same (default 20)",
    )
    made.add_argument("--objects-per-round", type=int, default=1)
    made.add_argument("--training-cases", nargs="+", type=case, default=list(TRAINING_TARGETS), metavar="U:I")
    made.add_argument("--batch-size", type=int, default=2, help="of the training steps (default 2)")
    made.add_argument(
        "--parity", type=Path, help="recorded models in end_to_end/; without it, parts that need them are left out"
    )
    made.add_argument("--objects", type=int, default=10, help="per data set, for stop_at_iou (default 10)")
    made.add_argument(
        "--stop-at", nargs="+", type=int, default=list(STOPS), metavar="IOU", help="in percent, for early_stop"
    )
    return made


def markdown(results: dict[str, Any]) -> str:
    """All tables, with what is to be known about them."""
    parts = []
    if rows := results.get("evaluation"):
        clicks = rows[0]["clicks"]
        only = f"; the slow way placed the first {clicks['slow']} only" if clicks["slow"] < clicks["fast"] else ""
        parts.append(
            f"### Evaluation, seconds per click\n\n{clicks['fast']} clicks per object, flip on{only}. Data: "
            f"{rows[0]['data']}.\n\n{evaluation_table(rows)}\n\nOf both convolutions at image size one is needed for "
            "every click: how much of a click it takes by either algorithm (bilinear is meant to come to 0.85), and "
            f"whether both ways agree.\n\n{bound_table(rows)}"
        )
    if rows := results.get("recorded"):
        clicks = rows[0]["clicks"]["fast"]
        parts.append(
            "### Recorded models, seconds per click\n\nSmall networks, but trained: the crop follows the prediction. "
            f"Both ways place all {clicks} clicks.\n\n{evaluation_table(rows)}\n\n{agreement_table(rows)}"
        )
    if rows := results.get("training"):
        parts.append(
            "### Training, seconds per step\n\nMean of steps with every number of iterative clicks, 0 to 3: 1.5 click "
            f"passes and one step.\n\n{training_table(rows)}"
        )
    if rows := results.get("stop_at_iou"):
        parts.append(
            "### Early stop\n\nSeconds for all objects, fast way. What is saved is the clicks that are not placed: it "
            f"takes a model that reaches the IoU to stop at.\n\n{early_stop_table(rows)}"
        )
    return "\n\n".join(parts)


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    options = arguments().parse_args(argv)
    device, results = started(options)
    if "evaluation" in options.parts:
        results["evaluation"] = measure_evaluation(options, device)
    if "training" in options.parts:
        results["training"] = measure_training(options, device)
    for part, measure in (("recorded", measure_recorded), ("stop_at_iou", measure_early_stop)):
        if part in options.parts and options.parity:
            results[part] = measure(options, device)
        elif part in options.parts:
            print(f"{part} left out: it needs --parity")
    print(f"\n{markdown(results)}")
    finish(results, options)


if __name__ == "__main__":
    main()
