"""The only way to write a file here: at any moment, readers find the complete old file or the complete new one."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_STARTED = time.time()
_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
_PARTIAL = re.compile(r".+\.([0-9a-f]{8})-(\d+)-\d+\.partial", re.DOTALL)
"""Temporary files: the name of the file, then machine, process and thread that write it."""

_ABANDONED_SECONDS = 24 * 60 * 60.0
"""Nobody writes a file for as long as this without changing it."""


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Write a file under a temporary name, and move it into place if the block ends without an error.

    A link keeps pointing to the file that is replaced. What is no file, such as ``/dev/stdout``, is written directly.

    Args:
        path: The file; its folder must exist.
        durable: Wait until the file is on disk, so that it survives a power failure. Only caches turn this off.

    Yields:
        The temporary path, in the same folder, for the block to write. If the block fails, the temporary file is
        removed and the old file stays.

    Raises:
        OSError: if the file cannot be written.
    """
    if path.exists() and not path.is_file():
        yield path
        return
    path = path.resolve()
    partial = partial_of(path)
    try:
        yield partial
        put_in_place(partial, path, durable=durable)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def put_in_place(partial: Path, path: Path, *, durable: bool = True) -> None:
    """Move a complete file to its place; see :func:`replacing`, which also writes it.

    Raises:
        OSError: if that fails.
    """
    if durable:
        _flush(partial)
    partial.replace(path)
    if durable and os.name == "posix":  # elsewhere folders cannot be opened
        _flush(path.parent)


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes, see :func:`replacing`."""
    with replacing(path) as partial:
        partial.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    r"""Write text in UTF-8 without changing its line ends, see :func:`replacing`.

    Names of files that are not UTF-8 contain lone surrogates, which UTF-8 lacks. They become ``\udcff``, in JSON as in
    Python the escape of the same character.
    """
    write_bytes(path, content.encode("utf-8", "backslashreplace"))


def partial_of(path: Path) -> Path:
    """The temporary name of a file, for this thread; :func:`remove_left_over` finds it if the process is killed."""
    return path.with_name(f"{path.name}.{_HOST}-{os.getpid()}-{threading.get_native_id()}.partial")


def remove_left_over(folder: Path, start: str = "") -> list[Path]:
    """Remove the temporary files of processes that were killed while they wrote.

    A file stays while its process may still be writing it: a running process on this machine, or within the last day a
    process on another machine that shares the folder. What cannot be removed stays too.

    Args:
        folder: The folder; subfolders are left alone.
        start: How the names of the files begin.

    Returns:
        The files that were removed.

    Raises:
        OSError: if the folder cannot be read.
    """
    removed = []
    for path in folder.iterdir():
        if path.name.startswith(start) and _is_left_over(path):
            with suppress(OSError):
                path.unlink()
                removed.append(path)
    return removed


def _is_left_over(path: Path) -> bool:
    found = _PARTIAL.fullmatch(path.name)
    if found is None or path.is_symlink() or not path.is_file():
        return False
    try:
        changed = path.stat().st_mtime
    except OSError:  # gone by now
        return False
    if time.time() - changed > _ABANDONED_SECONDS:
        return True
    host, process = found[1], int(found[2])
    if host != _HOST or os.name != "posix":  # elsewhere, os.kill ends the process
        return False
    if process == os.getpid():  # containers number their processes from 1, so an earlier one may have had this number
        return changed < _STARTED - 1
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # it runs, as another user
        return False
    return False


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
