"""The result of a run: its protocol, what was measured, and the evidence every score is derived from."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vfm_isbench.errors import ProtocolError, ResultError
from vfm_isbench.metrics import mean_iou_at, not_reached, number_of_clicks, stopping_click
from vfm_isbench.protocol import Protocol
from vfm_isbench.results import form
from vfm_isbench.results.signature import score_signature, signature
from vfm_isbench.results.table import format_table
from vfm_isbench.types import Array, Click, ObjectEvidence, ObjectId

SCHEMA_VERSION = 1
THRESHOLDS = (80, 85, 90, 95)
"""IoU in percent for which NoC is reported; 95 only in the frame and the file."""


@dataclass(frozen=True)
class DatasetResult:
    """Evidence on one data set, and the scores that follow from it.

    Attributes:
        name: Data set.
        objects: Evidence per object, in the order of evaluation.
        seconds_per_click: Mean wall time per click; None where nothing was timed.
        content_sha256: Hash over the evaluated objects' ids, images and masks in order; None where it was not computed.
        stop_at_iou: IoUs in percent; an object was left as soon as it had reached all of them. None: all clicks placed.
        click_cap: The protocol's clicks per object; only needed with ``stop_at_iou``.
    """

    name: str
    objects: tuple[ObjectEvidence, ...]
    seconds_per_click: float | None = None
    content_sha256: str | None = None
    stop_at_iou: tuple[int, ...] | None = None
    click_cap: int | None = None

    @cached_property
    def ious(self) -> Array:
        """N×K float64: IoU of N objects after click 1 … K; NaN for clicks that ``stop_at_iou`` spared."""
        ious = np.full((len(self.objects), self.max_clicks), np.nan)
        for row, evidence in zip(ious, self.objects, strict=True):
            row[: len(evidence.ious)] = evidence.ious
        return ious

    @property
    def max_clicks(self) -> int:
        """K, the click cap."""
        return self.click_cap or max((len(evidence.ious) for evidence in self.objects), default=0)

    def clicks_to(self, percent: int) -> Array | None:
        """Clicks each of the N objects needs to reach an IoU given in percent, the cap where it is not reached.

        None where ``stop_at_iou`` left objects before that could be known.
        """
        if self.stop_at_iou is not None and percent > max(self.stop_at_iou):
            return None
        return number_of_clicks(self.ious, percent / 100)

    def noc(self, percent: int) -> float:
        """NoC at an IoU given in percent: mean of :meth:`clicks_to`; NaN where that is not known."""
        counts = self.clicks_to(percent)
        return math.nan if counts is None else float(counts.mean())

    def iou_at(self, clicks: int) -> float:
        """Mean IoU after ``clicks`` clicks; NaN where an object was given fewer."""
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


@dataclass(frozen=True)
class Result:
    """What :func:`vfm_isbench.evaluate` returns: prints as the standard table, saves as JSON.

    Attributes:
        protocol: Protocol of the run.
        upsampler: Name, kind, sha256, parameters, ms per image, findings of the contract check.
        backbone: Name, width, patch size, and hash of the weights.
        datasets: Result per data set.
        training: One record per epoch.
        environment: Versions and hardware.
        timings: Seconds by part.
        speed: Speed settings that differ from the default ones, see :class:`vfm_isbench.Speed`.
        created: Time of the evaluation, ISO 8601 with offset.
        notes: Remarks a reader of the numbers should see.
    """

    protocol: Protocol
    upsampler: Mapping[str, Any]
    backbone: Mapping[str, Any]
    datasets: Mapping[str, DatasetResult]
    training: tuple[Mapping[str, Any], ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    created: str = ""
    notes: tuple[str, ...] = ()
    speed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the protocol, see :meth:`vfm_isbench.Protocol.fingerprint`."""
        return self.protocol.fingerprint()

    def signature(self) -> str:
        """One line that tells what was measured under which protocol, after sacreBLEU's."""
        return signature([self], list(self.datasets))

    def score_signature(self, dataset: str, metric: str) -> str:
        """The same for one score, as in ``noc90|grabcut:50|bb:…|hash:…|data:…``; see :func:`score_signature`."""
        return score_signature([self], dataset, metric)

    def to_frame(self) -> pd.DataFrame:
        """One row per data set: objects, NoC80/85/90/95 with deviations, objects at the cap, IoU@k, s/click."""
        rows = [
            {"dataset": name, **found.scores(), "seconds_per_click": found.seconds_per_click}
            for name, found in self.datasets.items()
        ]
        frame: pd.DataFrame = pd.DataFrame(rows)
        return frame

    def __str__(self) -> str:
        return format_table(self)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready content of the result file."""
        return {
            "schema_version": SCHEMA_VERSION,
            "signature": self.signature(),
            "fingerprint": self.fingerprint,
            "protocol": self.protocol.to_dict(),
            "upsampler": dict(self.upsampler),
            "backbone": dict(self.backbone),
            "training": [dict(record) for record in self.training],
            "environment": dict(self.environment),
            "timings": dict(self.timings),
            "speed": dict(self.speed),
            "created": self.created,
            "notes": list(self.notes),
            "datasets": {name: _dataset_to_dict(found) for name, found in self.datasets.items()},
        }

    def save(self, path: str | Path) -> Path:
        """Write the result as JSON; the file is replaced whole or not at all. Returns the path.

        Raises:
            ResultError: if it cannot be written there.
        """
        path = Path(path)
        partial = path.with_name(path.name + ".partial")
        text = json.dumps(self.to_dict(), allow_nan=False, ensure_ascii=False)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(text, encoding="utf-8")
            partial.replace(path)
        except OSError as error:
            raise ResultError(f"{path} cannot be written: {error}") from error
        return path

    @classmethod
    def load(cls, path: str | Path) -> Result:
        """Read a result file; every score is derived anew from the evidence.

        Raises:
            ResultError: if the file is missing, broken, of another schema, or if the scores or the fingerprint written
                in it contradict its evidence or protocol.
        """
        path = Path(path)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ResultError(f"{path} could not be read: {error}") from error
        except ValueError as error:
            raise ResultError(f"{path} is no JSON file: {error}") from error
        except RecursionError as error:
            raise ResultError(f"{path} is no result: its JSON is nested too deeply") from error
        try:
            return cls.from_dict(content)
        except ResultError as error:
            raise ResultError(f"{path}: {error}") from error

    @classmethod
    def from_dict(cls, content: Any) -> Result:
        """The inverse of :meth:`to_dict`; see :meth:`load` for the checks."""
        if not isinstance(content, dict) or content.get("schema_version") != SCHEMA_VERSION:
            found = content.get("schema_version") if isinstance(content, dict) else type(content).__name__
            raise ResultError(f"not a result of schema version {SCHEMA_VERSION}: found {found!r}")
        try:
            result = cls(
                protocol=Protocol.from_dict(form.mapping(content, "protocol")),
                upsampler=form.part(content, "upsampler"),
                backbone=form.part(content, "backbone"),
                datasets={
                    name: _dataset_from_dict(name, form.mapping(content["datasets"], name, "datasets."))
                    for name in form.mapping(content, "datasets")
                },
                training=form.mappings(content, "training"),
                environment=form.mapping(content, "environment"),
                timings=form.numbers(content, "timings"),
                speed=form.mapping(content, "speed") if "speed" in content else {},
                created=form.text(content, "created"),
                notes=form.texts(content, "notes"),
            )
        except KeyError as error:
            raise ResultError(f"the field {error} is missing") from error
        except (TypeError, AttributeError, ProtocolError) as error:
            raise ResultError(f"a field has the wrong form: {error}") from error
        for name, found in result.datasets.items():
            if found.max_clicks != result.protocol.max_clicks:
                raise ResultError(
                    f"data set {name!r} has {found.max_clicks} clicks per object, but its protocol says "
                    f"{result.protocol.max_clicks}"
                )
        if content.get("fingerprint") != result.fingerprint:
            raise ResultError("the fingerprint does not belong to the protocol written beside it")
        return result


def _dataset_to_dict(found: DatasetResult) -> dict[str, Any]:
    stopped = (
        {} if found.stop_at_iou is None else {"early_stop": list(found.stop_at_iou), "max_clicks": found.max_clicks}
    )
    return {
        **stopped,
        "scores": {name: None if math.isnan(value) else value for name, value in found.scores().items()},
        "seconds_per_click": found.seconds_per_click,
        "content_sha256": found.content_sha256,
        "objects": [evidence_to_dict(evidence) for evidence in found.objects],
    }


def evidence_to_dict(evidence: ObjectEvidence) -> dict[str, Any]:
    """JSON form of an object's evidence: image, instance, clicks as [row, column, 1 or 0], IoU after each."""
    return {
        "image": evidence.object_id.image,
        "instance": evidence.object_id.instance,
        "clicks": [[click.row, click.col, int(click.is_positive)] for click in evidence.clicks],
        "iou": list(evidence.ious),
    }


