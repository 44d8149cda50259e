"""Checks an entry's runs against each other and against the known test sets: protocol, objects, clicks, scores."""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Mapping, Sequence
from typing import Any

from vfm_isbench.errors import ProtocolError
from vfm_isbench.leaderboard.entry_schema import MOST_DATASETS, MOST_RUNS
from vfm_isbench.leaderboard.findings import Report
from vfm_isbench.leaderboard.manifests import manifest_of
from vfm_isbench.metrics import stopping_click
from vfm_isbench.protocol import PRESETS, Protocol
from vfm_isbench.results import DatasetResult
from vfm_isbench.results.evidence_json import evidence_from_dict
from vfm_isbench.storage.printable import quote
from vfm_isbench.types import ObjectId, is_number

REQUIRED_SCORES = ("objects", "noc80", "noc85", "noc90", "iou_at_1")
_ANY = PRESETS["paper"].replace(milestones=())
"""A protocol in which each field may have any value, whatever the others are."""
_FIELDS = frozenset(field.name for field in dataclasses.fields(Protocol))
_TOLERANCE = 1e-9
"""For written scores, which depend slightly on the order of summation."""


def check_runs(runs: Any, fingerprint: Any, report: Report) -> None:
    """Check the content of the runs, as far as the schema found their types to be right.

    Args:
        runs: The runs as read from the file, of any type.
        fingerprint: The entry's fingerprint, of any type.
        report: Takes the findings; already contains those of the schema.
    """
    # The schema has not checked lists longer than this.
    runs = [_dict(run) for run in _list(runs)] if len(_list(runs)) <= MOST_RUNS else []
    protocols = []
    for index, run in enumerate(runs):
        path = f"runs[{index}]"
        protocol = _check_protocol(_dict(run.get("protocol")), f"{path}.protocol", report)
        protocols.append(protocol)
        if isinstance(run.get("created"), str):
            _check_date(run["created"], f"{path}.created", report)
        if protocol is None:
            continue
        for written, where in ((run.get("fingerprint"), f"{path}.fingerprint"), (fingerprint, "fingerprint")):
            if isinstance(written, str) and written != protocol.fingerprint():
                report.add(where, f"{quote(written)} is not that of {path}.protocol, {protocol.fingerprint()}")
        if _dict(run.get("upsampler")).get("trained_with"):
            report.add(
                f"{path}.upsampler.trained_with",
                "the probe was trained with another upsampler than it was evaluated with: train it with this one",
            )
        if "weights" in _dict(run.get("backbone")):
            report.add(
                f"{path}.backbone.weights",
                f"{quote(run['backbone']['weights'])}: a dry run without pretrained weights says nothing about an "
                "upsampler; run again without --random-weights",
            )
        backbone = _dict(run.get("backbone")).get("name")
        if isinstance(backbone, str) and backbone != protocol.backbone:
            report.add(f"{path}.backbone.name", f"{quote(backbone)} is not the backbone of the protocol")
        _check_datasets(_dict(run.get("datasets")), protocol, f"{path}.datasets", report)
    _check_seeds(protocols, report)
    if runs:
        _check_together(runs, report)


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _check_protocol(content: Mapping[str, Any], path: str, report: Report) -> Protocol | None:
    """Read the protocol, or report every field that is wrong."""
    before = report.count
    for key, value in content.items():
        if key not in _FIELDS:
            report.add(f"{path}.{key}", "is not a field of a protocol")
            continue
        try:
            _ANY.replace(**{key: value})
        except (ProtocolError, TypeError, ValueError, OverflowError) as error:
            report.add(f"{path}.{key}", str(error))
    try:
        return Protocol.from_dict(content)
    except (ProtocolError, TypeError, ValueError, OverflowError) as error:
        if report.count == before:  # a missing field, or two that do not go together
            report.add(path, str(error))
    return None


def _check_date(text: str, path: str, report: Report) -> None:
    try:
        datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        report.add(path, f"{quote(text)} is not an ISO 8601 date and time")


def _check_datasets(datasets: Mapping[str, Any], protocol: Protocol, path: str, report: Report) -> None:
    if len(datasets) > MOST_DATASETS:
        return
    for name in protocol.test_datasets:
        if name not in datasets:
            report.add(f"{path}.{name}", "is missing: the protocol names it as a test set")
    for name, content in datasets.items():
        if name not in protocol.test_datasets:
            report.add(f"{path}.{name}", "is not a test set of the protocol")
        _check_dataset(name, _dict(content), protocol, f"{path}.{name}", report)


