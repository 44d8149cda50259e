"""Unpacks a downloaded archive into a folder, and never outside it."""

from __future__ import annotations

import gzip
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from tqdm.auto import tqdm

from vfm_isbench.datasets.files import SYSTEM_FILES
from vfm_isbench.errors import DataError

LARGEST = 20 * 2**30
"""Maximum unpacked size in bytes; SBD, the largest data set, has a few GiB."""
MOST_MEMBERS = 500_000

_ZIP_AND_GZIP = (b"PK\3\4", b"PK\5\6", b"\x1f\x8b")
_TAR_MAGIC = (257, b"ustar")

_BROKEN_ARCHIVE_ERRORS = (
    *(zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError),
    *(RuntimeError, NotImplementedError),  # zipfile on encrypted members and unknown compression
)


def is_archive(path: Path) -> bool:
    """Whether a file begins like a ``.zip``, ``.tar`` or ``.tar.gz``.

    Raises:
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(_TAR_MAGIC[0] + len(_TAR_MAGIC[1]))
    return head.startswith(_ZIP_AND_GZIP) or head[_TAR_MAGIC[0] :] == _TAR_MAGIC[1]


def unpack(archive: Path, target: Path, *, largest: int = LARGEST, progress: bool = True) -> None:
    """Unpack a ``.zip``, a ``.tar`` or a ``.tar.gz``.

    Only folders and plain files are created, without the modes, owners and times in the archive. Leftovers of file
    managers (``__MACOSX``, ``.DS_Store``, ``._NAME``) are skipped.

    Args:
        archive: The file.
        target: A folder; created if missing.
        largest: Maximum unpacked size in bytes.
        progress: Whether to show a progress bar on stderr.

    Raises:
        DataError: if the archive is broken or not an archive, or has contents that no data set has: a link or device, a
            path that leads out of the target, the same file twice, or too much data. Files unpacked before the error
            stay in the target.
        OSError: if the target cannot be written.
    """
    target.mkdir(parents=True, exist_ok=True)
    left = largest
    try:
        members = tqdm(
            _members(archive), desc=f"unpacking {archive.name}", unit="file", leave=False, disable=not progress
        )
        for number, (name, size, content) in enumerate(members):
            left -= size
            if left < 0 or number >= MOST_MEMBERS:
                raise _refused(archive, f"it unpacks to more than {largest} bytes or {MOST_MEMBERS} files")
            _write(archive, name, content, target)
    except _BROKEN_ARCHIVE_ERRORS as error:
        raise DataError(f"{archive}: broken, or not an archive ({type(error).__name__}: {error})") from error


def _members(archive: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    """Name, size and content of every plain file of an archive."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                kind = stat.S_IFMT(info.external_attr >> 16)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise _refused(archive, f"{info.filename!r} is a link or device")
                if not info.is_dir():
                    with opened.open(info) as content:
                        yield info.filename, info.file_size, content
        return
    with archive.open("rb") as file:
        is_gzip = file.read(2) == _ZIP_AND_GZIP[-1]
    with tarfile.open(archive, "r|gz" if is_gzip else "r|") as stream:
        for member in stream:
            content_or_none = stream.extractfile(member) if member.isreg() else None
            if content_or_none is not None:
                yield member.name, member.size, content_or_none
            elif not member.isdir():
                raise _refused(archive, f"{member.name!r} is a link or device")


def _write(archive: Path, name: str, content: IO[bytes], target: Path) -> None:
    # Archives from Windows have backslashes; PureWindowsPath also recognises drives.
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or PureWindowsPath(name).drive or ".." in path.parts or "\0" in name:
        raise _refused(archive, f"{name!r} leads out of the target folder")
    if any(part in SYSTEM_FILES or part == ".DS_Store" or part.startswith("._") for part in path.parts):
        return
    place = target.joinpath(*path.parts)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        file = place.open("xb")  # not atomic: the whole folder is moved into place
    except (FileExistsError, NotADirectoryError) as error:
        raise _refused(archive, f"it contains {name!r} twice") from error
    with file:
        shutil.copyfileobj(content, file, 1 << 20)


def _refused(archive: Path, why: str) -> DataError:
    return DataError(f"{archive}: not unpacked, because {why}. No data set does that; do not use this file.")
