"""The result on one data set: clicks and IoUs of every object, the scores derived from them, and their JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from vfm_isbench.errors import ResultError
from vfm_isbench.metrics import mean_iou_at, not_reached, number_of_clicks, stopping_click
from vfm_isbench.results.display import quoted
from vfm_isbench.storage import json_fields
from vfm_isbench.storage.printable import printable, quote
from vfm_isbench.storage.strict_json import UnreadableError
from vfm_isbench.types import Array, Click, ObjectEvidence, ObjectId, is_number

THRESHOLDS = (80, 85, 90, 95)
"""IoUs in percent for which NoC is reported; 95 appears only in the frame and the file."""

MOST_OBJECTS = 100_000
"""Objects of a data set that are read from a file."""
MOST_CLICKS = 1_000
"""Clicks of an object; a protocol has no more."""
_LARGEST_IMAGE = 1_000_000
"""Rows or columns; no click is farther from the corner."""


@dataclass(frozen=True)
class DatasetResult:
    """Evidence on one data set, and the scores derived from it.

    Attributes:
        name: Data set.
        objects: Evidence per object, in the order of evaluation.
        seconds_per_click: Mean wall time per click; None if it was not timed.
        content_sha256: Hash of the evaluated objects' ids, images and masks in order; None if it was not computed.
        stop_at_iou: IoUs in percent; clicking on an object stopped once it had reached all of them. None: every click
            was placed.
        click_cap: The protocol's clicks per object; needed only with ``stop_at_iou``.
    """

    name: str
    objects: tuple[ObjectEvidence, ...]
    seconds_per_click: float | None = None
    content_sha256: str | None = None
    stop_at_iou: tuple[int, ...] | None = None
    click_cap: int | None = None

    def __repr__(self) -> str:
        return f"<DatasetResult {self.in_short('noc90')}>"

    def in_short(self, metric: str) -> str:
        """One short line: the data set, its number of objects, and a score, such as "noc90"."""
        text = f"{quoted(self.name)}, {len(self.objects)} objects"
        score = self.scores().get(metric, math.nan) if self.objects else math.nan
        if math.isnan(score):
            return text
        return f"{text}, {metric} {score:.2f}" if metric.startswith("noc") else f"{text}, {metric} {100 * score:.2f} %"

    @cached_property
    def ious(self) -> Array:
        """N×K float64: IoU of N objects after click 1 … K; NaN for clicks that ``stop_at_iou`` skipped."""
        ious = np.full((len(self.objects), self.max_clicks), np.nan)
        for row, evidence in zip(ious, self.objects, strict=True):
            row[: len(evidence.ious)] = evidence.ious
        return ious

    @property
    def max_clicks(self) -> int:
        """K, the click cap."""
        return self.click_cap or max((len(evidence.ious) for evidence in self.objects), default=0)

    @property
    def object_ids(self) -> list[ObjectId]:
        """Ids of the N objects, in order."""
        return [evidence.object_id for evidence in self.objects]

    def clicks_to(self, percent: int) -> Array | None:
        """Clicks that each of the N objects needs to reach an IoU in percent; the cap if it never does.

        None if ``stop_at_iou`` stopped the clicks too early to know.
        """
        if self.stop_at_iou is not None and percent > max(self.stop_at_iou):
            return None
        return number_of_clicks(self.ious, percent / 100)

    def noc(self, percent: int) -> float:
        """NoC at an IoU in percent: the mean of :meth:`clicks_to`; NaN if unknown."""
        counts = self.clicks_to(percent)
        return math.nan if counts is None else float(counts.mean())

    def iou_at(self, clicks: int) -> float:
        """Mean IoU after ``clicks`` clicks; NaN if any object got fewer."""
        return mean_iou_at(self.ious, clicks) if clicks <= self.max_clicks else math.nan

    def scores(self) -> dict[str, float]:
        """All scores of the data set by name; NaN for those that ``stop_at_iou`` leaves unknown."""
        scores: dict[str, float] = {"objects": len(self.objects)}
        for percent in THRESHOLDS:
            counts = self.clicks_to(percent)
            counts = np.array([math.nan]) if counts is None else counts
            scores[f"noc{percent}"] = float(counts.mean())
            scores[f"noc{percent}_std"] = float(counts.std())
            is_known = not math.isnan(counts[0])
            scores[f"not_reached{percent}"] = not_reached(self.ious, percent / 100) if is_known else math.nan
        for clicks in sorted({1, 2, 3, 5, 10, self.max_clicks}):
            if clicks <= self.max_clicks:
                scores[f"iou_at_{clicks}"] = self.iou_at(clicks)
        scores["mean_iou"] = float(self.ious.mean())
        return scores

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready content, with the scores for readers of the file; :meth:`from_dict` checks them."""
        stopped: dict[str, Any] = {}
        if self.stop_at_iou is not None:
            stopped = {"early_stop": list(self.stop_at_iou), "max_clicks": self.max_clicks}
        return {
            **stopped,
            "scores": {name: None if math.isnan(value) else value for name, value in self.scores().items()},
            "seconds_per_click": self.seconds_per_click,
            "content_sha256": self.content_sha256,
            "objects": [evidence_to_dict(evidence) for evidence in self.objects],
        }

    @classmethod
    def from_dict(cls, name: str, content: Mapping[str, Any]) -> DatasetResult:
        """The inverse of :meth:`to_dict`.

        Raises:
            ResultError: if a field is missing or has the wrong type, or the evidence contradicts itself or the written
                scores.
        """
        try:
            return cls._from_dict(name, content)
        except UnreadableError as error:
            raise ResultError(str(error)) from error

    @classmethod
    def _from_dict(cls, name: str, content: Mapping[str, Any]) -> DatasetResult:
        where = f"datasets.{name}."
        written = json_fields.sequence(content, "objects", where, MOST_OBJECTS)
        objects = tuple(evidence_from_dict(item) for item in written)
        stop_at_iou, cap = content.get("early_stop"), content.get("max_clicks")
        if not objects or (stop_at_iou is None and len({len(evidence.ious) for evidence in objects}) != 1):
            raise ResultError(f"data set {name!r} needs at least one object, and as many clicks for each of them")
        if stop_at_iou is not None:
            stop_at_iou = tuple(json_fields.sequence(content, "early_stop", where, 100))
            _check_early_stop(name, objects, stop_at_iou, cap)
        if len({evidence.object_id for evidence in objects}) != len(objects):
            raise ResultError(f"data set {name!r}: an object occurs twice")
        if "content_sha256" not in content:
            raise UnreadableError(f"the field '{where}content_sha256' is missing")
        found = cls(
            name,
            objects,
            json_fields.optional_number(content, "seconds_per_click", where),
            json_fields.optional_text(content, "content_sha256", where),
            stop_at_iou,
            cap if stop_at_iou else None,
        )
        _check_scores(found, json_fields.mapping(content, "scores", where))
        return found


