"""Sides of a comparison: one upsampler with the results of its training seeds, and pairs of sides."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from vfm_isbench.errors import ComparisonError, IncomparableError, ResultError
from vfm_isbench.metrics.behaviour import differs
from vfm_isbench.registry.registry import unknown_name
from vfm_isbench.results.comparability import unchecked, why_incomparable
from vfm_isbench.results.dataset_result import DatasetResult
from vfm_isbench.results.display import shortened
from vfm_isbench.results.environment_difference import environment_remarks
from vfm_isbench.results.intervals import CONFIDENCE, Estimate, estimate_difference
from vfm_isbench.results.object_scores import Metric, object_scores
from vfm_isbench.results.record import Result
from vfm_isbench.results.signature import short_hash
from vfm_isbench.types import Array, ObjectId


@dataclass(frozen=True, eq=False)
class Side:
    """Results of one upsampler, one per training seed.

    Attributes:
        label: Name in tables.
        results: At least one, by ascending seed.
    """

    label: str
    results: tuple[Result, ...]

    @property
    def environments(self) -> list[Mapping[str, Any]]:
        """Environment of each result."""
        return [result.environment for result in self.results]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Training seeds, ascending."""
        return tuple(result.protocol.seed for result in self.results)

    @property
    def sha256(self) -> str | None:
        """Hash of the upsampler; None if it could not be hashed."""
        found: str | None = self.results[0].upsampler.get("sha256")
        return found

    def only(self, seeds: Iterable[int]) -> Side:
        """The same side, with only these seeds."""
        kept = set(seeds)
        return Side(self.label, tuple(result for result in self.results if result.protocol.seed in kept))


Given: TypeAlias = "Side | Result | str | Path | Sequence[Result | str | Path]"
"""Anything that gives a side: a result, the path of a result file or run folder, or several of these, one per seed."""


def load_result(path: str | Path) -> Result:
    """Load the result from a file or a run folder.

    Raises:
        ResultError: see :meth:`vfm_isbench.Result.load`.
    """
    return Result.load(path)


def side_of(given: Given) -> Side:
    """Load a side and check that its results belong together.

    Raises:
        ComparisonError: if there are no results, something else is given, they are of different upsamplers, or two
            different ones have the same seed (IncomparableError if their protocols differ).
        ResultError: if a file cannot be read.
    """
    if isinstance(given, Side):
        return given
    is_list = isinstance(given, Iterable) and not isinstance(given, str | Mapping)
    several: Sequence[Any] = [*given] if is_list else [given]  # type: ignore[misc]
    for item in several:
        if not isinstance(item, Result | str | Path):
            raise ComparisonError(
                "expected a result, the path of a result file or run folder, or a list of these, got "
                f"{shortened(repr(item))} of type {type(item).__name__}"
            )
    sides = group_sides(item if isinstance(item, Result) else load_result(item) for item in several)
    if len(sides) != 1:
        labels = ", ".join(side.label for side in sides) or "none"
        raise ComparisonError(
            f"expected results of one upsampler, got {len(sides)}: {labels}. Results form one side if their upsamplers "
            "have the same name and hash."
        )
    return sides[0]


def group_sides(results: Iterable[Result]) -> list[Side]:
    """Group results into sides by name and hash of the upsampler, in order of appearance.

    Results of an upsampler without a hash may be of different code: each is a side of its own.

    Raises:
        ComparisonError: if two results of one upsampler and seed differ.
        IncomparableError: if their protocols differ.
        ResultError: if a result does not name its upsampler.
    """
    groups: dict[tuple[str, object, object], dict[int, Result]] = {}
    for result in results:
        name = _name_of(result)
        sha256 = result.upsampler.get("sha256") or _content(result)
        seeds = groups.setdefault((name, sha256, repr(result.upsampler.get("trained_with"))), {})
        for other in seeds.values():
            if differs(result.upsampler.get("behaviour"), other.upsampler.get("behaviour"), _devices(result, other)):
                raise IncomparableError(
                    f"two results of {name} have the same hash, but their upsamplers computed different features for "
                    "the same input: they are not seeds of one upsampler"
                )
        known = seeds.setdefault(result.protocol.seed, result)
        if known is not result and not _are_equal(known, result):
            if reasons := why_incomparable(known, result):
                raise IncomparableError(f"two results of {name} are incomparable: {'; '.join(reasons)}")
            raise ComparisonError(
                f"two different results of {name} with seed {result.protocol.seed}; one upsampler needs one result per "
                "seed. To compare a rerun with the original run, give them as two sides: regress RERUN --baseline RUN, "
                "or vfm_isbench.compare(run, rerun)"
            )
    sides = [Side(name, tuple(seeds[seed] for seed in sorted(seeds))) for (name, *_), seeds in groups.items()]
    return distinct(sides)


