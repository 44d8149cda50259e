"""Loads batches of samples in worker processes that live as long as the training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch.utils.data import DataLoader, Dataset

from vfm_isbench.training.samples import Batch, TrainingSample, TrainingSamples, collate

_Key = tuple[int, int, int]
"""Number of the source, epoch, item."""


class BatchLoader:
    """Loads batches from several sources, one source at a time, with the same worker processes.

    Starting workers anew in every epoch, for training and again for validation, would keep the device waiting: they
    import this library, and then begin with an empty queue.

    Args:
        sources: Training samples, validation samples.
        workers: Number of processes; 0 prepares batches in this one. Each prepares two batches ahead.
        device: Batches are pinned in memory if it is a CUDA device.
    """

    def __init__(self, sources: Sequence[TrainingSamples], workers: int, device: torch.device) -> None:
        self._sources = sources
        self._schedule: list[list[_Key]] = []  # read by the loader whenever it is iterated over
        self._loader: DataLoader[TrainingSample] = DataLoader(
            _Sources(sources),
            batch_sampler=self._schedule,
            num_workers=workers,
            collate_fn=collate,
            pin_memory=device.type == "cuda",
            persistent_workers=workers > 0,
            generator=torch.Generator(),  # otherwise every iteration draws a number from the global generator
        )

    def batches(self, samples: TrainingSamples, epoch: int, steps: int) -> Iterable[Batch]:
        """The batches of an epoch, in order, from one of the sources. Use them up before the next call."""
        source = next(number for number, each in enumerate(self._sources) if each is samples)
        size = samples.protocol.batch_size
        self._schedule[:] = [
            [(source, epoch, item) for item in range(step * size, (step + 1) * size)] for step in range(steps)
        ]
        return self._loader


class _Sources(Dataset[TrainingSample]):
    def __init__(self, sources: Sequence[TrainingSamples]) -> None:
        self._sources = sources

    def __getitem__(self, key: _Key) -> TrainingSample:
        source, epoch, item = key
        return self._sources[source][epoch, item]
