"""Evidence in a file, a line per object, so that an interrupted evaluation continues where it stopped."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from vfm_isbench.errors import ResultError, WriteError
from vfm_isbench.results.dataset_result import evidence_from_dict, evidence_to_dict
from vfm_isbench.storage import atomic
from vfm_isbench.types import ObjectEvidence, ObjectId

SYNC_SECONDS = 5.0
"""Seconds between two waits for the disk."""


class EvidenceStore:
    """Evidence that is already there, and where more is appended.

    The first line says what the evidence belongs to; every other line holds the evidence of one object and the hash of
    its image. A line that cannot be read costs the evidence of that one object.

    Args:
        path: The file; its folder must exist.
        belongs_to: Hash of what is evaluated: weights and settings. Evidence of anything else is dropped.

    Attributes:
        path: As given.
        unverified_content: Version 0.3 kept one hash of the whole data set instead of one per image. If the file is of
            that kind, this is the hash, and :meth:`done` returns nothing before :meth:`verify`.
    """

    def __init__(self, path: Path, belongs_to: str) -> None:
        self.path = path
        self._head = {"belongs_to": belongs_to}
        self._found: dict[ObjectId, tuple[ObjectEvidence, str | None]] = {}
        self.unverified_content: str | None = None
        self._is_whole = False
        self._synced = time.monotonic()
        self._read(belongs_to)

    def done(self, object_id: ObjectId, image: str) -> ObjectEvidence | None:
        """Evidence of an object; None if there is none, or it belongs to an image with another hash."""
        if self.unverified_content is not None or object_id not in self._found:
            return None
        evidence, of_image = self._found[object_id]
        if of_image is None:  # verified with the whole data set
            self._found[object_id] = (evidence, image)
        return evidence if of_image in (None, image) else None

    def verify(self, content_sha256: str) -> None:
        """Use evidence of version 0.3 if it belongs to data with this hash, and drop it otherwise."""
        if content_sha256 != self.unverified_content:
            self._found.clear()
        self.unverified_content = None

    def append(self, evidence: ObjectEvidence, image: str) -> None:
        """Keep the evidence of one more object, of an image with this hash.

        A process that is killed loses nothing; a machine that loses its power, at most :data:`SYNC_SECONDS` of work.

        Raises:
            WriteError: if the file cannot be written; what was in it stays.
        """
        try:
            if not self._is_whole:
                self._rewrite()
            self._is_whole = False  # until the line is there as a whole
            with self.path.open("ab") as file:
                file.write(_line(evidence, image))
                file.flush()
                if time.monotonic() - self._synced > SYNC_SECONDS:
                    os.fsync(file.fileno())
                    self._synced = time.monotonic()
        except OSError as error:
            raise WriteError(
                f"the evidence file {self.path} cannot be written: {error.strerror or error}. Make room or allow "
                "writing there, then run the same command again"
            ) from error
        self._is_whole = True
        self._found[evidence.object_id] = (evidence, image)

    def _read(self, belongs_to: str) -> None:
        lines = self.path.read_bytes().split(b"\n") if self.path.is_file() else [b""]
        head, *rest = [_parsed(line) for line in lines]
        if not isinstance(head, dict):
            return
        weights, _, content = str(head.get("weights", "")).rpartition(" ")
        if head != self._head and weights != belongs_to:
            return
        for content_of_line in rest:
            if isinstance(content_of_line, dict):
                try:
                    evidence = evidence_from_dict(content_of_line)
                except ResultError:
                    continue
                self._found[evidence.object_id] = (evidence, content_of_line.get("image_sha256"))
        self.unverified_content = None if head == self._head else content
        self._is_whole = head == self._head and lines[-1] == b""

    def _rewrite(self) -> None:
        """Write the file anew, with nothing in it that cannot be read; it is never half there."""
        lines = [_line(evidence, image) for evidence, image in self._found.values()]
        atomic.write_bytes(self.path, json.dumps(self._head).encode() + b"\n" + b"".join(lines))
        self._is_whole = True


def _line(evidence: ObjectEvidence, image: str | None) -> bytes:
    return json.dumps({**evidence_to_dict(evidence), "image_sha256": image}).encode() + b"\n"


def _parsed(line: bytes) -> Any:
    """Content of a line; None if it is broken."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):  # the first also if it is not UTF-8
        return None
