"""Peak memory of the slow and the fast way, each run in a process of its own.

    python benchmarks/speed/memory.py --data-root DATA --json memory.json

On CPUs it is the largest resident set of the process, libraries and weights included; on CUDA devices the peak of
PyTorch's allocator.
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
    case,
    evaluated,
    evaluation_datasets,
    finish,
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

from vfm_isbench.benchmark import choose_device

ALLOWED = 1.0
"""GiB that the fast way may take more."""


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    made = parser(__doc__)
    made.add_argument("--cases", nargs="*", type=case, default=list(TARGETS), metavar="UPSAMPLER:INJECTION")
    made.set_defaults(rounds=2)  # peaks hardly differ
    made.add_argument("--clicks", type=int, default=3, help="clicks per object, both ways (default 3)")
    made.add_argument("--training-cases", nargs="*", type=case, default=list(TRAINING_TARGETS), metavar="U:I")
    made.add_argument("--batch-size", type=int, default=2, help="of the training steps (default 2)")
    made.add_argument("--one", nargs=2, metavar=("WORK", "WAY"), help=argparse.SUPPRESS)
    return made


def peak(work: str, way: str, options: argparse.Namespace) -> int:
    """Bytes at the peak, after one object or one training step with most clicks in this process."""
    device = choose_device(options.device)
    if work == "training":
        (one,) = options.training_cases
        protocol = protocol_of(one, options)
        step = TrainingStep(probe_of(one, protocol, device), training_samples(options, protocol), options.batch_size)
        step(way, protocol.max_iterative_clicks)
        return held(device)
    (one,) = options.cases
    protocol = protocol_of(one, options, max_clicks=options.clicks)
    objects = SomeObjects(evaluation_datasets(options, protocol)[0], 0, 1)
    evaluated(probe_of(one, protocol, device), objects, protocol, SPEEDS[way])
    return held(device)


def peak_in_own_process(work: str, one: object, way: str, options: argparse.Namespace) -> int:
    """The same in a fresh process, so that peaks do not hide one another."""
    upsampler_and_injection = str(one).replace(" ", ":")
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
    """Rows of the table: GiB of every round, by way."""
    work = [("evaluation", one) for one in options.cases] + [("training", one) for one in options.training_cases]
    rows = []
    for kind, one in work:
        row: dict[str, Any] = {"work": kind, "case": str(one)} | {way: [] for way in WAYS}
        for _ in range(options.rounds):
            for way in WAYS:
                row[way].append(peak_in_own_process(kind, one, way, options) / GIB)
        rows.append(row)
        print(memory_table(rows[-1:]).splitlines()[-1], flush=True)
    return rows


def memory_table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    cells = []
    for row in rows:
        more = statistics.median(row["fast"]) - statistics.median(row["slow"])
        cells.append([row["work"], row["case"], spread(row["slow"]), spread(row["fast"]), f"{more:+.2f}"])
    return table(["work", "upsampler, injection", "slow, GiB", "fast, GiB", "fast − slow, GiB"], cells)


def markdown(results: dict[str, Any]) -> str:
    """The table, with what is to be known about it."""
    batch = results["options"]["batch_size"]
    return (
        f"Peak of a process that evaluates one object, or makes one training step of {batch} images; allowed are "
        f"{ALLOWED:g} GiB more than the slow way takes.\n\n{memory_table(results['memory'])}"
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
