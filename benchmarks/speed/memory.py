"""Measure the peak memory of the slow and the fast way, each run in its own process.

    python benchmarks/speed/memory.py --data-root DATA --json memory.json

On CPUs this is the largest resident set of the process, including libraries and weights; on CUDA devices it is the
peak of PyTorch's allocator.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from cases import (
    SPEEDS,
    WAYS,
    SomeObjects,
    TrainingStep,
    evaluated,
    evaluation_datasets,
    finish,
    parse_case,
    parser,
    probe_of,
    protocol_of,
    started,
    table,
    training_samples,
)
from ratio_evaluation import TARGETS
from ratio_training import TARGETS as TRAINING_TARGETS
from timing import spread
from upsamplers import GIB, held

from vfm_isbench.probe.preparation import choose_device

ALLOWED = 1.0
"""The fast way may take this many GiB more than the slow way."""


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    made = parser(__doc__)
    made.add_argument("--cases", nargs="*", type=parse_case, default=list(TARGETS), metavar="UPSAMPLER:INJECTION")
    made.set_defaults(rounds=2)  # peaks hardly vary
    made.add_argument("--clicks", type=int, default=3, help="clicks per object, both ways (default: 3)")
    made.add_argument("--training-cases", nargs="*", type=parse_case, default=list(TRAINING_TARGETS), metavar="U:I")
    made.add_argument("--batch-size", type=int, default=2, help="images per training step (default: 2)")
    made.add_argument("--one", nargs=2, metavar=("WORK", "WAY"), help=argparse.SUPPRESS)
    return made


def peak(work: str, way: str, options: argparse.Namespace) -> int:
    """Peak bytes of this process after one object, or one training step with the most clicks."""
    device = choose_device(options.device)
    if work == "training":
        (case,) = options.training_cases
        protocol = protocol_of(case, options)
        step = TrainingStep(probe_of(case, protocol, device), training_samples(options, protocol), options.batch_size)
        step(way, protocol.max_iterative_clicks)
        return held(device)
    (case,) = options.cases
    protocol = protocol_of(case, options, max_clicks=options.clicks)
    objects = SomeObjects(evaluation_datasets(options, protocol)[0], 0, 1)
    evaluated(probe_of(case, protocol, device), objects, protocol, SPEEDS[way])
    return held(device)


def peak_in_own_process(work: str, case: object, way: str, options: argparse.Namespace) -> int:
    """The same in a fresh process, so that an earlier peak cannot hide this one."""
    upsampler_and_injection = str(case).replace(" ", ":")
    values = {
        "--backbone": options.backbone,
        "--image-size": options.image_size,
        "--device": options.device,
        "--clicks": options.clicks,
        "--batch-size": options.batch_size,
        "--cases" if work == "evaluation" else "--training-cases": upsampler_and_injection,
    } | ({"--data-root": options.data_root} if options.data_root else {})
    command = [sys.executable, str(Path(__file__).resolve()), "--one", work, way]
    command += [str(word) for pair in values.items() for word in pair]
    return int(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure the rows of the table: GiB of every round, by way."""
    work = [("evaluation", case) for case in options.cases] + [("training", case) for case in options.training_cases]
    rows = []
    for kind, case in work:
        row: dict[str, Any] = {"work": kind, "case": str(case)} | {way: [] for way in WAYS}
        for _ in range(options.rounds):
            for way in WAYS:
                row[way].append(peak_in_own_process(kind, case, way, options) / GIB)
        rows.append(row)
        print(memory_table(rows[-1:]).splitlines()[-1], flush=True)
    return rows


def memory_table(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    cells = []
    for row in rows:
        more = statistics.median(row["fast"]) - statistics.median(row["slow"])
        cells.append([row["work"], row["case"], spread(row["slow"]), spread(row["fast"]), f"{more:+.2f}"])
    return table(["work", "upsampler, injection", "slow, GiB", "fast, GiB", "fast − slow, GiB"], cells)


def markdown(results: dict[str, Any]) -> str:
    """The table with its explanation."""
    batch = results["options"]["batch_size"]
    return (
        f"Peak of a process that evaluates one object or does one training step of {batch} images. The fast way may "
        f"take {ALLOWED:g} GiB more than the slow way.\n\n{memory_table(results['memory'])}"
    )


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    options = arguments().parse_args(argv)
    if options.one:
        print(peak(*options.one, options))
        return
    _, results = started(options)
    results["memory"] = measure(options)
    print(f"\n{markdown(results)}")
    finish(results, options)


if __name__ == "__main__":
    main()
