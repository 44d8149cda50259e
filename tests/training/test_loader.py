"""The loader of batches: the samples that their keys say, from workers that live as long as it does."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from dataclasses import replace
from multiprocessing.synchronize import Event

import numpy as np
import pytest
import torch
from small import SMALL

from vfm_isbench.progress import StopSignals
from vfm_isbench.progress.stopping import SIGNALS
from vfm_isbench.testing.fakes import FakeDataset
from vfm_isbench.training import loader as loader_module
from vfm_isbench.training.loader import BatchLoader
from vfm_isbench.training.samples import Batch, TrainingSamples, collate
from vfm_isbench.types import AnnotatedImage

CPU = torch.device("cpu")
FORKS = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def equal(one: Batch, other: Batch) -> bool:
    same = torch.equal(one.images, other.images) and torch.equal(one.targets, other.targets)
    return same and one.clicks == other.clicks and one.images.stride() == other.images.stride()


@FORKS
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_those_of_epoch_and_item_whatever_came_before(workers: int) -> None:
    sources = [TrainingSamples(FakeDataset(seed=seed), SMALL, validation=seed == 1) for seed in (0, 1)]
    loader = BatchLoader(sources, workers, CPU)
    for source, epoch, steps in [(0, 0, 2), (1, 0, 1), (0, 1, 2), (1, 0, 1), (0, 2, 1)]:
        batches = list(loader.batches(sources[source], epoch, steps))
        assert len(batches) == steps
        for step, batch in enumerate(batches):
            items = range(step * SMALL.batch_size, (step + 1) * SMALL.batch_size)
            assert equal(batch, collate([sources[source][epoch, item] for item in items]))


class Signed(FakeDataset):
    """Images whose colour is the number of the process that read them."""

    def read(self, image_id: str) -> AnnotatedImage:
        sample = super().read(image_id)
        pid = os.getpid()
        colour = np.array([pid // 65536, pid // 256 % 256, pid % 256], np.uint8)
        return replace(sample, image=np.broadcast_to(colour, sample.image.shape).copy())


def processes(batches: list[Batch]) -> set[int]:
    numbers = [(batch.images[:, :, 14, 14] * 255).round().long() for batch in batches]
    return {int(red * 65536 + green * 256 + blue) for each in numbers for red, green, blue in each}


@FORKS
def test_epochs_and_validation_share_workers_that_end_with_the_loader() -> None:
    before = set(multiprocessing.active_children())
    protocol = SMALL.replace(brightness_contrast_probability=0.0, rgb_shift_probability=0.0)
    sources = [TrainingSamples(Signed(), protocol), TrainingSamples(Signed(), protocol, validation=True)]
    loader = BatchLoader(sources, 2, CPU)
    first = processes(list(loader.batches(sources[0], 0, 4)))
    assert len(first) == 2 and os.getpid() not in first
    assert processes(list(loader.batches(sources[1], 0, 4))) == first
    assert processes(list(loader.batches(sources[0], 1, 4))) == first
    loader.close()
    assert set(multiprocessing.active_children()) == before


def _wait_as_a_worker(ready: Event) -> None:
    loader_module._leave_signals_to_the_main_process([signal.SIGHUP], 0)
    ready.set()
    while True:
        time.sleep(0.01)


@FORKS
def test_a_worker_goes_on_after_a_signal_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader_module, "_GRACE_SECONDS", 1)
    fork = multiprocessing.get_context("fork")
    ready = fork.Event()
    with loader_module._signals_blocked():
        worker = fork.Process(target=_wait_as_a_worker, args=(ready,))
        worker.start()
    assert worker.pid is not None and ready.wait(60)
    os.kill(worker.pid, signal.SIGINT)
    os.kill(worker.pid, signal.SIGHUP)  # ignored in the main process, as under nohup
    worker.join(1.5)
    assert worker.is_alive()
    os.kill(worker.pid, signal.SIGTERM)
    worker.join(0.2)
    assert worker.is_alive()
    worker.join(60)
    assert worker.exitcode == -signal.SIGALRM


def test_workers_ignore_what_the_main_process_ignores_or_handles_itself() -> None:
    """Under nohup, or in a program with a handler of its own, such a signal ends nothing."""
    stop, before = StopSignals(), {number: signal.getsignal(number) for number in SIGNALS}
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with stop.heard():
            assert loader_module._not_ours() == [signal.SIGHUP]
        signal.signal(signal.SIGTERM, lambda *_: None)
        with stop.heard():
            assert loader_module._not_ours() == [signal.SIGTERM, signal.SIGHUP]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
