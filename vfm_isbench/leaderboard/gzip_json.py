"""Gzipped JSON: equal content gives equal bytes, and reading assumes that the file may be malicious.

Limits apply before parsing: bytes on disk, bytes after decompression, and those of the strict parser of JSON.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

from vfm_isbench.storage.strict_json import Limits, UnreadableError, parse_json, read_regular_file

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
LIMITS = Limits(size=MOST_BYTES, containers=MOST_CONTAINERS, values=MOST_VALUES, depth=DEEPEST)


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
            or refused by :func:`parse_json`.
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
    try:
        return read_regular_file(path, MOST_COMPRESSED, links=False)
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
    """Parse JSON strictly, within the limits of an entry.

    Raises:
        UnreadableError: see :func:`parse_json`.
    """
    return parse_json(text, LIMITS)