def _check_early_stop(name: str, objects: tuple[ObjectEvidence, ...], stop_at_iou: tuple[int, ...], cap: Any) -> None:
    are_percents = all(type(percent) is int and 0 < percent <= 100 for percent in stop_at_iou)
    if not stop_at_iou or not are_percents or type(cap) is not int or not 0 < cap <= MOST_CLICKS:
        raise ResultError(f"data set {name!r} was stopped early, but does not say at which IoU or at which cap")
    for evidence in objects:
        if len(evidence.ious) != stopping_click(evidence.ious, stop_at_iou, cap):
            raise ResultError(
                f"data set {name!r}: object {_named(evidence.object_id)} has {len(evidence.ious)} clicks, but an "
                f"evaluation that stops at IoU {stop_at_iou} % would have placed another number"
            )


def _check_scores(found: DatasetResult, scores: Mapping[str, Any]) -> None:
    for key, value in found.scores().items():
        written = scores.get(key)
        if written is None and math.isnan(value):
            continue
        if not is_number(written) or not math.isclose(written, value, abs_tol=1e-9):
            raise ResultError(
                f"data set {found.name!r}: {key} is written as {quote(written)}, but its evidence gives {value!r}"
            )


def evidence_to_dict(evidence: ObjectEvidence) -> dict[str, Any]:
    """JSON of an object's evidence: image, instance, clicks as [row, column, 1 or 0], IoU after each click."""
    return {
        "image": evidence.object_id.image,
        "instance": evidence.object_id.instance,
        "clicks": [[click.row, click.col, int(click.is_positive)] for click in evidence.clicks],
        "iou": list(evidence.ious),
    }


def evidence_from_dict(content: Mapping[str, Any]) -> ObjectEvidence:
    """The inverse of :func:`evidence_to_dict`.

    Raises:
        ResultError: if a field is missing or has the wrong type, if the numbers of clicks and IoUs differ, or if an IoU
            lies outside [0, 1].
    """
    try:
        image, instance, written = content["image"], content["instance"], content["iou"]
        placed = [(row, col, positive) for row, col, positive in content["clicks"]]
        if not _is_object_id(image, instance):
            raise ResultError(
                f"the fields 'image' and 'instance' do not name an object: found {quote(image)} and {quote(instance)}, "
                "expected a text, and a whole number or null"
            )
        object_id = ObjectId(image, instance)
        # Hundreds of thousands of numbers: look closer only if they are not what this library writes.
        are_plain = all(type(value) is float for value in written)
        odd = [] if are_plain else [value for value in written if not is_number(value)]
        if odd:
            raise ResultError(
                f"object {_named(object_id)}: the field 'iou' has the wrong type: {quote(odd[0])} is not a number"
            )
        are_plain = all(
            type(row) is int and type(col) is int and type(positive) is int
            and 0 <= row <= _LARGEST_IMAGE and 0 <= col <= _LARGEST_IMAGE and 0 <= positive <= 1
            for row, col, positive in placed
        )  # fmt: skip
        if not are_plain and not all(_is_click(row, col, positive) for row, col, positive in placed):
            raise ResultError(
                f"object {_named(object_id)}: the field 'clicks' must list [row, column, 1 or 0] in numbers, which are "
                f"pixels from 0 to {_LARGEST_IMAGE}"
            )
        ious = tuple(float(value) for value in written)
        clicks = tuple(Click(row, col, bool(positive)) for row, col, positive in placed)
    except (KeyError, TypeError, ValueError) as error:
        raise ResultError(f"the evidence of an object has the wrong type: {printable(repr(error))}") from error
    if len(ious) != len(clicks) or not 0 < len(ious) <= MOST_CLICKS:
        raise ResultError(f"object {_named(object_id)}: {len(clicks)} clicks but {len(ious)} IoUs")
    if not all(0 <= value <= 1 for value in ious):
        raise ResultError(f"object {_named(object_id)}: an IoU lies outside [0, 1]")
    return ObjectEvidence(object_id, clicks, ious)


def _is_object_id(image: object, instance: object) -> bool:
    is_instance = instance is None or (type(instance) is int and 0 <= instance < 2**31)
    return isinstance(image, str) and len(image) <= json_fields.LONGEST_NAME and is_instance


def _is_click(row: object, col: object, positive: object) -> bool:
    is_place = is_number(row) and is_number(col) and 0 <= row <= _LARGEST_IMAGE and 0 <= col <= _LARGEST_IMAGE
    return is_place and type(positive) is int and positive in (0, 1)


def _named(object_id: ObjectId) -> str:
    return printable(str(object_id))
