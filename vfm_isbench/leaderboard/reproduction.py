"""A maintainer's rerun of an entry, held against it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from vfm_isbench.errors import LeaderboardError
from vfm_isbench.leaderboard.entry import Entry, Reproduction
from vfm_isbench.leaderboard.entry_schema import REPRODUCED
from vfm_isbench.leaderboard.findings import Report, printable
from vfm_isbench.leaderboard.ranking import paired_difference
from vfm_isbench.leaderboard.scores import METRICS, score
from vfm_isbench.protocol import Protocol
from vfm_isbench.results import Result
from vfm_isbench.results.bootstrap import Estimate
from vfm_isbench.upsamplers import is_own

Rerun: TypeAlias = Callable[[Protocol, str], Result]
"""Trains and evaluates: from a protocol and an upsampler's spec to a result. Handed in, since it lies above."""

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Agreement:
    """One score of the rerun beside the entry's interval.

    Attributes:
        dataset: Test set.
        metric: Score.
        entry: The entry's score with its interval.
        rerun: The rerun's.
        difference: Rerun minus entry, paired by object and training seed. It is by far the sharper test: the interval
            covers other objects and other seeds, and the rerun has the same.
    """

    dataset: str
    metric: str
    entry: Estimate
    rerun: float
    difference: Estimate

    @property
    def holds(self) -> bool:
        """Whether the rerun lies in the interval, and cannot be told apart from the entry object by object."""
        return is_within(self.rerun, self.entry) and not self.is_apart

    @property
    def is_apart(self) -> bool:
        """Whether the paired difference leaves out zero by more than rounding."""
        return self.difference.low > _ROUNDING or self.difference.high < -_ROUNDING

    def __str__(self) -> str:
        interval = f"{self.entry.value:.4f} [{self.entry.low:.4f}, {self.entry.high:.4f}]"
        within = "within" if is_within(self.rerun, self.entry) else "OUTSIDE"
        apart = self.difference
        difference = f"paired difference {apart.value:+.4f} [{apart.low:+.4f}, {apart.high:+.4f}]"
        told = f", {difference}: TOLD APART" if self.is_apart else f", {difference}"
        return f"{self.dataset} {self.metric}: entry {interval}, rerun {self.rerun:.4f}, {within} the interval{told}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a rerun.

    Attributes:
        entry: The entry.
        rerun: The same with the rerun's results.
        agreements: Every score that both have.
        differences: In what they are not the same thing at all, so that the scores cannot be compared, or not known
            to be.
        largest: By test set: the largest difference of an IoU after the same click on the same object, in [0, 1].
    """

    entry: Entry
    rerun: Entry
    agreements: tuple[Agreement, ...]
    differences: tuple[str, ...]
    largest: Mapping[str, float]

    @property
    def is_reproduced(self) -> bool:
        """Whether everything is the same, and every score agrees: see :attr:`Agreement.holds`."""
        return not self.differences and bool(self.agreements) and all(one.holds for one in self.agreements)

    def __str__(self) -> str:
        largest = (
            f"{printable(name)}: the largest difference of an object's IoU is {value:.6f}"
            for name, value in self.largest.items()
        )
        lines = [
            *map(str, self.agreements),
            *largest,
            *(f"not comparable: {printable(text, 300)}" for text in self.differences),
        ]
        end = "reproduced" if self.is_reproduced else "NOT reproduced"
        return "\n".join([*lines, f"{printable(self.entry.name)} ({self.entry.id}): {end}"])


def spec_of(entry: Entry, given: str | None) -> str:
    """How to load the entry's upsampler: as given, or by its own name if that is a plain one of this library.

    Raises:
        LeaderboardError: if it is neither: no file says what code is to be run.
    """
    if given is not None:
        return given
    for own in (entry.spec, str(entry.upsampler["name"])):
        # No path and no address: what an entry says decides neither what is run nor what is read.
        if own is not None and is_own(own) and re.fullmatch(r"(loftup:|featup:)?\w+", own):
            return own
    raise LeaderboardError(
        f"{entry.id} is of an upsampler that is none of this library: get its code from {entry.code}, read it, and "
        "name it (command line: --upsampler path/to/file.py:attribute)"
    )


def reproduce(entry: Entry, spec: str, rerun: Rerun) -> Verdict:
    """Run every seed of an entry again and compare."""
    return compare_with(entry, [rerun(run.protocol, spec) for run in entry.runs])


def compare_with(entry: Entry, results: Sequence[Result]) -> Verdict:
    """Hold reruns, one per seed of the entry and in the same order, against it."""
    rerun = Entry(entry.name, entry.code, entry.date, tuple(results))
    differences = []
    for then, now in zip(entry.runs, results, strict=True):
        seed = f"seed {then.protocol.seed}"
        for what, before, after in (
            ("protocol", then.fingerprint, now.fingerprint),
            ("upsampler", then.upsampler["sha256"], now.upsampler["sha256"]),
            ("backbone", then.backbone["sha256"], now.backbone["sha256"]),
            *(
                (f"content of {name}", found.content_sha256, _content(now, name))
                for name, found in then.datasets.items()
            ),
        ):
            if before is None or after is None:
                hashes = f"it has hash {before or 'unknown'}, in the rerun {after or 'unknown'}"
                differences.append(f"{seed}: whether the {what} is the same is not known: {hashes}")
            elif before != after:
                differences.append(f"{seed}: the {what} has hash {before}, in the rerun {after}")
        for name in then.datasets:
            if name in now.datasets and not _same_objects(then, now, name):
                differences.append(f"{seed}: the objects or clicks of {name} are not as many, or not the same")
    agreements = []
    largest = {}
    for name in entry.datasets:
        if not all(
            name in now.datasets and _same_objects(then, now, name)
            for then, now in zip(entry.runs, results, strict=True)
        ):
            continue
        largest[name] = max(_largest(then, now, name) for then, now in zip(entry.runs, results, strict=True))
        for metric in METRICS:
            mine, theirs = score(entry, name, metric), score(rerun, name, metric)
            if mine is not None and theirs is not None:
                apart = paired_difference(entry, rerun, name, metric)
                agreements.append(Agreement(name, metric, mine, theirs.value, apart))
    return Verdict(entry, rerun, tuple(agreements), tuple(differences), largest)


def mark(verdict: Verdict, by: str, date: str) -> Reproduction:
    """The mark for an entry that was reproduced.

    Raises:
        LeaderboardError: if it was not, or the name cannot stand in an entry.
    """
    if not verdict.is_reproduced:
        raise LeaderboardError(f"{verdict.entry.id} was not reproduced, so it is not marked")
    environment = verdict.rerun.runs[0].environment
    scores: dict[str, dict[str, float]] = {}
    for one in verdict.agreements:
        scores.setdefault(one.dataset, {})[one.metric] = one.rerun
    reproduced = Reproduction(
        by=by,
        date=date,
        version=str(environment.get("vfm_isbench")),
        device=str(environment.get("device")),
        evidence_sha256=verdict.entry.evidence_sha256,
        scores=scores,
    )
    report = Report(verdict.entry.file_name)
    if not REPRODUCED(reproduced.to_dict(), "reproduced", report):
        raise LeaderboardError("\n".join(map(str, report.findings)))
    return reproduced


def is_within(value: float, estimate: Estimate) -> bool:
    """Whether a value lies in an interval, or is the same but for rounding."""
    return estimate.low - _ROUNDING <= value <= estimate.high + _ROUNDING or abs(value - estimate.value) <= _ROUNDING


def _same_objects(then: Result, now: Result, name: str) -> bool:
    """Whether two results have the same objects in the same order, and the same click cap."""
    first, second = then.datasets[name], now.datasets[name]
    same = [one.object_id for one in first.objects] == [one.object_id for one in second.objects]
    return same and first.max_clicks == second.max_clicks


def _largest(then: Result, now: Result, name: str) -> float:
    """Largest difference of an IoU after clicks that were placed in both; every object has its first."""
    return float(np.nanmax(np.abs(then.datasets[name].ious - now.datasets[name].ious)))


def _content(result: Result, name: str) -> str | None:
    return result.datasets[name].content_sha256 if name in result.datasets else None
