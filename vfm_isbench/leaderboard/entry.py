"""An entry of the leaderboard: who submits what, and the results of all training seeds with their evidence."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vfm_isbench.errors import LeaderboardError
from vfm_isbench.leaderboard.entry_schema import SCHEMA_VERSION
from vfm_isbench.leaderboard.gzip_json import to_bytes
from vfm_isbench.protocol import Protocol
from vfm_isbench.results import DatasetResult, Result
from vfm_isbench.results.dataset_result import evidence_to_dict
from vfm_isbench.results.signature import signature

ENDING = ".json.gz"
_LONGEST_SLUG = 48


@dataclass(frozen=True)
class Reproduction:
    """A maintainer's rerun that agreed with the entry.

    Attributes:
        by: Who reran it.
        date: When, ISO 8601.
        version: Version of this library that reran it.
        device: What it ran on.
        evidence_sha256: Hash of the entry's evidence that was compared with: the mark is worth nothing for any other.
        scores: Data set to score to the rerun's value.
    """

    by: str
    date: str
    version: str
    device: str
    evidence_sha256: str
    scores: Mapping[str, Mapping[str, float]]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready content."""
        return {**vars(self), "scores": {name: dict(found) for name, found in self.scores.items()}}


@dataclass(frozen=True)
class Entry:
    """One upsampler under one protocol, with one or several training seeds.

    Attributes:
        name: What the leaderboard calls it.
        code: Address of its code.
        paper: Address of its paper.
        submitter: Who submits it.
        date: When, ISO 8601.
        spec: How to name it for ``vfm-isbench run``; shown, never loaded by itself.
        runs: A result per training seed, by ascending seed.
        reproduced: A maintainer's rerun; whether it still holds is worked out by validation.
    """

    name: str
    code: str
    date: str
    runs: tuple[Result, ...]
    paper: str | None = None
    submitter: str | None = None
    spec: str | None = None
    reproduced: Reproduction | None = None

    @property
    def protocol(self) -> Protocol:
        """Protocol of the first seed; the others differ in the seed alone."""
        return self.runs[0].protocol

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the protocol."""
        return self.protocol.fingerprint()

    @property
    def seeds(self) -> tuple[int, ...]:
        """Training seeds."""
        return tuple(run.protocol.seed for run in self.runs)

    @cached_property
    def id(self) -> str:
        """Name and protocol as a file name can hold them; unique in a folder."""
        return f"{slug(self.name)}-{self.fingerprint[:12]}"

    @property
    def file_name(self) -> str:
        """Name of its file."""
        return self.id + ENDING

    @property
    def upsampler(self) -> Mapping[str, Any]:
        """What the first run says of its upsampler."""
        return self.runs[0].upsampler

    @property
    def datasets(self) -> Mapping[str, DatasetResult]:
        """Evidence of the first seed by data set; the others have the same objects in the same order."""
        return self.runs[0].datasets

    @cached_property
    def evidence_sha256(self) -> str:
        """Hash over the evidence of all runs, by seed and data set."""
        return _hash([[run.protocol.seed, run_evidence_sha256(run)] for run in self.runs])

    def marked(self, reproduced: Reproduction) -> Entry:
        """The entry with the mark of a rerun."""
        return dataclasses.replace(self, reproduced=reproduced)

    def signature(self) -> str:
        """The signature of its results, with all seeds."""
        return signature(self.runs, list(self.datasets))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready content of the file. Signatures are left out: they follow from the rest."""
        runs = [{key: value for key, value in run.to_dict().items() if key != "signature"} for run in self.runs]
        return {
            "schema_version": SCHEMA_VERSION,
            "name": self.name,
            "code": self.code,
            "paper": self.paper,
            "submitter": self.submitter,
            "date": self.date,
            "spec": self.spec,
            "fingerprint": self.fingerprint,
            "runs": runs,
            "reproduced": None if self.reproduced is None else self.reproduced.to_dict(),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Entry:
        """The inverse of :meth:`to_dict`, for content that :mod:`vfm_isbench.leaderboard.validation` found nothing in.

        Raises:
            ResultError: if a run contradicts itself all the same.
        """
        reproduced = content["reproduced"]
        return cls(
            name=content["name"],
            code=content["code"],
            paper=content["paper"],
            submitter=content["submitter"],
            date=content["date"],
            spec=content["spec"],
            runs=tuple(Result.from_dict(run) for run in content["runs"]),
            reproduced=None if reproduced is None else Reproduction(**reproduced),
        )

    def save(self, folder: Path) -> Path:
        """Write the entry's file, replaced whole or not at all; equal entries give equal bytes. Returns the path.

        Raises:
            LeaderboardError: if it cannot be written there.
        """
        path = folder / self.file_name
        partial = path.with_name(path.name + ".partial")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(to_bytes(self.to_dict()))
            partial.replace(path)
        except OSError as error:
            raise LeaderboardError(f"{path} cannot be written: {error}") from error
        return path


def slug(name: str) -> str:
    """A name in small ASCII letters, digits and hyphens, so that no name can lead out of a folder.

    >>> slug("My Upsampler (v2)"), slug("../../etc/passwd")
    ('my-upsampler-v2', 'etc-passwd')
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    found = re.sub(r"[^a-z0-9]+", "-", plain)[:_LONGEST_SLUG].strip("-")
    return found or f"entry-{hashlib.sha256(name.encode('utf-8', 'backslashreplace')).hexdigest()[:8]}"


def run_evidence_sha256(run: Result) -> str:
    """Hash over a run's clicks and IoUs: two runs with equal hashes are one and the same, whatever they are called."""
    return _hash(
        {name: [evidence_to_dict(one) for one in found.objects] for name, found in sorted(run.datasets.items())}
    )


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
