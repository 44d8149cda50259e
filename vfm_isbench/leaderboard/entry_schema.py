"""The schema of an entry: its fields, their types and lengths. Their content is checked elsewhere."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from typing import Any

from vfm_isbench.leaderboard.findings import Report
from vfm_isbench.leaderboard.schema import (
    HEX,
    Check,
    Flag,
    ListOf,
    MapOf,
    Number,
    Optional,
    Plain,
    Record,
    Text,
    Url,
)
from vfm_isbench.results.evidence_json import is_size
from vfm_isbench.storage.printable import quote
from vfm_isbench.types import is_number
from vfm_isbench.upsamplers import ContractReport, UpsamplerIdentity

SCHEMA_VERSION = 1
MOST_RUNS = 20
MOST_DATASETS = 20
MOST_OBJECTS = 50_000
MOST_CLICKS = 200
MOST_COLOURS = 100

DATE = Text(10, pattern=re.compile(r"\d{4}-\d{2}-\d{2}"), expected="a date as 2026-11-25")
SHA256 = Text(64, pattern=HEX, expected="a SHA-256: 64 digits 0-9 a-f")


@dataclasses.dataclass(frozen=True, slots=True)
class Name:
    """The name of an upsampler or a person: short, visible, and neither a path nor markup."""

    longest: int = 80

    def __call__(self, value: Any, path: str, report: Report) -> bool:
        """See :class:`vfm_isbench.leaderboard.schema.Check`."""
        if not Text(self.longest)(value, path, report):
            return False
        problem = name_problem(value)
        if problem:
            report.add(path, f"{quote(value)} {problem}")
        return not problem


def name_problem(name: str) -> str | None:
    """What is wrong with a name, or None."""
    if not name or name != " ".join(name.split()):
        return "is empty, starts or ends with a blank, or has several blanks in a row"
    if unicodedata.normalize("NFC", name) != name:
        return "is not in Unicode's normal form NFC, so names that look equal could differ"
    if any(char in name for char in "/\\") or name.startswith("."):
        return "looks like a path: a name must not contain / or \\ or begin with a dot"
    if any(char in name for char in '<>&"`'):
        return 'contains one of < > & " `, which are reserved for markup'
    return None


@dataclasses.dataclass(frozen=True, slots=True)
class Ious:
    """IoUs in [0, 1], one per click."""

    def __call__(self, value: Any, path: str, report: Report) -> bool:
        """See :class:`vfm_isbench.leaderboard.schema.Check`."""
        # Millions of numbers: check them one by one only if something is wrong.
        usable = isinstance(value, list) and 0 < len(value) <= MOST_CLICKS
        if usable and all(type(iou) in (int, float) and 0 <= iou <= 1 for iou in value):
            return True
        return ListOf(Number(0, 1), 1, MOST_CLICKS)(value, path, report)


@dataclasses.dataclass(frozen=True, slots=True)
class Clicks:
    """Clicks as [row, column, 1 or 0]."""

    def __call__(self, value: Any, path: str, report: Report) -> bool:
        """See :class:`vfm_isbench.leaderboard.schema.Check`."""
        if not isinstance(value, list) or not 0 < len(value) <= MOST_CLICKS:
            return ListOf(Plain(), 1, MOST_CLICKS)(value, path, report)
        good = True
        for index, click in enumerate(value):
            if not (
                isinstance(click, list)
                and len(click) == 3
                and all(is_number(part) and 0 <= part <= 100_000 for part in click)
                and click[2] in (0, 1)
            ):
                report.add(f"{path}[{index}]", "is not a click: expected [row, column, 1 or 0], in pixels")
                good = False
        return good


@dataclasses.dataclass(frozen=True, slots=True)
class Size:
    """Size of an object as [pixels, rows and columns of its image]."""

    def __call__(self, value: Any, path: str, report: Report) -> bool:
        """See :class:`vfm_isbench.leaderboard.schema.Check`."""
        are_whole = isinstance(value, list) and len(value) == 3 and all(type(part) is int for part in value)
        good = are_whole and is_size(*value)
        if not good:
            report.add(path, "is not a size: expected [pixels of the object, rows, columns of the image]")
        return good


NOTE = Text(2000, lines=True)
OBJECT = Record(
    {"image": Text(200), "instance": Optional(Number(1, 1e9, whole=True)), "clicks": Clicks(), "iou": Ious()},
    {"boundary_iou": Ious(), "size": Size()},
)
DATASET = Record(
    {
        "scores": MapOf(Optional(Number())),
        "seconds_per_click": Optional(Number(0)),
        "content_sha256": Optional(SHA256),
        "objects": ListOf(OBJECT, 1, MOST_OBJECTS),
    },
    {
        "early_stop": Optional(ListOf(Number(1, 100, whole=True), 1, 20)),
        "max_clicks": Optional(Number(1, MOST_CLICKS, whole=True)),
    },
)
_BEHAVIOUR = Optional(ListOf(Number(), most=100))
_UPSAMPLER_FIELDS: dict[str, Check] = {
    "name": Text(200),
    "kind": Text(20),
    "sha256": Optional(SHA256),
    "source": Optional(Plain()),
    "output_size": ListOf(Number(1, 1e6, whole=True), 2, 2),
    "deterministic": Flag(),
    "batch_independent": Flag(),
    "repeat_deviation": Number(0),
    "batch_deviation": Number(0),
    "n_parameters": Optional(Number(0, 1e15, whole=True)),
    "ms_per_image": Number(0),
    "warnings": ListOf(NOTE, most=20),
}
_LATER_FIELDS: dict[str, Check] = {
    "flops_per_image": Optional(Number(0, 1e18, whole=True)),
    "peak_bytes": Optional(Number(0, 1e18, whole=True)),
    "uses_features": Flag(),
}
"""Fields that entries of versions up to 0.4.0 lack."""
UPSAMPLER = Record(
    {
        # New fields of these two classes are accepted as plain values.
        field.name: _UPSAMPLER_FIELDS.get(field.name, Plain())
        for kind in (UpsamplerIdentity, ContractReport)
        for field in dataclasses.fields(kind)
        if field.name not in _LATER_FIELDS
    },
    {**_LATER_FIELDS, "behaviour": _BEHAVIOUR, "trained_with": Plain()},
)
BACKBONE = Record(
    {
        "name": Text(200),
        "width": Number(1, 1e6, whole=True),
        "patch_size": Number(1, 1e4, whole=True),
        "sha256": Optional(SHA256),
    },
    {
        "behaviour": _BEHAVIOUR,
        "feature_norm": Text(40),
        "weights": Text(40),
        "mean": ListOf(Number(), most=MOST_COLOURS),
        "std": ListOf(Number(), most=MOST_COLOURS),
        "commit": Text(40),
    },
)
RUN = Record(
    {
        "schema_version": Number(1, 1, whole=True),
        "fingerprint": SHA256,
        "protocol": MapOf(Plain(1, 200), 200),
        "upsampler": UPSAMPLER,
        "backbone": BACKBONE,
        "training": ListOf(MapOf(Optional(Number()), 20), most=5000),
        "environment": MapOf(Plain(2, 300)),
        "timings": MapOf(Number(0), 1000),
        "created": Text(40),
        "notes": ListOf(NOTE, most=100),
        "datasets": MapOf(DATASET, MOST_DATASETS),
    },
    {
        "speed": MapOf(Plain(1, 200)),
        "peak_memory": MapOf(Number(0, 1e15, whole=True)),
        "trained_parameters": MapOf(Number(0, 1e15, whole=True), 20),
    },
)
REPRODUCED = Record(
    {
        "by": Name(),
        "date": DATE,
        "version": Text(40),
        "device": Text(200),
        "evidence_sha256": SHA256,
        "scores": MapOf(MapOf(Number(0, MOST_CLICKS), 20), 20),
    }
)
ENTRY = Record(
    {
        "schema_version": Number(SCHEMA_VERSION, SCHEMA_VERSION, whole=True),
        "name": Name(),
        "code": Optional(Url()),
        "paper": Optional(Url()),
        "submitter": Optional(Name()),
        "date": DATE,
        "spec": Optional(Text(300)),
        "fingerprint": SHA256,
        "runs": ListOf(RUN, 1, MOST_RUNS),
        "reproduced": Optional(REPRODUCED),
    }
)