def evidence_from_dict(content: Mapping[str, Any]) -> ObjectEvidence:
    """The inverse of :func:`evidence_to_dict`.

    Raises:
        ResultError: if something is missing or of another form, clicks and IoUs are not as many, or an IoU lies outside
            [0, 1].
    """
    try:
        object_id = ObjectId(content["image"], content["instance"])
        written, placed = content["iou"], [(row, col, positive) for row, col, positive in content["clicks"]]
        if not isinstance(object_id.image, str) or not (object_id.instance is None or type(object_id.instance) is int):
            raise ResultError(f"the fields 'image' and 'instance' of an object do not name it: {object_id!r}")
        odd = [value for value in written if not form.is_number(value)]
        if odd:
            raise ResultError(f"object {object_id}: the field 'iou' has the wrong form: {odd[0]!r} is no number")
        if not all(form.is_number(row) and form.is_number(col) and positive in (0, 1) for row, col, positive in placed):
            raise ResultError(
                f"object {object_id}: the field 'clicks' holds something else than [row, column, 1 or 0] in numbers"
            )
        ious = tuple(float(value) for value in written)
        clicks = tuple(Click(row, col, bool(positive)) for row, col, positive in placed)
    except (KeyError, TypeError, ValueError) as error:
        raise ResultError(f"the evidence of an object has the wrong form: {error!r}") from error
    if len(ious) != len(clicks) or not ious:
        raise ResultError(f"object {object_id}: {len(clicks)} clicks but {len(ious)} IoUs")
    if not all(0 <= value <= 1 for value in ious):
        raise ResultError(f"object {object_id}: an IoU lies outside [0, 1]")
    return ObjectEvidence(object_id, clicks, ious)


