"""Train the short recipe that was also recorded from the reference implementation, and keep loss and IoU of each step.

    python benchmarks/parity/courses.py record --seeds 0 1 2 --shared ../shared
    python benchmarks/parity/courses.py record --seeds 1 2 3 --initial 0 --shared ../shared
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "support"))

from training_courses import our_course_path, train_course


def record(shared: Path, seeds: Sequence[int], initial: int | None) -> None:
    """Train the courses that are missing, each on one thread, and write them."""
    torch.set_num_threads(1)
    for seed in seeds:
        weights = seed if initial is None else initial
        path = our_course_path(weights, seed)
        if path.exists():
            continue
        began = time.process_time()
        course = train_course(shared / "parity", shared / "real", weights, seed)
        rounded = {name: [round(float(value), 5) for value in course.score(name)] for name in ("loss", "iou")}
        path.write_text(json.dumps({"initial": weights, "draws": seed, **rounded}) + "\n", encoding="utf-8")
        print(f"{path.name}: {time.process_time() - began:.0f} s of processor time", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record", help="train and write the courses that are missing")
    recording.add_argument("--seeds", nargs="+", type=int, required=True)
    recording.add_argument("--initial", type=int, help="seed of the initial weights (default: the seed itself)")
    recording.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with parity/ and real/")
    options = parser.parse_args(arguments)
    record(options.shared, options.seeds, options.initial)


if __name__ == "__main__":
    main()
