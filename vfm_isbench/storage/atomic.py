"""The only way to write a file here: at any moment, readers find the complete old file or the complete new one."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


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
    partial = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_native_id()}.partial")
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
    r"""Write text in UTF-8 without changing its line ends, see :func:`replacing`.

    Names of files that are not UTF-8 contain lone surrogates, which UTF-8 lacks. They become ``\udcff``, in JSON as in
    Python the escape of the same character.
    """
    write_bytes(path, content.encode("utf-8", "backslashreplace"))


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
