"""Groups results into series, which are drawn as one: an upsampler with all its training seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vfm_isbench.errors import IncomparableError, ResultError
from vfm_isbench.metrics import number_of_clicks
from vfm_isbench.results import DatasetResult, Result
from vfm_isbench.results.comparability import why_incomparable
from vfm_isbench.types import Array, ObjectId
from vfm_isbench.viz.canvas import plain

_LONGEST_REASON = 400
"""Longest sentence in a caption: two protocols may differ in every field."""


@dataclass(frozen=True, eq=False)
class Series:
    """Results of one upsampler under one protocol on the same objects, one per training seed.

    Attributes:
        label: Name in legends.
        results: At least one.
    """

    label: str
    results: tuple[Result, ...]

    def ious(self, dataset: str) -> Array:
        """S×N×K: IoU in [0, 1] by training seed, object and click; NaN after an object was stopped."""
        cap = self.results[0].protocol.max_clicks
        found = [result.datasets[dataset].ious for result in self.results]
        # Pad to the cap, even if every object was stopped before it.
        return np.stack([np.pad(ious, ((0, 0), (0, cap - ious.shape[1])), constant_values=np.nan) for ious in found])

    def clicks_needed(self, dataset: str, percent: int) -> Array:
        """S×N: clicks to reach an IoU in percent; see :func:`clicks_needed`."""
        return np.stack([clicks_needed(ious, percent / 100) for ious in self.ious(dataset)])

    def failing(self, dataset: str, percent: int) -> Array:
        """S×N×K: 1 where an object has not reached an IoU in percent by a click, else 0; NaN where that is unknown."""
        ious = self.ious(dataset)
        reached = np.maximum.accumulate(ious >= percent / 100, axis=2)
        return np.where(reached, 0.0, np.where(np.isnan(ious), np.nan, 1.0))

    def objects(self, dataset: str) -> list[ObjectId]:
        """The N objects, in order."""
        return self.results[0].datasets[dataset].object_ids

    def images(self, dataset: str) -> list[str]:
        """Image of each of the N objects."""
        return [object_id.image for object_id in self.objects(dataset)]

    @property
    def datasets(self) -> list[str]:
        """Data sets that all results have, in order."""
        return [name for name in self.results[0].datasets if all(name in result.datasets for result in self.results)]


def clicks_needed(ious: Array, threshold: float) -> Array:
    """Clicks that each object needs to reach an IoU.

    Args:
        ious: N×K; NaN after the click at which an object was stopped.
        threshold: IoU in [0, 1].

    Returns:
        N numbers in 1 … K; K if all clicks were placed without reaching the IoU, NaN if the object was stopped before
        reaching it, so that the number is unknown.

    >>> clicks_needed(np.array([[0.5, 0.9], [0.1, 0.2], [0.8, np.nan]]), 0.9)
    array([ 2.,  2., nan])
    """
    reached = (ious >= threshold).any(axis=1)
    unknown = ~reached & np.isnan(ious).any(axis=1)
    return np.where(unknown, np.nan, number_of_clicks(ious, threshold).astype(np.float64))


def group_by_seed(results: Sequence[Result]) -> list[Series]:
    """Group results that differ only in the training seed, in the order given.

    Labels are the upsamplers' names; equal names get a suffix that says how the series differ.
    """
    groups: list[list[Result]] = []
    for result in results:
        for group in groups:
            if _belongs(result, group):
                group.append(result)
                break
        else:
            groups.append([result])
    return [Series(label, tuple(group)) for label, group in zip(_labels(groups), groups, strict=True)]


def _belongs(result: Result, group: list[Result]) -> bool:
    first = group[0]
    return (
        not why_incomparable(first, result)  # protocols, weights, length of training, precision
        and all(result.upsampler.get(key) == first.upsampler.get(key) for key in ("name", "sha256"))
        and all(result.backbone.get(key) == first.backbone.get(key) for key in ("name", "sha256"))
        and list(result.datasets) == list(first.datasets)
        and all(_same_data(result.datasets[name], first.datasets[name]) for name in result.datasets)
        and all(result.protocol.seed != other.protocol.seed for other in group)
    )


def _same_data(first: DatasetResult, second: DatasetResult) -> bool:
    if first.object_ids != second.object_ids:
        return False
    hashes = {first.content_sha256, second.content_sha256} - {None}
    return len(hashes) <= 1


def _labels(groups: list[list[Result]]) -> list[str]:
    names = [plain(group[0].upsampler.get("name", "unnamed")) for group in groups]
    tell_apart: list[Callable[[Result], str]] = [
        lambda result: plain(result.protocol.backbone, 24),
        lambda result: f"{plain(result.protocol.label, 24)} protocol",
        lambda result: f"{result.protocol.injection} injection",
        lambda result: f"seed {result.protocol.seed}",
        lambda result: f"hash {result.fingerprint[:8]}",
    ]
    labels = list(names)
    for name in {name for name in names if names.count(name) > 1}:
        places = [place for place, other in enumerate(names) if other == name]
        for word in tell_apart:
            words = [word(groups[place][0]) for place in places]
            if len(set(words)) == len(words):
                break
        else:
            words = [f"no. {number}" for number in range(1, len(places) + 1)]
        for place, told in zip(places, words, strict=True):
            labels[place] = f"{name} ({told})"
    return labels


def choose_datasets(series: Sequence[Series], wanted: Sequence[str] | None = None) -> list[str]:
    """Data sets to draw: the wanted ones, or all that any series has.

    Raises:
        ResultError: if there is nothing to draw, or no result has a wanted data set.
        IncomparableError: if two series have different objects or images under the same name.
    """
    if not series:
        raise ResultError("no result to draw; give at least one")
    known = list(dict.fromkeys(name for member in series for name in member.datasets))
    missing = [name for name in wanted or () if name not in known]
    if missing:
        raise ResultError(f"no result has a data set {missing[0]!r}; known: {', '.join(known)}")
    chosen = list(dict.fromkeys(wanted)) if wanted else known
    for name in chosen:
        have = [member for member in series if name in member.datasets]
        for other in have[1:]:
            if not _same_data(have[0].results[0].datasets[name], other.results[0].datasets[name]):
                raise IncomparableError(
                    f"{have[0].label} and {other.label} were measured on different objects or images of data set "
                    f"{name!r} and cannot be compared; draw them separately, or evaluate both on the same data"
                )
    return chosen


def why_not_comparable(series: Sequence[Series]) -> list[str]:
    """Sentences for the caption if scores must not be compared, or mean nothing.

    The first, because protocols, backbones or trainings differ; the second after dry runs.
    """
    first = series[0].results[0]
    reasons = [
        f"Not comparable, {series[0].label} and {other.label}: {reason}."
        for other in series[1:]
        for reason in why_incomparable(first, other.results[0])
    ]
    dry = [member.label for member in series if any(result.has_random_weights for result in member.results)]
    if dry:
        reasons.append(f"Dry run, random weights of the backbone, so the numbers mean nothing: {', '.join(dry)}.")
    return [plain(reason, _LONGEST_REASON) for reason in reasons]


def seeds_in_words(series: Sequence[Series]) -> str:
    """How many training seeds each series has."""
    counts = {len(member.results) for member in series}
    if counts == {1}:
        return "one training seed each" if len(series) > 1 else "one training seed"
    if len(counts) == 1:
        return f"{counts.pop()} training seeds{' each' if len(series) > 1 else ''}"
    return "training seeds: " + ", ".join(f"{member.label} {len(member.results)}" for member in series)
