"""The record of a download, kept in the data root beside the data sets."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from vfm_isbench.datasets.download.sources import Counts, DatasetSource
from vfm_isbench.datasets.files import list_entries
from vfm_isbench.errors import DataError
from vfm_isbench.storage import json_fields
from vfm_isbench.storage.atomic import write_text
from vfm_isbench.storage.hashing import hash_file
from vfm_isbench.storage.strict_json import SMALL, UnreadableError, read_json

STATE_FOLDER = ".vfm_isbench"
"""In the data root: downloads, and a record of each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """The record of a download; archives without a published hash are trusted on first use.

    Attributes:
        urls: The addresses, in order of use; none if the files came from a folder.
        sha256: Hash of the archive, or of the hashes of several, see :func:`hash_archives`; None if an unpacked folder
            was taken.
        size: Size of the archives in bytes; 0 if an unpacked folder was taken.
        date: ISO 8601, UTC.
        content_sha256: Hash of the unpacked files, see :func:`hash_content`.
        counts: Numbers found, by split.
    """

    urls: tuple[str, ...]
    sha256: str | None
    size: int
    date: str
    content_sha256: str
    counts: Mapping[str, Counts]


def manifest_path(name: str, data_root: Path) -> Path:
    """Path of the record of a download."""
    return data_root / STATE_FOLDER / f"{name}.json"


def archive_path(source: DatasetSource, data_root: Path) -> Path:
    """Path of a data set's downloaded archive."""
    return data_root / STATE_FOLDER / "downloads" / source.archive.file_name


def hash_archives(archives: Sequence[Path]) -> str | None:
    """SHA-256 of an archive; of several, that of their names and hashes; None for none.

    Raises:
        OSError: if a file cannot be read.
    """
    if len(archives) < 2:
        return hash_file(archives[0]) if archives else None
    digest = hashlib.sha256()
    for archive in archives:
        digest.update(f"{archive.name}\0{hash_file(archive)}\0".encode())
    return digest.hexdigest()


def hash_content(source: DatasetSource, root: Path) -> str:
    """SHA-256 over names and bytes of all files in a data set's layout.

    Raises:
        OSError: if a file cannot be read.
    """
    digest = hashlib.sha256()
    listed = [path for folder in source.folders for path in list_entries(root / folder) if path.is_file()]
    for path in [*listed, *(root / name for name in source.files)]:
        digest.update(f"{path.relative_to(root).as_posix()}\0{hash_file(path)}\0".encode())
    return digest.hexdigest()


def write_manifest(name: str, data_root: Path, manifest: Manifest) -> None:
    """Record a download, replacing any earlier record.

    Raises:
        OSError: if it cannot be written.
    """
    write_text(manifest_path(name, data_root), json.dumps(asdict(manifest), indent=2) + "\n")


def read_manifest(name: str, data_root: Path) -> Manifest | None:
    """The record of a download, if there is one.

    Raises:
        DataError: if it is broken.
    """
    path = manifest_path(name, data_root)
    try:
        content = read_json(path, SMALL)
        counts = json_fields.mapping(content, "counts")
        return Manifest(
            urls=json_fields.texts(content, "urls"),
            sha256=None if content.get("sha256") is None else json_fields.text(content, "sha256"),
            size=json_fields.whole(content, "size"),
            date=json_fields.text(content, "date"),
            content_sha256=json_fields.text(content, "content_sha256"),
            counts={name: _counts(split, f"counts.{name}.") for name, split in counts.items()},
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnreadableError) as error:
        raise DataError(
            f"{path}: not a readable record of a download: {error}. Delete it: the data set stays usable, only the "
            "hash of its archive is lost."
        ) from error


def _counts(content: object, where: str) -> Counts:
    return Counts(
        images=json_fields.whole(content, "images", where), objects=json_fields.whole(content, "objects", where)
    )