def _dataset_from_dict(name: str, content: Mapping[str, Any]) -> DatasetResult:
    where = f"datasets.{name}."
    objects = tuple(evidence_from_dict(one) for one in form.sequence(content, "objects", where))
    stop_at_iou, cap = content.get("early_stop"), content.get("max_clicks")
    if not objects or (stop_at_iou is None and len({len(evidence.ious) for evidence in objects}) != 1):
        raise ResultError(f"data set {name!r} needs at least one object, and as many clicks for each of them")
    if stop_at_iou is not None:
        stop_at_iou = tuple(stop_at_iou)
        if not stop_at_iou or not isinstance(cap, int):
            raise ResultError(f"data set {name!r} was stopped early, but does not say at which IoU or at which cap")
        for evidence in objects:
            if len(evidence.ious) != stopping_click(evidence.ious, stop_at_iou, cap):
                raise ResultError(
                    f"data set {name!r}: object {evidence.object_id} has {len(evidence.ious)} clicks, which is not "
                    f"where an evaluation stopped at IoU {stop_at_iou} % would leave it"
                )
    if len({evidence.object_id for evidence in objects}) != len(objects):
        raise ResultError(f"data set {name!r}: an object occurs twice")
    if "content_sha256" not in content:
        raise KeyError("content_sha256")
    found = DatasetResult(
        name,
        objects,
        form.optional_number(content, "seconds_per_click", where),
        form.optional_text(content, "content_sha256", where),
        stop_at_iou,
        cap if stop_at_iou else None,
    )
    scores = form.mapping(content, "scores", where)
    for key, value in found.scores().items():
        written = scores.get(key)
        if written is None and math.isnan(value):
            continue
        if not isinstance(written, int | float) or not math.isclose(written, value, abs_tol=1e-9):
            raise ResultError(f"data set {name!r}: {key} is written as {written!r}, but its evidence gives {value!r}")
    return found
