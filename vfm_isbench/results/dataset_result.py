"""The result on one data set: clicks and IoUs of every object, the scores derived from them, and their JSON."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from vfm_isbench.errors import ResultError
from vfm_isbench.metrics import (
    failure_curve,
    failures,
    iou_auc,
    mean_iou_at,
    not_reached,
    number_of_clicks,
    stopping_click,
)
from vfm_isbench.results.display import quoted
from vfm_isbench.results.evidence_json import MOST_CLICKS, evidence_from_dict, evidence_to_dict, named
from vfm_isbench.storage import json_fields
from vfm_isbench.storage.printable import quote
from vfm_isbench.storage.strict_json import UnreadableError
from vfm_isbench.types import Array, ObjectEvidence, ObjectId, is_number

THRESHOLDS = (80, 85, 90, 95)
"""IoUs in percent for which NoC and NoF are reported; the standard table leaves 95 out."""
_CLICKS = (1, 2, 3, 5, 10)
"""Clicks for which IoU@k is reported, besides the last."""
_NOT_IN_0_4 = re.compile(r"nof\d+|iou_auc|(mean_)?boundary_iou.*")
"""Scores that files of versions up to 0.4.0 lack."""

MOST_OBJECTS = 100_000
"""Objects of a data set that are read from a file."""


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
        return self._table([evidence.ious for evidence in self.objects])

    @cached_property
    def boundary_ious(self) -> Array | None:
        """The same for boundary IoU; None if it was not measured for every object."""
        rows = [evidence.boundary_ious for evidence in self.objects if evidence.boundary_ious is not None]
        return self._table(rows) if rows and len(rows) == len(self.objects) else None

    @cached_property
    def size_shares(self) -> Array | None:
        """N float64: each object's share of its image; None if a size is unknown, as in files of version 0.4.0."""
        shares = [evidence.size.share for evidence in self.objects if evidence.size is not None]
        return np.array(shares) if shares and len(shares) == len(self.objects) else None

    def _table(self, rows: Sequence[Sequence[float]]) -> Array:
        table = np.full((len(rows), self.max_clicks), np.nan)
        for row, values in zip(table, rows, strict=True):
            row[: len(values)] = values
        return table

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

    def failures_after(self, percent: int) -> Array | None:
        """Number of objects that have not reached an IoU in percent after click 1 … K; the last is NoF.

        None if ``stop_at_iou`` stopped the clicks too early to know.
        """
        return None if self.clicks_to(percent) is None else failure_curve(self.ious, percent / 100)

    def of_objects(self, chosen: Array) -> DatasetResult:
        """The result on some of the objects; ``chosen`` N booleans. Timing and hash of the data are left out."""
        objects = tuple(evidence for evidence, is_in in zip(self.objects, chosen, strict=True) if is_in)
        return DatasetResult(self.name, objects, stop_at_iou=self.stop_at_iou, click_cap=self.max_clicks)

    def scores(self) -> dict[str, float]:
        """All scores of the data set by name; NaN for those that ``stop_at_iou`` leaves unknown.

        Scores of boundary IoU are there only if it was measured.
        """
        scores: dict[str, float] = {"objects": len(self.objects)}
        for percent in THRESHOLDS:
            counts = self.clicks_to(percent)
            counts = np.array([math.nan]) if counts is None else counts
            scores[f"noc{percent}"] = float(counts.mean())
            scores[f"noc{percent}_std"] = float(counts.std())
            is_known = not math.isnan(counts[0])
            for name, count in (("not_reached", not_reached), ("nof", failures)):
                scores[f"{name}{percent}"] = count(self.ious, percent / 100) if is_known else math.nan
        scores |= self._over_clicks("iou", self.ious)
        scores["iou_auc"] = float(iou_auc(self.ious).mean())
        if self.boundary_ious is not None:
            scores |= self._over_clicks("boundary_iou", self.boundary_ious)
        return scores

    def _over_clicks(self, name: str, values: Array) -> dict[str, float]:
        """Means of values N×K after some clicks, and over all of them."""
        clicks = [click for click in sorted({*_CLICKS, self.max_clicks}) if click <= self.max_clicks]
        after = {f"{name}_at_{click}": mean_iou_at(values, click) for click in clicks}
        return {**after, f"mean_{name}": float(values.mean())}

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
                f"data set {name!r}: object {named(evidence.object_id)} has {len(evidence.ious)} clicks, but an "
                f"evaluation that stops at IoU {stop_at_iou} % would have placed another number"
            )


def _check_scores(found: DatasetResult, scores: Mapping[str, Any]) -> None:
    for key, value in found.scores().items():
        if key not in scores and _NOT_IN_0_4.fullmatch(key):
            continue
        written = scores.get(key)
        if written is None and math.isnan(value):
            continue
        if not is_number(written) or not math.isclose(written, value, abs_tol=1e-9):
            raise ResultError(
                f"data set {found.name!r}: {key} is written as {quote(written)}, but its evidence gives {value!r}"
            )
