"""Decides whether two results may be compared, and reports everything that differs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from vfm_isbench.metrics.behaviour import differs
from vfm_isbench.protocol import NOT_IN_FINGERPRINT
from vfm_isbench.results.dataset_result import DatasetResult
from vfm_isbench.results.record import Result
from vfm_isbench.results.signature import precision_of, short_hash
from vfm_isbench.storage.printable import printable

DRY_RUNS = "these are dry runs: their backbones have random weights (--random-weights), so the numbers mean nothing"
"""Remark of what is computed from dry runs alone."""

_SHOWN = 3
"""How many objects a message names if the sets of objects differ."""


def why_incomparable(first: Result, second: Result, dataset: str | None = None) -> list[str]:
    """Every reason not to compare the scores of two results; empty if they may be compared.

    This checks the protocol (by its fingerprint: all fields but label, seed and the list of test sets), the weights of
    the backbone, the length of training, the precision and, if a data set is named, its content hash and object ids.
    Upsamplers and seeds may differ. A missing hash is not a reason: see :func:`unchecked`.

    Args:
        first: A result.
        second: Another.
        dataset: Data set whose scores are compared; None to check no data set.

    Returns:
        One sentence per reason, without the names of the results, in the order (first, second).
    """
    reasons = [
        *_protocols(first, second),
        *_backbones(first, second),
        *_trainings(first, second),
        *_precisions(first, second),
    ]
    return reasons if dataset is None else [*reasons, *_data(first, second, dataset)]


def unchecked(first: Result, second: Result, dataset: str | None = None) -> list[str]:
    """What could not be checked because a result does not record it: remarks for readers of the comparison.

    Two dry runs get one as well: they may be compared, to try out the whole way, but their numbers mean nothing.
    """
    remarks = [DRY_RUNS] if first.has_random_weights and second.has_random_weights else []
    if not (first.backbone.get("sha256") and second.backbone.get("sha256")):
        remarks.append("the backbone's weights could not be compared: a result has no hash of them")
    if not first.upsampler.get("sha256") and not second.upsampler.get("sha256"):
        remarks.append("upsamplers have no hash, so results were not combined: each stands alone")
    if not first.training and not second.training:
        remarks.append("how the probes were trained is unknown: the results have no training record")
    found = [
        result.datasets[dataset] for result in (first, second) if dataset is not None and dataset in result.datasets
    ]
    if len(found) == 2 and None in [data.content_sha256 for data in found]:
        remarks.append(f"{dataset}: only object ids were compared, not images and masks: a result has no hash")
    return remarks


def _protocols(first: Result, second: Result) -> list[str]:
    if first.fingerprint == second.fingerprint:
        return []
    mine, theirs = first.protocol.to_dict(), second.protocol.to_dict()
    fields = [
        f"{name} {_value(mine[name])} and {_value(theirs[name])}"
        for name in mine
        if name not in NOT_IN_FINGERPRINT and mine[name] != theirs[name]
    ]
    hashes = f"hash {short_hash(first.fingerprint)} and {short_hash(second.fingerprint)}"
    labels = first.protocol.label, second.protocol.label
    names = "" if labels[0] == labels[1] else f"{labels[0]} and {labels[1]}; "
    return [f"the protocols differ ({names}{hashes}): {'; '.join(fields)}"]


def _value(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _backbones(first: Result, second: Result) -> list[str]:
    if first.has_random_weights != second.has_random_weights:
        order = "first" if first.has_random_weights else "second"
        return [f"the {order} result is a dry run: its backbone has random weights (--random-weights)"]
    norms = first.backbone.get("feature_norm"), second.backbone.get("feature_norm")
    if None not in norms and norms[0] != norms[1]:
        return [f"the backbones bring features to a usual size in different ways ({norms[0]} and {norms[1]})"]
    for what, said in (("mean", "mean"), ("std", "deviation")):
        values = [list(one.backbone[what]) for one in (first, second) if one.backbone.get(what) is not None]
        if len(values) == 2 and values[0] != values[1]:
            shown = " and ".join(", ".join(f"{value:.9g}" for value in each) for each in values)
            return [f"the input of the backbones was normalised with another {said} ({shown})"]
    mine, theirs = first.backbone.get("sha256"), second.backbone.get("sha256")
    if not mine or not theirs or mine == theirs:
        devices = first.environment.get("device"), second.environment.get("device")
        if differs(first.backbone.get("behaviour"), second.backbone.get("behaviour"), devices):
            return ["the backbones computed different features for the same input"]
        return []
    return [f"the weights of the backbone differ (hash {short_hash(mine)} and {short_hash(theirs)})"]


def _trainings(first: Result, second: Result) -> list[str]:
    mine, theirs = len(first.training), len(second.training)
    if mine == theirs:
        return []
    said = " and ".join(
        f"{count} epoch{'s' * (count != 1)}" if count else "an unknown training" for count in (mine, theirs)
    )
    return [f"the probes were not trained alike: {said} on record"]


def _precisions(first: Result, second: Result) -> list[str]:
    mine, theirs = precision_of(first), precision_of(second)
    return [] if mine == theirs else [f"computed in {mine} and {theirs}"]


def _data(first: Result, second: Result, dataset: str) -> list[str]:
    missing = [order for order, result in (("first", first), ("second", second)) if dataset not in result.datasets]
    if missing:
        return [f"{dataset}: not in the {' and not in the '.join(missing)} result"]
    mine, theirs = first.datasets[dataset], second.datasets[dataset]
    if reasons := _objects(mine, theirs):
        return [f"{dataset}: {reason}" for reason in reasons]
    hashes = (mine.content_sha256, theirs.content_sha256)
    if None in hashes or hashes[0] == hashes[1]:
        return []
    return [
        f"{dataset}: the same ids, but other images, masks or order (hash {short_hash(hashes[0])} and "
        f"{short_hash(hashes[1])})"
    ]


def _objects(mine: DatasetResult, theirs: DatasetResult) -> list[str]:
    here, there = dict.fromkeys(mine.object_ids), dict.fromkeys(theirs.object_ids)
    reasons = []
    for order, own, other in (("first", here, there), ("second", there, here)):
        if only := [object_id for object_id in own if object_id not in other]:
            reasons.append(f"{len(only)} of {len(own)} objects only in the {order} result ({_some(only)})")
    return reasons


def _some(values: Sequence[object]) -> str:
    shown = ", ".join(printable(str(value)) for value in islice(values, _SHOWN))
    return f"{shown}, …" if len(values) > _SHOWN else shown
