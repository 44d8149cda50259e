"""Evidence in a file, a line per object, so that an interrupted evaluation continues where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from pathlib import Path
from typing import Any

from vfm_isbench.errors import ResultError, WriteError
from vfm_isbench.results.evidence_json import evidence_from_dict, evidence_to_dict
from vfm_isbench.storage import atomic
from vfm_isbench.storage.strict_json import SMALL, UnreadableError, parse_json
from vfm_isbench.types import Click, ObjectEvidence, ObjectId, ObjectSize

SYNC_SECONDS = 5.0
"""Seconds between two waits for the disk."""

_CHECKED = re.compile(rb'(.*), "check": "([0-9a-f]{16})"\}', re.DOTALL)
_START = re.compile(rb'(?=\{"image": )')
"""Where the evidence of an object starts; inside a JSON string, a backslash would come before the quotation mark."""


class EvidenceStore:
    """Evidence that is already there, and where more is appended.

    The first line says what the evidence belongs to. Every other line holds the evidence of one object, the hash of its
    image, and a check of the line. A damaged line costs the evidence of that one object.

    Opening changes nothing on disk. After that, lines are only ever appended. Only if the first line is missing,
    damaged or says something else, the file is written anew, beside the old one.

    Args:
        path: The file; its folder must exist.
        belongs_to: Hash of what is evaluated: weights and settings. Evidence of anything else is dropped.

    Attributes:
        path: As given.
        unverified_content: Version 0.3 kept one hash of the whole data set instead of one per image. If the file is of
            that kind, this is the hash, and :meth:`done` returns nothing before :meth:`verify`.

    Raises:
        ResultError: if the file is there, but cannot be read.
    """

    def __init__(self, path: Path, belongs_to: str) -> None:
        self.path = path
        self._belongs_to = belongs_to
        self._head = json.dumps({"belongs_to": belongs_to}).encode()
        self._found: dict[ObjectId, tuple[ObjectEvidence, str | None]] = {}
        self.unverified_content: str | None = None
        self._has_head = False
        self._ends_line = True
        self._is_synced = True
        self._synced = time.monotonic()
        try:
            if path.is_file():
                self._read()
        except OSError as error:
            raise ResultError(
                f"the evidence file {path} cannot be read: {error.strerror or error}. Allow reading it; or move it "
                "away, and its objects are evaluated again"
            ) from error

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

        If the process is killed afterwards, nothing is lost; if the machine loses its power, at most what was appended
        in the last :data:`SYNC_SECONDS`.

        Raises:
            WriteError: if the file cannot be written; what was in it stays.
        """
        try:
            if not self._has_head:
                self._rewrite()
            # A line left unfinished by a kill or a full disk is ended first, so that it costs nothing but itself.
            line = b"\n" * (not self._ends_line) + _line(evidence, image, self._belongs_to)
            self._ends_line = self._is_synced = False
            with self.path.open("ab") as file:  # not atomic: only appended, so what is there stays as it is
                file.write(line)
                file.flush()
                self._ends_line = True
                if time.monotonic() - self._synced > SYNC_SECONDS:
                    self._sync(file.fileno())
        except OSError as error:
            raise self._unwritable(error) from error
        self._found[evidence.object_id] = (evidence, image)

    def sync(self) -> None:
        """Wait until everything that was appended is on disk.

        Raises:
            WriteError: if the disk reports an error.
        """
        if self._is_synced:
            return
        try:
            with self.path.open("rb") as file:
                self._sync(file.fileno())
        except OSError as error:
            raise self._unwritable(error) from error

    def _sync(self, descriptor: int) -> None:
        os.fsync(descriptor)
        self._is_synced, self._synced = True, time.monotonic()

    def _unwritable(self, error: OSError) -> WriteError:
        return WriteError(
            f"the evidence file {self.path} cannot be written: {error.strerror or error}. Free some space there, or "
            "allow writing there"
        )

    def _read(self) -> None:
        has_unchecked = False
        with self.path.open("rb") as file:
            for number, line in enumerate(file):
                self._ends_line = line.endswith(b"\n")
                pieces = _pieces(line.removesuffix(b"\n"))
                if number == 0:
                    has_unchecked = self._belongs_here(pieces[0])
                    self._has_head = line == self._head + b"\n"
                for piece in pieces:
                    found = _evidence(piece, self._belongs_to, has_unchecked)
                    if found is not None:
                        self._found[found[0].object_id] = found

    def _belongs_here(self, head: bytes) -> bool:
        """Whether the first line says that the evidence belongs here; lines of earlier versions do not say so."""
        content = _parsed(head)
        if not isinstance(content, dict):
            return False
        if head == self._head:
            return True
        weights, _, of_data = str(content.get("weights", "")).rpartition(" ")
        if weights != self._belongs_to:
            return False
        self.unverified_content = of_data
        return True

    def _rewrite(self) -> None:
        """Write the file anew, with what was found in it; at any moment, the old file or the new one is there."""
        with atomic.replacing(self.path) as partial, partial.open("wb") as file:
            file.write(self._head + b"\n")
            for evidence, image in self._found.values():
                file.write(_line(evidence, image, self._belongs_to))
        self._has_head = self._ends_line = True


def bytes_per_object(clicks: int, *, boundary_iou: bool = False) -> int:
    """Bytes of the line of an object with so many clicks, with numbers and names as long as they usually are."""
    ious = (0.12345678901234567,) * clicks
    typical = ObjectEvidence(
        ObjectId("0" * 24, 100),
        (Click(1000, 1000, True),) * clicks,
        ious,
        ious if boundary_iou else None,
        ObjectSize(100_000, 1000, 1000),
    )
    return len(_line(typical, "0" * 64, ""))


def _line(evidence: ObjectEvidence, image: str | None, belongs_to: str) -> bytes:
    content = json.dumps({**evidence_to_dict(evidence), "image_sha256": image}).encode()[:-1]
    return b'%s, "check": "%s"}\n' % (content, _check(content, belongs_to))


def _check(content: bytes, belongs_to: str) -> bytes:
    """Shows that a line is as it was written, and what it belongs to."""
    return hashlib.sha256(f"{belongs_to}\n".encode() + content).hexdigest()[:16].encode()


def _pieces(line: bytes) -> list[bytes]:
    """What stands on a line: more than one object if a damaged line break joins two lines."""
    return [line] if line.count(b'{"image": ') == line.startswith(b'{"image": ') else _START.split(line)


def _evidence(piece: bytes, belongs_to: str, has_unchecked: bool) -> tuple[ObjectEvidence, str | None] | None:
    """Evidence and image of an object; None if they are damaged or belong to something else."""
    for text in (piece, piece[:-1]):  # the second without a damaged line break
        checked = _CHECKED.fullmatch(text)
        if checked is not None and checked[2] == _check(checked[1], belongs_to):
            content = _parsed(checked[1] + b"}")
        else:
            content = _parsed(text) if checked is None and has_unchecked else None
        if isinstance(content, dict):
            try:
                return evidence_from_dict(content), content.get("image_sha256")
            except (ResultError, OverflowError):
                return None
    return None


def _parsed(text: bytes) -> Any:
    """Content of JSON; None if it is broken."""
    try:
        return parse_json(text, SMALL)
    except UnreadableError:
        return None