def _content(result: Result) -> str:
    """What tells a result of an unknown upsampler from others, but not from its copies."""
    return repr([found.ious.tolist() for found in result.datasets.values()])


def _devices(first: Result, second: Result) -> tuple[str | None, str | None]:
    return first.environment.get("device"), second.environment.get("device")


def _name_of(result: Result) -> str:
    """Name of the upsampler, in one line.

    Raises:
        ResultError: if the result has none.
    """
    name = result.upsampler.get("name") if isinstance(result.upsampler, Mapping) else None
    if not isinstance(name, str) or not name.strip():
        raise ResultError(f"a result of seed {result.protocol.seed} does not name its upsampler: found {name!r}")
    return " ".join(name.split())


def _are_equal(first: Result, second: Result) -> bool:
    """Whether two results have the same protocol and evidence."""
    return first.fingerprint == second.fingerprint and (
        {name: found.objects for name, found in first.datasets.items()}
        == {name: found.objects for name, found in second.datasets.items()}
    )


def distinct(sides: Sequence[Side]) -> list[Side]:
    """The sides with distinct labels: equal labels get the hash added, or a number if the hashes are equal too."""
    labels = [side.label for side in sides]
    labels = [
        f"{label} ({short_hash(side.sha256)})" if labels.count(label) > 1 else label
        for label, side in zip(labels, sides, strict=True)
    ]
    numbered = [
        f"{label} #{labels[:place].count(label) + 1}" if labels.count(label) > 1 else label
        for place, label in enumerate(labels)
    ]
    return [Side(label, side.results) for label, side in zip(numbered, sides, strict=True)]


def twins(sides: Sequence[Side]) -> Iterator[str]:
    """Remarks on sides that are of one upsampler, which hardly anyone compares on purpose."""
    for one, other in combinations(sides, 2):
        if (one.label, one.sha256) != (other.label, other.sha256):
            continue
        runs, again = ({result.protocol.seed: result for result in side.results} for side in (one, other))
        if runs.keys() == again.keys() and all(_are_equal(runs[seed], again[seed]) for seed in runs):
            yield f"two sides of {one.label} are the same results"
        elif one.sha256 is not None and not runs.keys() & again.keys():
            seeds, others = (", ".join(map(str, side.seeds)) for side in (one, other))
            yield (
                f"two sides are the same upsampler, {one.label} with seed {seeds} and with seed {others}: to compare "
                "it with another one, give its seeds as one side, in a list: compare([a, b], …)"
            )


def check_datasets(sides: Sequence[Side], asked: Iterable[str]) -> None:
    """Refuse a data set that no result of any side has: it is misspelt, not incomparable.

    Raises:
        UnknownNameError: listing the existing names.
    """
    known = list(dict.fromkeys(name for side in sides for result in side.results for name in result.datasets))
    for name in asked:
        if name not in known:
            raise unknown_name("data set of these results", name, known or ["none"])


def why_apart(first: Side, second: Side, dataset: str) -> list[str]:
    """Every reason not to compare two sides on a data set, including reasons between the seeds of one side."""
    reasons = []
    for side in (first, second):
        for other in side.results[1:]:
            where = f"{side.label}, seeds {side.seeds[0]} and {other.protocol.seed}"
            reasons += [f"{where}: {reason}" for reason in why_incomparable(side.results[0], other, dataset)]
    where = f"{first.label} and {second.label}"
    across = why_incomparable(first.results[0], second.results[0], dataset)
    return [*reasons, *(f"{where}: {reason}" for reason in across)]


