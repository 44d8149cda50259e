"""The one way to write a file: at any moment it is either the old one or the new one, whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Write a file under a temporary name; when the block ends without an error, it takes its place.

    Args:
        path: The file; its folder must exist.
        durable: Wait until the file is on the disk, so that it survives a power failure. Only caches leave this out.

    Yields:
        The temporary path, in the same folder, to be written in the block. If the block fails, it is removed and the
        old file stays.

    Raises:
        OSError: if the file cannot be written.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        if durable:
            _flush(partial)
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    if durable and os.name == "posix":  # elsewhere folders cannot be opened
        _flush(path.parent)


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes, see :func:`replacing`."""
    with replacing(path) as partial:
        partial.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write text in UTF-8 with the line ends it has, see :func:`replacing`."""
    write_bytes(path, content.encode("utf-8"))


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
