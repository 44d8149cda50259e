"""Loads batches of samples in worker processes that live as long as the training."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch.utils.data import DataLoader, Dataset

from vfm_isbench.progress.stopping import SIGNALS, StopSignals
from vfm_isbench.training.samples import Batch, TrainingSample, TrainingSamples, collate

_Key = tuple[int, int, int]
"""Number of the source, epoch, item."""

_GRACE_SECONDS = 20
"""Seconds for which workers go on after SIGTERM or SIGHUP, so that the main process gets the batch it waits for."""

_SAME_CALL_SECONDS = 2.0
"""Signals that come so close together are one call to stop. A later one is that of a main process that is done."""


class BatchLoader:
    """Loads batches from several sources, one source at a time, with the same worker processes.

    Starting workers anew in every epoch, for training and again for validation, would keep the device waiting: they
    import this library, and then begin with an empty queue.

    Signals that reach the whole process group, such as Ctrl+C in a terminal or SIGTERM from Slurm, are the business of
    the main process: workers live on until it closes the loader.

    Args:
        sources: Training samples, validation samples.
        workers: Number of processes; 0 prepares batches in this one. Each prepares two batches ahead.
        device: Batches are pinned in memory if it is a CUDA device.
    """

    def __init__(self, sources: Sequence[TrainingSamples], workers: int, device: torch.device) -> None:
        self._sources = sources
        self._schedule: list[list[_Key]] = []  # read by the loader whenever it is iterated over
        self._loader: DataLoader[TrainingSample] | None = DataLoader(
            _Sources(sources),
            batch_sampler=self._schedule,
            num_workers=workers,
            collate_fn=collate,
            pin_memory=device.type == "cuda",
            persistent_workers=workers > 0,
            worker_init_fn=partial(_leave_signals_to_the_main_process, _not_ours()) if workers else None,
            generator=torch.Generator(),  # otherwise every iteration draws a number from the global generator
        )

    def batches(self, samples: TrainingSamples, epoch: int, steps: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch of ``steps`` steps, in order, from one of the sources, beginning with step ``first``.

        Use them up before the next call.
        """
        source = next(number for number, each in enumerate(self._sources) if each is samples)
        size = samples.protocol.batch_size
        self._schedule[:] = [
            [(source, epoch, item) for item in range(step * size, (step + 1) * size)] for step in range(first, steps)
        ]
        assert self._loader is not None, "the loader is closed"
        with _signals_blocked():  # workers inherit this, so no signal can hit them before they are prepared for it
            return iter(self._loader)

    def close(self) -> None:
        """End the workers."""
        self._loader = None


class _Sources(Dataset[TrainingSample]):
    def __init__(self, sources: Sequence[TrainingSamples]) -> None:
        self._sources = sources

    def __getitem__(self, key: _Key) -> TrainingSample:
        source, epoch, item = key
        return self._sources[source][epoch, item]


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Let signals wait while workers are started."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _not_ours() -> list[int]:
    """Signals that do not stop the main process, which ignores them (nohup) or has a handler of its own."""
    found = []
    for number in SIGNALS:
        handler = signal.getsignal(number)
        is_ours = isinstance(getattr(handler, "__self__", None), StopSignals)
        if handler not in (signal.SIG_DFL, signal.default_int_handler) and not is_ours:
            found.append(number)
    return found


def _leave_signals_to_the_main_process(ignored: Sequence[int], _worker: int) -> None:
    """In a worker: go on after a signal; after SIGTERM and SIGHUP only for a while, so that none outlives the run."""
    first: list[float] = []

    def end_later(number: int, _frame: object) -> None:
        if not first:
            first.append(time.monotonic())
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # whatever the main process does when it rings
            signal.alarm(_GRACE_SECONDS)
        elif time.monotonic() - first[0] > _SAME_CALL_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        for number in SIGNALS:
            if number != signal.SIGINT:
                signal.signal(number, signal.SIG_IGN if number in ignored else end_later)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
