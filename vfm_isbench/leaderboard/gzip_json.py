"""Gzipped JSON: equal content gives equal bytes, and reading assumes that the file may be malicious.

Limits apply before parsing: bytes on disk, bytes after decompression, brackets and commas (which bound the memory that
parsing takes), digits of a number, depth. Nothing in a file is executed or used as a path.
"""

from __future__ import annotations

import json
import os
import stat
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vfm_isbench.errors import LeaderboardError
from vfm_isbench.leaderboard.findings import quote

MOST_COMPRESSED = 24 * 2**20
"""Bytes on disk. Ten seeds of the paper's four test sets take about 18 MiB."""
MOST_BYTES = 96 * 2**20
"""Bytes after decompression; about 45 MiB in the same case."""
MOST_CONTAINERS = 3_000_000
"""Lists and objects; about 1.6 million in the same case."""
MOST_VALUES = 12_000_000
"""Values, estimated by the commas; about 6 million in the same case."""
DEEPEST = 16
"""Nested lists and objects; an entry has ten."""
LONGEST_NUMBER = 40
"""Characters of a number."""


class UnreadableError(LeaderboardError):
    """A file that cannot be read as an entry at all; the message is the finding."""


def to_bytes(content: Any) -> bytes:
    """Compressed JSON: keys sorted, no blanks, no time stamp."""
    text = json.dumps(content, allow_nan=False, sort_keys=True, separators=(",", ":"))
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    # zlib writes a gzip header without name or time, but byte 9 names the system: set it to "unknown".
    packed = bytearray(packer.compress(text.encode()) + packer.flush())
    packed[9] = 255
    return bytes(packed)


def read_file(path: Path) -> Any:
    """Read one file of gzipped JSON.

    Raises:
        UnreadableError: if it is not a regular file (links are refused), too large, cut short, followed by other data,
            not UTF-8, not JSON, or nested too deeply; if an object has the same key twice; or if it contains NaN or
            Infinity.
    """
    return unpack(_read_bounded(path))


def unpack(data: bytes) -> Any:
    """Decompress and parse what :func:`to_bytes` wrote.

    Raises:
        UnreadableError: as :func:`read_file`.
    """
    if len(data) > MOST_COMPRESSED:
        raise UnreadableError(f"is larger than {MOST_COMPRESSED} bytes")
    return parse(_decompress(data))


def _read_bounded(path: Path) -> bytes:
    # Never follow a link or block on a pipe, even if the path changes between these two checks.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    if path.is_symlink():
        raise UnreadableError("is a symbolic link; an entry must be a regular file")
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnreadableError("is not a regular file")
    try:
        with os.fdopen(descriptor, "rb") as file:
            return file.read(MOST_COMPRESSED + 1)
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror}") from error


def _decompress(data: bytes) -> bytes:
    unpacker = zlib.decompressobj(31)  # 31: expect a gzip header
    try:
        text = unpacker.decompress(data, MOST_BYTES + 1)
    except zlib.error as error:
        raise UnreadableError(f"is not a gzip file, or a broken one: {error}") from error
    if len(text) > MOST_BYTES:
        raise UnreadableError(f"unpacks to more than {MOST_BYTES} bytes")
    if not unpacker.eof:
        raise UnreadableError("is cut short: the compressed data have no end")
    if unpacker.unused_data:
        raise UnreadableError(f"has {len(unpacker.unused_data)} bytes after the end of the compressed data")
    return text


def parse(text: bytes) -> Any:
    """Parse JSON strictly.

    Raises:
        UnreadableError: as :func:`read_file`.
    """
    if text.startswith(b"\xef\xbb\xbf"):
        raise UnreadableError("begins with a byte order mark; expected plain UTF-8")
    if text.count(b"[") + text.count(b"{") > MOST_CONTAINERS or text.count(b",") > MOST_VALUES:
        raise UnreadableError(f"contains more than {MOST_CONTAINERS} lists and objects or {MOST_VALUES} values")
    try:
        content = json.loads(
            text.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_int=_short_int,
            parse_float=_short_float,
        )
    except UnicodeDecodeError as error:
        raise UnreadableError(f"is not UTF-8: byte {error.start} cannot be decoded") from error
    except RecursionError as error:
        raise UnreadableError(f"is nested deeper than {DEEPEST} levels") from error
    except ValueError as error:
        raise UnreadableError(f"is not JSON: {error}") from error
    if _is_deeper_than(content, DEEPEST):
        raise UnreadableError(f"is nested deeper than {DEEPEST} levels")
    return content


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        raise UnreadableError(f"has the key {quote(twice)} twice in one object")
    return found


def _no_constant(text: str) -> Any:
    raise UnreadableError(f"contains {text}, which is not a JSON number; write a missing score as null")


def _short_int(text: str) -> int:
    return int(_short(text))


def _short_float(text: str) -> float:
    value = float(_short(text))
    if value in (float("inf"), float("-inf")):
        raise UnreadableError(f"contains the number {quote(text)}, which is too large")
    return value


def _short(text: str) -> str:
    if len(text) > LONGEST_NUMBER:
        raise UnreadableError(f"contains a number of {len(text)} characters; at most {LONGEST_NUMBER} are allowed")
    return text


def _is_deeper_than(content: Any, depth: int) -> bool:
    level: list[Any] = [content]
    for _ in range(depth):
        level = [part for value in level for part in _parts(value)]
        if not level:
            return False
    return True


def _parts(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from (part for part in value.values() if isinstance(part, dict | list))
    elif isinstance(value, list):
        yield from (part for part in value if isinstance(part, dict | list))
