"""Measure how many training samples per second a core prepares, and where the time goes.

    python benchmarks/speed/samples.py --data-root DATA --workers 8 --json samples.json

Samples are prepared as in training, one after the other on one thread, which is what each worker process does. With
--workers, the loader of the training is measured, too. The data are SBD if it is in the data root, otherwise the
embedded scenes.
"""

from __future__ import annotations

import argparse
import hashlib
from typing import Any

import torch
from cases import finish, parser, table, training_samples
from stopwatch import Stopwatch
from timing import in_turns, machine, machine_line, seconds, spread

from vfm_isbench import Protocol
from vfm_isbench.training import samples as samples_module
from vfm_isbench.training.loader import BatchLoader
from vfm_isbench.training.samples import TrainingSamples

READ, AUGMENT, CLICKS, REST = "read and check", "augment", "first clicks", "choose objects, tensor"
PARTS = (READ, AUGMENT, CLICKS, REST)
CPU = torch.device("cpu")


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    made = parser(__doc__)
    made.add_argument("--protocol", default="paper", metavar="NAME", help="preset whose samples to draw")
    made.add_argument("--count", type=int, default=100, help="samples per round (default: 100)")
    made.add_argument("--workers", type=int, default=0, help="also measure this many worker processes (default: 0)")
    return made


def prepare(samples: TrainingSamples, count: int) -> None:
    """Prepare the first samples of epoch 0."""
    for item in range(count):
        samples[0, item]


def digest(samples: TrainingSamples, count: int) -> str:
    """SHA-256 of samples, to show that a faster way changes none of them."""
    found = hashlib.sha256()
    for item in range(count):
        sample = samples[0, item]
        found.update(sample.image.numpy().tobytes())
        found.update(sample.target.tobytes())
        found.update(repr(sample.clicks).encode())
    return found.hexdigest()


def parts_of_a_sample(samples: TrainingSamples, options: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds per sample of every round, by part."""
    found: dict[str, list[float]] = {part: [] for part in PARTS}
    for _ in range(options.rounds):
        watch = Stopwatch(CPU)
        watch.watch(samples_module, "read_sample", READ)
        watch.watch(samples_module, "augment", AUGMENT)
        watch.watch(samples_module, "first_clicks", CLICKS)
        with watch, watch.part(REST):
            prepare(samples, options.count)
        for part, values in found.items():
            values.append(watch.seconds[part] / options.count)
    return found


def with_workers(samples: TrainingSamples, options: argparse.Namespace) -> list[float]:
    """Seconds per sample of every round of the training's loader, whose workers are already running."""
    loader = BatchLoader([samples], options.workers, CPU)
    steps = max(options.count // samples.protocol.batch_size, 1)
    all_images = steps * samples.protocol.batch_size

    def load(epoch: int) -> None:
        for _ in loader.batches(samples, epoch, steps):
            pass

    load(0)
    return [seconds(lambda epoch=epoch: load(epoch), CPU) / all_images for epoch in range(1, options.rounds + 1)]


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds per sample, in total, by part and with workers, and the hash of the samples."""
    protocol = Protocol.preset(options.protocol).replace(image_size=options.image_size)
    samples = training_samples(options, protocol)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        (times,) = in_turns({"all": lambda: prepare(samples, options.count)}, options.rounds, CPU).values()
        found: dict[str, Any] = {
            "dataset": samples.dataset.name,
            "seconds_per_sample": [value / options.count for value in times],
            "parts": parts_of_a_sample(samples, options),
            "sha256": digest(samples, options.count),
        }
    finally:
        torch.set_num_threads(threads)
    if options.workers:
        found["with_workers"] = with_workers(samples, options)
    return found


def markdown(found: dict[str, Any], options: argparse.Namespace) -> str:
    """Samples per second and the table of the parts."""
    per_core = [1 / value for value in found["seconds_per_sample"]]
    rows = [[part, spread(values, 1000)] for part, values in found["parts"].items()]
    text = f"{spread(per_core)} samples of {found['dataset']} per second and core.\n\n{table(['part', 'ms'], rows)}"
    if "with_workers" in found:
        together = [1 / value for value in found["with_workers"]]
        text += f"\n\n{spread(together)} samples per second with --workers {options.workers}."
    return f"{text}\n\nSHA-256 of the first {options.count} samples: {found['sha256'][:16]}…"


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    options = arguments().parse_args(argv)
    print(machine_line(machine(CPU)) + "\n")
    results = {"machine": machine(CPU), "samples": measure(options)}
    print(markdown(results["samples"], options))
    finish(results, options)


if __name__ == "__main__":
    main()
