"""Reruns an entry and compares the rerun with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from vfm_isbench.errors import LeaderboardError
from vfm_isbench.leaderboard.entry import Entry, Reproduction
from vfm_isbench.leaderboard.entry_schema import REPRODUCED
from vfm_isbench.leaderboard.findings import Report
from vfm_isbench.leaderboard.scores import METRICS, score
from vfm_isbench.metrics.behaviour import differs
from vfm_isbench.protocol import Protocol
from vfm_isbench.results import Result
from vfm_isbench.results.intervals import Estimate
from vfm_isbench.results.object_scores import Metric
from vfm_isbench.results.sides import Pair, Side
from vfm_isbench.storage.printable import printable
from vfm_isbench.upsamplers import is_own

Rerun: TypeAlias = Callable[[Protocol, str], Result]
"""Trains and evaluates: takes a protocol and an upsampler's spec, returns a result. Passed in by the layers above."""

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Agreement:
    """One score of the rerun compared with the entry's.

    Attributes:
        dataset: Test set.
        metric: Score.
        entry: The entry's score with its interval.
        rerun: The rerun's score.
        difference: Rerun minus entry, paired by object and training seed. This is by far the sharper test: the interval
            allows for other objects and seeds, but the rerun has the same ones.
    """

    dataset: str
    metric: str
    entry: Estimate
    rerun: float
    difference: Estimate

    @property
    def holds(self) -> bool:
        """Whether the rerun lies in the interval and does not differ from the entry object by object."""
        return is_within(self.rerun, self.entry) and not self.is_apart

    @property
    def is_apart(self) -> bool:
        """Whether the interval of the paired difference excludes zero by more than rounding."""
        return self.difference.low > _ROUNDING or self.difference.high < -_ROUNDING

    def __str__(self) -> str:
        interval = f"{self.entry.value:.4f} [{self.entry.low:.4f}, {self.entry.high:.4f}]"
        within = "within" if is_within(self.rerun, self.entry) else "OUTSIDE"
        found = self.difference
        difference = f"paired difference {found.value:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"
        score = f"{self.dataset} {self.metric}: entry {interval}, rerun {self.rerun:.4f}, {within} the interval"
        return f"{score}, {difference}{': DIFFERENT' if self.is_apart else ''}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Outcome of a rerun.

    Attributes:
        entry: The entry.
        rerun: The entry with the rerun's results.
        agreements: Every score that both have.
        differences: Why the scores cannot be compared: what differs, or is not known to be the same.
        largest: By test set: the largest difference in IoU after the same click on the same object, in [0, 1].
    """

    entry: Entry
    rerun: Entry
    agreements: tuple[Agreement, ...]
    differences: tuple[str, ...]
    largest: Mapping[str, float]

    @property
    def is_reproduced(self) -> bool:
        """Whether nothing differs and every score agrees, see :attr:`Agreement.holds`."""
        return not self.differences and bool(self.agreements) and all(agreement.holds for agreement in self.agreements)

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
    """How to load the entry's upsampler: the given spec, or the entry's own if it names a built-in upsampler.

    Raises:
        LeaderboardError: if neither applies: an entry's file never decides which code runs.
    """
    if given is not None:
        return given
    for own in (entry.spec, str(entry.upsampler["name"])):
        # No path and no URL: the entry must not decide what is run or read.
        if own is not None and is_own(own) and re.fullmatch(r"(loftup:|featup:)?\w+", own):
            return own
    raise LeaderboardError(
        f"{entry.id} uses an upsampler that is not built in: get its code from {entry.code}, read it, and pass it with "
        "--upsampler path/to/file.py:attribute"
    )


def reproduce(entry: Entry, spec: str, rerun: Rerun) -> Verdict:
    """Rerun every seed of an entry and compare."""
    return compare_with(entry, [rerun(run.protocol, spec) for run in entry.runs])


def compare_with(entry: Entry, results: Sequence[Result]) -> Verdict:
    """Compare an entry with reruns, one per seed and in the same order."""
    rerun = Entry(entry.name, entry.code, entry.date, tuple(results))
    pairs = list(zip(entry.runs, results, strict=True))
    differences = [difference for before, after in pairs for difference in _differences(before, after)]
    comparable = [name for name in entry.datasets if all(_same_objects(*pair, name) for pair in pairs)]
    agreements = []
    for name in comparable:
        for metric in METRICS:
            mine, theirs = score(entry, name, metric), score(rerun, name, metric)
            if mine is not None and theirs is not None:
                difference = paired_difference(entry, rerun, name, metric)
                agreements.append(Agreement(name, metric, mine, theirs.value, difference))
    largest = {name: max(_largest(before, after, name) for before, after in pairs) for name in comparable}
    return Verdict(entry, rerun, tuple(agreements), tuple(differences), largest)


def paired_difference(first: Entry, second: Entry, dataset: str, metric: str) -> Estimate:
    """Second − first, paired by object, and by training seed if both have the same seeds."""
    pair = Pair.of(Side(first.id, first.runs), Side(second.id, second.runs), dataset)
    return pair.difference(Metric.named(metric))


def _differences(before: Result, after: Result) -> Iterator[str]:
    """Why the scores of a rerun cannot be compared with those of the original run."""
    seed = f"seed {before.protocol.seed}"
    hashes = [
        ("protocol", before.fingerprint, after.fingerprint),
        ("upsampler", before.upsampler["sha256"], after.upsampler["sha256"]),
        ("backbone", before.backbone["sha256"], after.backbone["sha256"]),
        *((f"content of {name}", _content(before, name), _content(after, name)) for name in before.datasets),
    ]
    for what, old, new in hashes:
        if old is None or new is None:
            shown = f"its hash is {old or 'unknown'}, in the rerun {new or 'unknown'}"
            yield f"{seed}: the {what} may differ: {shown}"
        elif old != new:
            yield f"{seed}: the {what} has hash {old}, in the rerun {new}"
    devices = before.environment.get("device"), after.environment.get("device")
    for what in ("upsampler", "backbone"):
        if differs(getattr(before, what).get("behaviour"), getattr(after, what).get("behaviour"), devices):
            yield f"{seed}: the {what} computes other features for the same input in the rerun"
    for what in ("mean", "std"):
        values = [list(run.backbone[what]) for run in (before, after) if run.backbone.get(what) is not None]
        if len(values) == 2 and values[0] != values[1]:
            yield f"{seed}: the {what} of the backbone's input is {values[0]}, in the rerun {values[1]}"
    for name in before.datasets:
        if name in after.datasets and not _same_objects(before, after, name):
            yield f"{seed}: {name} has other objects or another number of clicks in the rerun"


def mark(verdict: Verdict, by: str, date: str) -> Reproduction:
    """The mark for a reproduced entry.

    Raises:
        LeaderboardError: if it was not reproduced, or ``by`` is not a valid name.
    """
    if not verdict.is_reproduced:
        raise LeaderboardError(f"{verdict.entry.id} was not reproduced, so it is not marked")
    environment = verdict.rerun.runs[0].environment
    scores: dict[str, dict[str, float]] = {}
    for agreement in verdict.agreements:
        scores.setdefault(agreement.dataset, {})[agreement.metric] = agreement.rerun
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
    """Whether a value lies in an interval or equals the estimate, up to rounding."""
    return estimate.low - _ROUNDING <= value <= estimate.high + _ROUNDING or abs(value - estimate.value) <= _ROUNDING


def _same_objects(before: Result, after: Result, name: str) -> bool:
    """Whether the rerun has the data set with the same objects in the same order, and the same click cap."""
    if name not in after.datasets:
        return False
    first, second = before.datasets[name], after.datasets[name]
    return first.object_ids == second.object_ids and first.max_clicks == second.max_clicks


def _largest(before: Result, after: Result, name: str) -> float:
    """Largest difference in IoU after clicks that both placed; every object has at least one."""
    return float(np.nanmax(np.abs(before.datasets[name].ious - after.datasets[name].ious)))


def _content(result: Result, name: str) -> str | None:
    return result.datasets[name].content_sha256 if name in result.datasets else None
