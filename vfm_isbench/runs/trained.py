"""A trained probe, just trained or read from a file, with everything that a result must say about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vfm_isbench.probe import Probe
from vfm_isbench.protocol import Protocol
from vfm_isbench.runs.run_folder import RunFolder
from vfm_isbench.training import EpochRecord
from vfm_isbench.types import Behaviour
from vfm_isbench.upsamplers import ContractReport, UpsamplerIdentity


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainedProbe:
    """A trained probe with what a result must say about it.

    Attributes:
        probe: The network, in eval mode.
        protocol: What it was trained under, including what data, weights and upsampler decided, and is evaluated under.
        upsampler: Identity of the upsampler.
        behaviour: What "upsampler" and "backbone" made of fixed inputs, see :mod:`vfm_isbench.probe.behaviour`.
        contract: Findings of the contract check.
        history: One record per epoch; empty if the file has none.
        training_seconds: Wall time of the training in this process; None if it was trained elsewhere.
        training_peak_bytes: Peak memory of the training, see :func:`vfm_isbench.runs.peak_memory.peak_bytes`; None if
            it was trained elsewhere.
        notes: What else a reader of its numbers should know.
        plugins: Origins of the data sets that other packages added to the training.
        precision: Arithmetic that it was trained in, see :class:`vfm_isbench.Speed`.
        trained_with: Name and hash of the upsampler in training, if it was another one.
        folder: Where its work is kept; None if nothing is kept.
    """

    probe: Probe
    protocol: Protocol
    upsampler: UpsamplerIdentity
    contract: ContractReport
    behaviour: Mapping[str, Behaviour | None]
    history: tuple[EpochRecord, ...] = ()
    training_seconds: float | None = None
    training_peak_bytes: int | None = None
    notes: tuple[str, ...] = ()
    plugins: tuple[Mapping[str, Any], ...] = ()
    precision: str = "float32"
    trained_with: Mapping[str, Any] | None = None
    folder: RunFolder | None = None

    def named(self, name: str | None) -> TrainedProbe:
        """The same probe, called ``name`` in tables; None leaves the name."""
        if name is None:
            return self
        return dataclasses.replace(self, upsampler=dataclasses.replace(self.upsampler, name=name))
