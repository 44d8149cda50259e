"""Stage: training steps at the paper's batch: images per second, with samples from memory and from workers."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from cases import Case, probe_of, protocol_of, training_samples
from profiling import profiled
from stages import Stage
from torch.utils.data import DataLoader

from vfm_isbench import Protocol, Speed
from vfm_isbench.acceleration.speed import Precision, RunOptions
from vfm_isbench.probe import Probe
from vfm_isbench.training import TrainingSamples, train
from vfm_isbench.training.samples import TrainingSample, collate

_BILINEAR = Case("bilinear", "late")
CASES = (
    _BILINEAR, Case("loftup", "late"), Case("loftup", "early"), Case("featup", "late"), Case("bilinear", "early"),
)  # fmt: skip
_STEPS = (3, 13)
"""Steps of two trainings; the difference leaves out what a training does once, such as starting workers."""

_FEWER_STEPS = (2, 5)
"""The same if the others took too long."""


@dataclass(frozen=True)
class Run:
    """What is trained, and how."""

    case: Case
    precision: Precision = "float32"
    workers: bool = False

    def __str__(self) -> str:
        return f"training, {self.case}, {self.precision}, samples from {'workers' if self.workers else 'memory'}"


class SamplesInMemory(TrainingSamples):
    """Samples that are drawn once and then repeated, so that the network never waits for them.

    Args:
        samples: Where they come from.
        count: How many.
    """

    def __init__(self, samples: TrainingSamples, count: int) -> None:
        super().__init__(samples.dataset, samples.protocol)
        self._drawn = [samples[0, item] for item in range(count)]

    def __getitem__(self, key: tuple[int, int]) -> TrainingSample:
        """See :class:`TrainingSamples`."""
        return self._drawn[key[1] % len(self._drawn)]


def measure(stage: Stage) -> None:
    """Measure the most important cases first."""
    is_cuda = stage.device.type == "cuda"
    cases = [case for case in CASES if stage.size.takes(case.upsampler)]
    for run in map(Run, cases[:2]):
        _measure(stage, run)
        stage.attempt(
            f"profile of {run}",
            lambda run=run: stage.add("training_profiles", profile_of(stage, run)),  # type: ignore[misc]
            3 * stage.size.case_seconds,
        )
    stage.attempt("training samples", lambda: stage.set(samples=sample_rates(stage)), 2 * stage.size.case_seconds)
    _measure(stage, Run(_BILINEAR, workers=True))
    rough: tuple[Precision, ...] = ("bfloat16", "tf32") if is_cuda else ("bfloat16",)
    for precision, case in product(rough[:1], cases[:2]):
        _measure(stage, Run(case, precision))
    _measure(stage, Run(_BILINEAR, "bfloat16", workers=True))
    for run in map(Run, cases[2:]):
        _measure(stage, run)
    for precision, case in product(rough[1:], cases[:2]):
        _measure(stage, Run(case, precision))


def _measure(stage: Stage, run: Run) -> None:
    stage.attempt(str(run), lambda: stage.add("training", trained(stage, run)), 3 * stage.size.case_seconds)


def trained(stage: Stage, run: Run) -> dict[str, Any]:
    """Train twice, for a few steps and for some more."""
    probe, samples, options = _prepared(stage, run)
    began = time.perf_counter()
    _train(probe, samples, stage, options, 1)  # loads kernels
    if stage.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(stage.device)
    is_slow = time.perf_counter() - began > 2 * stage.size.case_seconds
    steps = _FEWER_STEPS if is_slow or stage.is_small else _STEPS
    few, many = (_train(probe, samples, stage, options, count) for count in steps)
    peak = torch.cuda.max_memory_allocated(stage.device) if stage.device.type == "cuda" else None
    return {
        "upsampler": run.case.upsampler,
        "injection": run.case.injection,
        "precision": run.precision,
        "workers": options.workers,
        "batch_size": stage.size.batch_size,
        "images_per_second": (steps[1] - steps[0]) * stage.size.batch_size / max(many - few, 1e-9),
        "peak_bytes": peak,
    }


def profile_of(stage: Stage, run: Run) -> dict[str, Any]:
    """Where the time of some steps goes."""
    probe, samples, options = _prepared(stage, run)
    steps = _FEWER_STEPS[0]
    found = profiled(lambda: _train(probe, samples, stage, options, steps), stage.device, steps * stage.size.batch_size)
    return {"upsampler": run.case.upsampler, "injection": run.case.injection, **found}


def sample_rates(stage: Stage) -> dict[str, float]:
    """Training samples per second: in this process, and by all workers together, without a network."""
    samples = training_samples(stage.options, _protocol(stage, _BILINEAR))  # type: ignore[arg-type]
    began, count = time.perf_counter(), 0
    while count == 0 or time.perf_counter() - began < stage.size.case_seconds / 2:
        samples[0, count]
        count += 1
    alone = count / (time.perf_counter() - began)
    batch, workers = stage.size.batch_size, stage.size.workers
    batches = max(3, int(alone * workers * stage.size.case_seconds / batch))
    keys = [(0, item) for item in range(batches * batch)]
    pinned = stage.device.type == "cuda"
    loader = DataLoader(
        samples, batch_size=batch, sampler=keys, num_workers=workers, collate_fn=collate, pin_memory=pinned
    )
    arrived = [time.perf_counter() for _ in loader]
    # The first batches of all workers arrive at once; from then on they come as fast as they are made.
    skipped = min(workers, len(arrived) - 2)
    together = (len(arrived) - 1 - skipped) * batch / (arrived[-1] - arrived[skipped])
    return {"alone_per_second": alone, "workers": workers, "workers_per_second": together}


def _prepared(stage: Stage, run: Run) -> tuple[Probe, TrainingSamples, RunOptions]:
    protocol = _protocol(stage, run.case)
    probe = probe_of(run.case, protocol, stage.device)
    samples = training_samples(stage.options, protocol)  # type: ignore[arg-type]
    speed = Speed(precision=run.precision)
    if run.workers:
        return probe, samples, RunOptions(speed=speed, workers=stage.size.workers, progress=False)
    kept = SamplesInMemory(samples, 2 * stage.size.batch_size)
    return probe, kept, RunOptions(speed=speed, progress=False)


def _protocol(stage: Stage, case: Case) -> Protocol:
    return protocol_of(
        case, stage.options, epochs=1, batch_size=stage.size.batch_size, sample_weights="uniform"  # type: ignore[arg-type]
    )  # fmt: skip


def _train(probe: Probe, samples: TrainingSamples, stage: Stage, options: RunOptions, steps: int) -> float:
    """Train for some steps; returns the seconds."""
    samples.protocol = samples.protocol.replace(samples_per_epoch=steps * stage.size.batch_size)
    began = time.perf_counter()
    train(probe, samples, None, options=options)
    if stage.device.type == "cuda":
        torch.cuda.synchronize(stage.device)
    taken = time.perf_counter() - began
    print(f"    {steps} steps: {taken:.2f} s", flush=True)
    return taken
