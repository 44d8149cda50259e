"""Whether a disk has room for files that a long computation will write at its end."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from vfm_isbench.errors import RunError
from vfm_isbench.storage.atomic import partial_of

_BLOCK = 1 << 20


def check_room(folder: Path, files: Mapping[str, int], advice: str) -> None:
    """Check that a folder has room for some files, by allocating them for a moment.

    The free space of a disk is not enough to know: a quota or a limit on the size of files does not show in it.

    Args:
        folder: The folder; it must exist.
        files: Bytes of each file, by what it is.
        advice: Where to write instead.

    Raises:
        RunError: if there is no room, or the folder cannot be written.
    """
    needed = sum(files.values())
    parts = ", ".join(f"{size(n_bytes)} for {name}" for name, n_bytes in files.items())
    free = _free(folder)
    has = "" if free is None else f" The disk has {size(free)} free"
    if free is not None and free < needed:
        raise RunError(
            f"not enough room in {folder}: {size(needed)} are needed there ({parts}).{has}. Free some space, "
            f"or {advice}"
        )
    try:
        _allocate(folder, list(files.values()))
    except OSError as error:
        limit = f"{has}, so there may be a quota, or a limit on the size of a file." if has else ""
        raise RunError(
            f"{size(needed)} are needed in {folder} ({parts}), but cannot be written: {error.strerror or error}."
            f"{limit} Change that, or {advice}"
        ) from error


def _free(folder: Path) -> int | None:
    """Free bytes on the disk of a folder; None if nobody knows."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def _allocate(folder: Path, sizes: list[int]) -> None:
    """Let files of these sizes exist together for a moment."""
    with ExitStack() as files:
        for number, n_bytes in enumerate(sizes):
            path = partial_of(folder / f"room-{number}")
            files.callback(path.unlink, missing_ok=True)
            _fill(files.enter_context(path.open("wb")), n_bytes)  # not atomic: removed at once


def _fill(file: BinaryIO, n_bytes: int) -> None:
    if hasattr(os, "posix_fallocate"):
        if n_bytes:
            os.posix_fallocate(file.fileno(), 0, n_bytes)
        return
    for start in range(0, n_bytes, _BLOCK):
        file.write(bytes(min(_BLOCK, n_bytes - start)))
    file.flush()


def size(n_bytes: float) -> str:
    """A number of bytes, in the units of file managers.

    >>> [size(n_bytes) for n_bytes in (1500, 88_200_000, 3_456_000_000)]
    ['2 kB', '88 MB', '3.5 GB']
    """
    if n_bytes >= 1e9:
        return f"{n_bytes / 1e9:.1f} GB"
    return f"{n_bytes / 1e6:.0f} MB" if n_bytes >= 1e6 else f"{n_bytes / 1e3:.0f} kB"
