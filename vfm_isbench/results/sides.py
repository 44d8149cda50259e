"""Sides of a comparison: an upsampler with the results of one or several training seeds, and two of them paired."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import numpy as np

from vfm_isbench.errors import ComparisonError, IncomparableError, ResultError
from vfm_isbench.registry.registry import unknown_name
from vfm_isbench.results.bootstrap import CONFIDENCE, RESAMPLES, Estimate, estimate_difference
from vfm_isbench.results.comparability import unchecked, why_incomparable
from vfm_isbench.results.object_scores import Metric, object_scores
from vfm_isbench.results.record import Result
from vfm_isbench.results.signature import short_hash
from vfm_isbench.types import Array, ObjectId


@dataclass(frozen=True, eq=False)
class Side:
    """Results of one upsampler, one per training seed.

    Attributes:
        label: What tables call it.
        results: At least one, by ascending seed.
    """

    label: str
    results: tuple[Result, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Training seeds, ascending."""
        return tuple(result.protocol.seed for result in self.results)

    @property
    def sha256(self) -> str | None:
        """Hash of the upsampler, None where none could be taken."""
        found: str | None = self.results[0].upsampler.get("sha256")
        return found

    def only(self, seeds: Iterable[int]) -> Side:
        """The same with some of its seeds."""
        kept = set(seeds)
        return Side(self.label, tuple(result for result in self.results if result.protocol.seed in kept))


Given: TypeAlias = "Side | Result | str | Path | Sequence[Result | str | Path]"
"""What makes a side: a result, the path of a result file or run folder, or several of them, one per seed."""


def load_result(path: str | Path) -> Result:
    """The result of a file, or of a run folder.

    Raises:
        ResultError: see :meth:`vfm_isbench.Result.load`.
    """
    path = Path(path)
    return Result.load(path / "result.json" if path.is_dir() else path)


def side_of(given: Given) -> Side:
    """One side.

    Raises:
        ComparisonError: if it is empty, its results are of different upsamplers, or differ and have the same seed
            (IncomparableError if that is by protocol).
        ResultError: if a file cannot be read.
    """
    if isinstance(given, Side):
        return given
    several = [given] if isinstance(given, Result | str | Path) else list(given)
    sides = group_sides(one if isinstance(one, Result) else load_result(one) for one in several)
    if len(sides) != 1:
        labels = ", ".join(side.label for side in sides) or "none"
        raise ComparisonError(
            f"expected results of one upsampler, got {len(sides)}: {labels}. Several results make one side if name and "
            "hash of their upsamplers agree."
        )
    return sides[0]


def group_sides(results: Iterable[Result]) -> list[Side]:
    """Sort results into sides, by name and hash of the upsampler, in the order in which these appear.

    Raises:
        ComparisonError: if two results of one upsampler and seed are not the same.
        IncomparableError: if they are of different protocols.
        ResultError: if a result does not name its upsampler.
    """
    groups: dict[tuple[str, str | None], dict[int, Result]] = {}
    for result in results:
        name = _name_of(result)
        seeds = groups.setdefault((name, result.upsampler.get("sha256")), {})
        known = seeds.setdefault(result.protocol.seed, result)
        if known is not result and not _are_one(known, result):
            if reasons := why_incomparable(known, result):
                raise IncomparableError(f"two results of {name} are incomparable: {'; '.join(reasons)}")
            raise ComparisonError(
                f"two different results of {name} with seed {result.protocol.seed}; one upsampler needs one result per "
                "seed. To compare a rerun with the run before, hand them over as two sides: regress RERUN --baseline "
                "RUN, or vfm_isbench.compare(run, rerun)"
            )
    sides = [Side(name, tuple(seeds[seed] for seed in sorted(seeds))) for (name, _), seeds in groups.items()]
    return distinct(sides)


def _name_of(result: Result) -> str:
    """Name of the upsampler, in one line.

    Raises:
        ResultError: if the result, read from some file, has none.
    """
    name = result.upsampler.get("name") if isinstance(result.upsampler, Mapping) else None
    if not isinstance(name, str) or not name.strip():
        raise ResultError(f"a result of seed {result.protocol.seed} does not name its upsampler: found {name!r}")
    return " ".join(name.split())


def _are_one(first: Result, second: Result) -> bool:
    """Whether two results have the same protocol and evidence."""
    return first.fingerprint == second.fingerprint and (
        {name: found.objects for name, found in first.datasets.items()}
        == {name: found.objects for name, found in second.datasets.items()}
    )


def distinct(sides: Sequence[Side]) -> list[Side]:
    """The sides with labels that tell them apart: of equal ones the hash is added, or a number if that is equal too."""
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


def check_datasets(sides: Sequence[Side], asked: Iterable[str]) -> None:
    """Refuse a data set that no result of any side has: it is misspelt, rather than incomparable.

    Raises:
        UnknownNameError: naming those there are.
    """
    known = list(dict.fromkeys(name for side in sides for result in side.results for name in result.datasets))
    for name in asked:
        if name not in known:
            raise unknown_name("data set of these results", name, known or ["none"])


