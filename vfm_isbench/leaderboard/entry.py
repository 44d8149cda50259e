"""A leaderboard entry: who submits which upsampler, with the results and evidence of all training seeds."""

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
from vfm_isbench.leaderboard.repository import PLACEHOLDER
from vfm_isbench.protocol import Protocol
from vfm_isbench.results import DatasetResult, Result
from vfm_isbench.results.evidence_json import clicks_to_dict
from vfm_isbench.results.signature import signature
from vfm_isbench.storage.atomic import write_bytes

ENDING = ".json.gz"
_LONGEST_SLUG = 48


@dataclass(frozen=True)
class Reproduction:
    """A maintainer's rerun that agreed with the entry.

    Attributes:
        by: Who reran it.
        date: Date of the rerun, ISO 8601.
        version: Version of this library in the rerun.
        device: Device of the rerun.
        evidence_sha256: Hash of the evidence that the rerun was compared with; the mark is valid for no other.
        scores: The rerun's scores, by data set and name.
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
        name: Name on the leaderboard.
        code: URL of its code; None if it is part of this library.
        paper: URL of its paper.
        submitter: Who submits it.
        date: Date of submission, ISO 8601.
        spec: Upsampler argument for ``vfm-isbench run``; shown, but never loaded automatically.
        runs: One result per training seed, by ascending seed.
        reproduced: A maintainer's rerun; validation checks whether it still holds.
    """

    name: str
    code: str | None
    date: str
    runs: tuple[Result, ...]
    paper: str | None = None
    submitter: str | None = None
    spec: str | None = None
    reproduced: Reproduction | None = None

    @property
    def protocol(self) -> Protocol:
        """Protocol of the first seed; the others differ only in the seed."""
        return self.runs[0].protocol

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the protocol."""
        return self.protocol.fingerprint()

    @property
    def seeds(self) -> tuple[int, ...]:
        """Training seeds."""
        return tuple(run.protocol.seed for run in self.runs)

    @cached_property
    def id(self) -> str:
        """Name and protocol in characters that file names allow; unique in a folder."""
        return f"{slug(self.name)}-{self.fingerprint[:12]}"

    @property
    def file_name(self) -> str:
        """Name of the entry's file."""
        return self.id + ENDING

    @property
    def upsampler(self) -> Mapping[str, Any]:
        """What the first run records about its upsampler."""
        return self.runs[0].upsampler

    @property
    def datasets(self) -> Mapping[str, DatasetResult]:
        """Evidence of the first seed by data set; the others have the same objects in the same order."""
        return self.runs[0].datasets

    # Cached: validation compares each entry with all others.
    @cached_property
    def run_hashes(self) -> tuple[str, ...]:
        """Hash of the evidence of each run."""
        return tuple(run_evidence_sha256(run) for run in self.runs)

    @cached_property
    def evidence_sha256(self) -> str:
        """Hash of the evidence of all runs, by seed and data set."""
        return _hash([[seed, sha256] for seed, sha256 in zip(self.seeds, self.run_hashes, strict=True)])

    def marked(self, reproduced: Reproduction) -> Entry:
        """A copy of the entry, marked as reproduced."""
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
        """The inverse of :meth:`to_dict`, for content that passed :mod:`vfm_isbench.leaderboard.validation`.

        Raises:
            ResultError: if a run still contradicts itself.
        """
        reproduced = content["reproduced"]
        return cls(
            name=content["name"],
            code=None if content["code"] == PLACEHOLDER else content["code"],
            paper=content["paper"],
            submitter=content["submitter"],
            date=content["date"],
            spec=content["spec"],
            runs=tuple(Result.from_dict(run) for run in content["runs"]),
            reproduced=None if reproduced is None else Reproduction(**reproduced),
        )

    def save(self, folder: Path) -> Path:
        """Write the entry's file; equal entries give equal bytes. If writing fails, the old file stays.

        Raises:
            LeaderboardError: if the file cannot be written.
        """
        path = folder / self.file_name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_bytes(path, to_bytes(self.to_dict()))
        except OSError as error:
            raise LeaderboardError(f"{path} cannot be written: {error}") from error
        return path


def slug(name: str) -> str:
    """A name in lower-case ASCII letters, digits and hyphens, so that no name can escape a folder.

    >>> slug("My Upsampler (v2)"), slug("../../etc/passwd")
    ('my-upsampler-v2', 'etc-passwd')
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    found = re.sub(r"[^a-z0-9]+", "-", plain)[:_LONGEST_SLUG].strip("-")
    return found or f"entry-{hashlib.sha256(name.encode('utf-8', 'backslashreplace')).hexdigest()[:8]}"


def run_evidence_sha256(run: Result) -> str:
    """Hash of a run's clicks and IoUs: runs with equal hashes are the same run, whatever their names."""
    return _hash(
        {name: [clicks_to_dict(item) for item in found.objects] for name, found in sorted(run.datasets.items())}
    )


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