def _check_dataset(name: str, content: Mapping[str, Any], protocol: Protocol, path: str, report: Report) -> None:
    objects = [_dict(item) for item in _list(content.get("objects"))]
    stop_at_iou = [percent for percent in _list(content.get("early_stop")) if type(percent) is int]
    cap = content.get("max_clicks")
    if (stop_at_iou and cap is None) or (cap is not None and cap != protocol.max_clicks):
        report.add(f"{path}.max_clicks", f"{quote(cap)} is not that of the protocol, {protocol.max_clicks}")
    for index, object_ in enumerate(objects):
        _check_object(object_, protocol.max_clicks, stop_at_iou, f"{path}.objects[{index}]", report)
    ids = [_object_id(object_) for object_ in objects]
    if None not in ids:
        known_ids = [object_id for object_id in ids if object_id is not None]
        _check_objects(name, known_ids, protocol.object_limit, f"{path}.objects", report)
        _check_content(name, content.get("content_sha256"), protocol.object_limit, path, report)
    _check_places(name, objects, path, report)
    scores = _dict(content.get("scores"))
    _check_order_of_scores(scores, f"{path}.scores", report)
    # Scores can only be derived from evidence without findings.
    if objects and not report.may_concern(path):
        _check_scores(name, content, protocol.max_clicks, f"{path}.scores", report)


def _object_id(object_: Mapping[str, Any]) -> ObjectId | None:
    image, instance = object_.get("image"), object_.get("instance")
    usable = isinstance(image, str) and (instance is None or type(instance) is int)
    return ObjectId(str(image), instance) if usable else None


def _check_object(
    object_: Mapping[str, Any], max_clicks: int, stop_at_iou: Sequence[int], path: str, report: Report
) -> None:
    """Check the numbers of clicks and IoUs against each other, the protocol and the early stop."""
    clicks, ious = _list(object_.get("clicks")), _list(object_.get("iou"))
    if not clicks or not ious:
        return  # reported by the schema
    if len(clicks) != len(ious):
        report.add(f"{path}.clicks", f"has {len(clicks)} clicks for {len(ious)} IoUs")
    boundary_ious = object_.get("boundary_iou")
    if boundary_ious is not None and len(_list(boundary_ious)) != len(ious):
        report.add(f"{path}.boundary_iou", f"has {len(_list(boundary_ious))} boundary IoUs for {len(ious)} IoUs")
    if not stop_at_iou and len(ious) != max_clicks:
        report.add(f"{path}.iou", f"has {len(ious)} IoUs; the protocol places {max_clicks} clicks")
    elif stop_at_iou and all(map(is_number, ious)) and stopping_click(ious, stop_at_iou, max_clicks) != len(ious):
        text = f"ends after {len(ious)} clicks; an early stop ends at {max(stop_at_iou)} % or {max_clicks} clicks"
        report.add(f"{path}.iou", text)
    if _list(clicks[0])[2:] == [0]:
        report.add(f"{path}.clicks[0]", "is negative; the first click must lie on the object")


def _check_objects(name: str, objects: Sequence[ObjectId], limit: int | None, path: str, report: Report) -> None:
    """Check ids and numbers of objects against the manifest of the data set, as far as it is known."""
    first: dict[ObjectId, int] = {}
    for index, object_id in enumerate(objects):
        if first.setdefault(object_id, index) != index:
            report.add(f"{path}[{index}]", f"{quote(str(object_id))} is already objects[{first[object_id]}]")
    manifest = manifest_of(name)
    if manifest is None:
        return
    count = manifest.count(limit)
    if len(objects) != count:
        report.add(path, f"has {len(objects)} objects; expected {count} of {name}")
    n_images = len({object_id.image for object_id in objects})
    if n_images > manifest.n_images:
        report.add(path, f"lie in {n_images} images; {name} has {manifest.n_images}")
    for index, object_id in enumerate(objects):
        if (object_id.instance is not None) != manifest.has_instances:
            expected = "a number: an image may contain several objects" if manifest.has_instances else "null"
            report.add(f"{path}[{index}].instance", f"{quote(object_id.instance)} is not {expected}")
    if manifest.objects is None:
        return
    known = manifest.objects[:count]
    for index, object_id in enumerate(objects):
        if object_id not in known:
            report.add(f"{path}[{index}]", f"{quote(str(object_id))} is not among the objects of {name} to evaluate")
        elif len(objects) == count and known[index] != object_id:
            report.add(f"{path}[{index}]", f"is {object_id}; in the order of {name} it is {known[index]}")
    for object_id in known:
        if object_id not in first:
            report.add(path, f"lacks {object_id}")


def _check_content(name: str, written: Any, limit: int | None, path: str, report: Report) -> None:
    manifest = manifest_of(name)
    known = None if manifest is None else manifest.content_sha256(manifest.count(limit))
    if isinstance(written, str) and known is not None and written != known:
        report.add(f"{path}.content_sha256", f"{quote(written)} is not the hash of {name}, {known}")


def _check_places(name: str, objects: Sequence[Mapping[str, Any]], path: str, report: Report) -> None:
    """Check that clicks lie in the image, if its size is known."""
    manifest = manifest_of(name)
    known = None if manifest is None else manifest.image_size
    for index, object_ in enumerate(objects):
        written = _list(object_.get("size"))[1:]
        if known is not None and written and list(written) != list(known):
            report.add(f"{path}.objects[{index}].size", f"says {quote(written)}; the images are {known[0]}×{known[1]}")
        if known is None and len(written) != 2:
            continue
        height, width = known or written
        if not (is_number(height) and is_number(width)):
            continue
        for number, click in enumerate(_list(object_.get("clicks"))):
            row, col = (*_list(click), None, None)[:2]
            if is_number(row) and is_number(col) and (row >= height or col >= width):
                report.add(f"{path}.objects[{index}].clicks[{number}]", f"lies outside the image of {height}×{width}")


