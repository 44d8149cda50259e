"""The bytes of an unfinished download, kept beside the target, and a note of the file version they belong to."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from vfm_isbench.storage import json_fields
from vfm_isbench.storage.atomic import put_in_place, write_text
from vfm_isbench.storage.strict_json import SMALL, UnreadableError, read_json


@dataclass(frozen=True, slots=True)
class Version:
    """The version of a remote file, as far as its server reveals it.

    Attributes:
        url: As requested, before redirects.
        validator: Strong ETag, or Last-Modified; None if the server sent neither.
        total: Length of the whole file in bytes; None if the server did not send it.
    """

    url: str
    validator: str | None
    total: int | None


class PartialDownload:
    """The bytes received so far, and beside them the version of the file they belong to.

    Args:
        target: Where the complete file will go.
        url: The only URL that may supply the bytes; None if a checksum can tell whether bytes from several URLs fit
            together.
    """

    def __init__(self, target: Path, url: str | None) -> None:
        self.name = target.name
        self.is_shared = url is None
        tag = "" if url is None else f".{hashlib.sha256(url.encode()).hexdigest()[:8]}"
        self.path = target.with_name(f"{target.name}{tag}.partial")
        self._version_path = self.path.with_name(f"{self.path.name}.json")

    @property
    def length(self) -> int:
        """Number of bytes received."""
        return self.path.stat().st_size if self.path.exists() else 0

    def version(self) -> Version | None:
        """Version the bytes belong to; None if unknown."""
        try:
            content = read_json(self._version_path, SMALL)
            return Version(
                json_fields.text(content, "url"),
                json_fields.optional_text(content, "validator", ""),
                None if content.get("total") is None else json_fields.whole(content, "total"),
            )
        except (OSError, UnreadableError):
            return None

    def resumable_version(self, url: str) -> Version | None:
        """Version the bytes belong to, if there are any and this URL can supply the rest; otherwise None."""
        known = self.version()
        if known is None or self.length == 0:
            return None
        if known.url == url:
            return known if known.total is not None or known.validator is not None else None
        # Validators of different servers cannot be compared: only the length and, at the end, the checksum can.
        return known if self.is_shared and known.total is not None else None

    def start(self, version: Version) -> None:
        """Drop all bytes and begin with another version."""
        # In this order: a crash in between must not leave old bytes under a new version.
        self.path.write_bytes(b"")  # not atomic: the old bytes must be gone
        write_text(self._version_path, json.dumps(asdict(version)))

    def finish(self, target: Path) -> None:
        """Move the complete file to its target, and remove all other partial files of that target."""
        put_in_place(self.path, target)
        self._version_path.unlink(missing_ok=True)
        for other in partial_files(target):
            other.unlink()
            other.with_name(f"{other.name}.json").unlink(missing_ok=True)

    def remove(self) -> None:
        """Drop the bytes and their version."""
        self.path.unlink(missing_ok=True)
        self._version_path.unlink(missing_ok=True)


def partial_files(target: Path) -> list[Path]:
    """All partial files of a target, from any URL."""
    # Either the plain name, or the name with eight digits of the URL's hash.
    pattern = re.compile(re.escape(target.name) + r"(\.[0-9a-f]{8})?\.partial")
    return [file for file in target.parent.iterdir() if pattern.fullmatch(file.name)]