def why_apart(first: Side, second: Side, dataset: str) -> list[str]:
    """Every reason why a data set's scores of two sides must not be compared; also among the seeds of a side."""
    reasons = []
    for side in (first, second):
        for other in side.results[1:]:
            where = f"{side.label}, seeds {side.seeds[0]} and {other.protocol.seed}"
            reasons += [f"{where}: {reason}" for reason in why_incomparable(side.results[0], other, dataset)]
    where = f"{first.label} and {second.label}"
    return [*reasons, *(f"{where}: {one}" for one in why_incomparable(first.results[0], second.results[0], dataset))]


@dataclass(frozen=True, eq=False)
class Pair:
    """Two comparable sides on one data set, object by object.

    Attributes:
        dataset: Data set.
        first: First side, with the seeds that are compared.
        second: Second side, likewise.
        paired_seeds: Whether both have the same seeds, so that differences are taken seed by seed.
        remarks: What a reader should know: seeds left out, what could not be checked.
    """

    dataset: str
    first: Side
    second: Side
    paired_seeds: bool
    remarks: tuple[str, ...]

    @classmethod
    def of(cls, first: Side, second: Side, dataset: str) -> Pair:
        """Pair sides for which :func:`why_apart` gives no reason.

        Seeds are paired if both sides have the same, if at least two are common (the others are left out), or if the
        second side only repeats runs of the first, object by object. Otherwise all seeds count, as draws of their own.
        """
        remarks = unchecked(first.results[0], second.results[0], dataset)
        common = sorted(set(first.seeds) & set(second.seeds))
        is_paired = first.seeds == second.seeds or len(common) > 1 or _repeats(first, second, dataset)
        if is_paired:
            for side in (first, second):
                if left := [str(seed) for seed in side.seeds if seed not in common]:
                    remarks.append(f"seed {', '.join(left)} of {side.label} left out: the other side has no such seed")
            first, second = first.only(common), second.only(common)
        if len(first.seeds) == len(second.seeds) == 1:
            remarks.append(
                "one training seed on either side: the interval is that of these two probes on other images, and says "
                "nothing of other seeds"
            )
        return cls(dataset, first, second, is_paired, tuple(remarks))

    @cached_property
    def images(self) -> list[str]:
        """Image of each object, in the order of the first side's first result."""
        return [one.object_id.image for one in self.first.results[0].datasets[self.dataset].objects]

    def scores(self, metric: Metric) -> tuple[Array, Array]:
        """S₁×N and S₂×N scores of both sides, in one order of objects."""
        order = [one.object_id for one in self.first.results[0].datasets[self.dataset].objects]
        first, second = (
            np.stack([_in_order(result, self.dataset, metric, order) for result in side.results])
            for side in (self.first, self.second)
        )
        return first, second

    def difference(
        self, metric: Metric, *, confidence: float = CONFIDENCE, resamples: int = RESAMPLES, seed: int = 0
    ) -> Estimate:
        """Second minus first, with its interval; see :func:`vfm_isbench.results.bootstrap.estimate_difference`."""
        first, second = self.scores(metric)
        return estimate_difference(
            first,
            second,
            self.images,
            paired_seeds=self.paired_seeds,
            confidence=confidence,
            resamples=resamples,
            seed=seed,
        )

    def at_cap(self, metric: Metric) -> tuple[float, float]:
        """Objects of both sides whose number of clicks is the cap, mean over seeds; NaN for another metric than NoC.

        By the published convention an object that reaches the IoU exactly at the last click counts too.
        """
        if not metric.is_noc:
            return float("nan"), float("nan")
        cap = self.first.results[0].datasets[self.dataset].max_clicks
        first, second = ((scores == cap).sum(axis=1).mean() for scores in self.scores(metric))
        return float(first), float(second)


def _in_order(result: Result, dataset: str, metric: Metric, order: Sequence[ObjectId]) -> Array:
    found = result.datasets[dataset]
    places = {one.object_id: place for place, one in enumerate(found.objects)}
    in_order: Array = object_scores(found, metric)[[places[one] for one in order]]
    return in_order


def _repeats(first: Side, second: Side, dataset: str) -> bool:
    """Whether every result of the second side is one of the first over again, as far as clicks were placed in both."""
    runs = {result.protocol.seed: _evidence(result, dataset) for result in first.results}
    for result in second.results:
        run, again = runs.get(result.protocol.seed), _evidence(result, dataset)
        if run is None or any(
            mine != theirs for one in run for mine, theirs in zip(run[one], again[one], strict=False)
        ):
            return False
    return True


def _evidence(result: Result, dataset: str) -> dict[ObjectId, tuple[float, ...]]:
    return {one.object_id: one.ious for one in result.datasets[dataset].objects}