def _check_order_of_scores(scores: Mapping[str, Any], path: str, report: Report) -> None:
    for lower, higher in (("noc80", "noc85"), ("noc85", "noc90"), ("noc90", "noc95")):
        low, high = scores.get(lower), scores.get(higher)
        if is_number(low) and is_number(high) and low > high:
            report.add(path, f"{lower} {low} is above {higher} {high}; a higher IoU never takes fewer clicks")


def _check_scores(name: str, content: Mapping[str, Any], max_clicks: int, path: str, report: Report) -> None:
    """Check every written score against the evidence."""
    objects = tuple(evidence_from_dict(item) for item in content["objects"])
    stop_at_iou = content.get("early_stop")
    derived = DatasetResult(
        name,
        objects,
        stop_at_iou=None if stop_at_iou is None else tuple(stop_at_iou),
        click_cap=None if stop_at_iou is None else max_clicks,
    ).scores()
    for key in REQUIRED_SCORES:
        if key not in content["scores"]:
            report.add(f"{path}.{key}", "is missing")
    for key, written in content["scores"].items():
        if key not in derived:
            report.add(f"{path}.{key}", "is not a score of this version of the library")
            continue
        value = derived[key]
        if not _agree(written, value):
            shown = "an unknown score" if math.isnan(value) else f"{value!r}"
            report.add(f"{path}.{key}", f"{quote(written)} is written, but the evidence gives {shown}")


def _agree(written: float | None, value: float) -> bool:
    if written is None or math.isnan(value):
        return written is None and math.isnan(value)
    return math.isclose(written, value, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)


def _check_seeds(protocols: Sequence[Protocol | None], report: Report) -> None:
    first: dict[int, int] = {}
    for index, protocol in enumerate(protocols):
        if protocol is None:
            continue
        if first.setdefault(protocol.seed, index) != index:
            text = f"{protocol.seed} is already the seed of runs[{first[protocol.seed]}]"
            report.add(f"runs[{index}].protocol.seed", text)


_SAME = (
    ("protocol", "name"), ("upsampler", "name"), ("upsampler", "sha256"), ("backbone", "sha256"),
)  # fmt: skip
"""Fields that must be equal in all seeds of an entry."""


def _check_together(runs: Sequence[Mapping[str, Any]], report: Report) -> None:
    first, *others = runs
    evidence = [_evidence(first)]
    datasets = _dict(first.get("datasets"))
    for index, run in enumerate(others, start=1):
        path = f"runs[{index}]"
        for part, key in _SAME:
            mine, theirs = _dict(run.get(part)).get(key), _dict(first.get(part)).get(key)
            if mine != theirs:
                report.add(f"{path}.{part}.{key}", f"{quote(mine)} is not that of runs[0], {quote(theirs)}")
        for key in ("mean", "std"):  # which versions up to 0.4.0 did not record
            mine, theirs = (_dict(one.get("backbone")).get(key) for one in (run, first))
            if None not in (mine, theirs) and mine != theirs:
                report.add(f"{path}.backbone.{key}", f"{quote(mine)} is not that of runs[0], {quote(theirs)}")
        # Versions up to 0.4.0 wrote null for upsamplers without a module, later ones 0.
        mine, theirs = (_dict(one.get("upsampler")).get("n_parameters") for one in (run, first))
        if (mine or 0) != (theirs or 0):
            report.add(f"{path}.upsampler.n_parameters", f"{quote(mine)} is not that of runs[0], {quote(theirs)}")
        own = _dict(run.get("datasets"))
        for name in sorted(set(own) ^ set(datasets)):
            where = path if name in datasets else "runs[0]"
            report.add(f"{where}.datasets.{name}", "is missing, but another seed has it")
        for name in sorted(set(own) & set(datasets)):
            below = f"{path}.datasets.{name}"
            if _dict(own[name]).get("content_sha256") != _dict(datasets[name]).get("content_sha256"):
                report.add(f"{below}.content_sha256", "is not that of runs[0]: the runs were measured on other data")
            if _ids(own[name]) != _ids(datasets[name]):
                report.add(f"{below}.objects", "are not those of runs[0], or in another order")
        found = _evidence(run)
        if found and found in evidence:
            report.add(f"{path}.datasets", f"contain the same evidence as runs[{evidence.index(found)}]: one run twice")
        evidence.append(found)


def _ids(dataset: Any) -> list[tuple[Any, Any]]:
    objects = map(_dict, _list(_dict(dataset).get("objects")))
    return [(object_.get("image"), object_.get("instance")) for object_ in objects]


def _evidence(run: Mapping[str, Any]) -> dict[str, list[tuple[Any, Any]]]:
    return {
        name: [(item.get("clicks"), item.get("iou")) for item in map(_dict, _list(_dict(found).get("objects")))]
        for name, found in _dict(run.get("datasets")).items()
    }