@dataclass(frozen=True, eq=False)
class Pair:
    """Two comparable sides on one data set, object by object.

    Attributes:
        dataset: Data set.
        first: First side, with the seeds that are compared.
        second: Second side, likewise.
        paired_seeds: Whether differences are taken seed by seed.
        remarks: Remarks for readers: seeds left out, what could not be checked, other machines or versions.
    """

    dataset: str
    first: Side
    second: Side
    paired_seeds: bool
    remarks: tuple[str, ...]

    @classmethod
    def of(cls, first: Side, second: Side, dataset: str) -> Pair:
        """Pair two sides that may be compared, see :func:`why_apart`.

        Seeds are paired if both sides have the same seeds, if at least two are common (the others are left out), or if
        the second side only repeats runs of the first, object by object. Otherwise all seeds count, as independent
        draws.
        """
        remarks = unchecked(first.results[0], second.results[0], dataset)
        common = sorted(set(first.seeds) & set(second.seeds))
        is_paired = first.seeds == second.seeds or len(common) > 1 or _repeats(first, second, dataset)
        if is_paired:
            for side in (first, second):
                if extra := [str(seed) for seed in side.seeds if seed not in common]:
                    remarks.append(f"seed {', '.join(extra)} of {side.label} left out: the other side has no such seed")
            first, second = first.only(common), second.only(common)
        if len(first.seeds) == len(second.seeds) == 1:
            remarks.append(
                "one training seed on either side: the interval covers these two probes on other images, but not other "
                "seeds"
            )
        remarks += environment_remarks((first.label, second.label), first.environments, second.environments)
        return cls(dataset, first, second, is_paired, tuple(remarks))

    @cached_property
    def images(self) -> list[str]:
        """Image of each object, in the order of the first side's first result."""
        return [object_id.image for object_id in self._order]

    @property
    def _order(self) -> list[ObjectId]:
        return self.first.results[0].datasets[self.dataset].object_ids

    @property
    def cap(self) -> int:
        """Clicks per object."""
        return self.first.results[0].datasets[self.dataset].max_clicks

    def scores(self, metric: Metric) -> tuple[Array, Array]:
        """S₁×N and S₂×N scores of both sides, with the objects in the same order."""
        first, second = (
            np.stack([_in_order(result.datasets[self.dataset], metric, self._order) for result in side.results])
            for side in (self.first, self.second)
        )
        return first, second

    def difference(self, metric: Metric, confidence: float = CONFIDENCE) -> Estimate:
        """Second minus first, with its interval; see :func:`vfm_isbench.results.intervals.estimate_difference`."""
        first, second = self.scores(metric)
        return estimate_difference(
            first,
            second,
            self.images,
            paired_seeds=self.paired_seeds,
            confidence=confidence,
            limits=metric.limits(self.cap),
        )

    def at_cap(self, metric: Metric) -> tuple[float, float]:
        """Number of objects of both sides whose clicks equal the cap, mean over seeds; NaN for metrics other than NoC.

        By the published convention, an object that reaches the IoU exactly at the last click counts too.
        """
        if not metric.is_noc:
            return float("nan"), float("nan")
        first, second = ((scores == self.cap).sum(axis=1).mean() for scores in self.scores(metric))
        return float(first), float(second)


def _in_order(found: DatasetResult, metric: Metric, order: Sequence[ObjectId]) -> Array:
    places = {object_id: place for place, object_id in enumerate(found.object_ids)}
    in_order: Array = object_scores(found, metric)[[places[object_id] for object_id in order]]
    return in_order


def _repeats(first: Side, second: Side, dataset: str) -> bool:
    """Whether every result of the second side repeats one of the first, as far as both placed clicks."""
    runs = {result.protocol.seed: _ious(result, dataset) for result in first.results}
    for result in second.results:
        run, again = runs.get(result.protocol.seed), _ious(result, dataset)
        if run is None or any(
            before != after for key in run for before, after in zip(run[key], again[key], strict=False)
        ):
            return False
    return True


def _ious(result: Result, dataset: str) -> dict[ObjectId, tuple[float, ...]]:
    return {evidence.object_id: evidence.ious for evidence in result.datasets[dataset].objects}
