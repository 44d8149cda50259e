"""The one way to read JSON that this process did not write itself: strict, within limits, from regular files only.

Limits apply before parsing: bytes, brackets and commas (which bound the memory that parsing takes). Nothing in a file
is executed or used as a path.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vfm_isbench.errors import VfmIsbenchError
from vfm_isbench.storage.printable import quote

LONGEST_NUMBER = 40
"""Characters of a number."""

_DIGITS_AS_ZEROS = bytes.maketrans(b"123456789", b"0" * 9)
_LONG = b"0" * 24
_LARGE_EXPONENT = re.compile(rb"[eE][+-]?[0-9]{3,}(?:[\s,\]}]|$)")
"""These two find numbers that are too long or too large. They also find texts that look like it, but few hashes."""

_CONTAINERS = (dict, list)

_LONE_SURROGATE = re.compile("[\ud800-\udc7f\udd00-\udfff]")
"""Half a character. Python writes a byte of a file name that is not UTF-8 as one from U+DC80 to U+DCFF; those stay."""


class UnreadableError(VfmIsbenchError):
    """A file that cannot be read at all; the message is a finding to write behind the file's name, as in "is empty"."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """How large a JSON file may be.

    Attributes:
        size: Bytes of the text.
        containers: Lists and objects.
        values: Values, estimated by the commas.
        depth: Nested lists and objects.
    """

    size: int
    containers: int
    values: int
    depth: int


LARGE = Limits(size=96 * 2**20, containers=3_000_000, values=12_000_000, depth=32)
"""For results. One seed of the paper's four test sets has about 7 MB, 160,000 containers and 600,000 values."""
SMALL = Limits(size=4 * 2**20, containers=50_000, values=500_000, depth=32)
"""For everything that does not grow with the number of objects."""


def read_json(path: Path, limits: Limits = LARGE) -> Any:
    """Read a file of JSON.

    Raises:
        UnreadableError: if it is not a regular file, is too large, or :func:`parse_json` refuses its content.
        FileNotFoundError, NotADirectoryError: if there is none.
    """
    return parse_json(read_regular_file(path, limits.size), limits)


def read_regular_file(path: Path, most: int, *, links: bool = True) -> bytes:
    """The bytes of a file, without ever waiting for a pipe or a device.

    Args:
        path: The file.
        most: Largest number of bytes.
        links: Whether symbolic links are followed.

    Raises:
        UnreadableError: if it is anything but a file, too large, or cannot be read.
        FileNotFoundError, NotADirectoryError: if there is none.
    """
    # Never follow a link or block on a pipe, even if the path changes between these two checks.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    flags |= 0 if links else getattr(os, "O_NOFOLLOW", 0)
    if not links and path.is_symlink():
        raise UnreadableError("is a symbolic link; expected a regular file")
    try:
        if path.is_dir():
            raise UnreadableError("is a folder; expected a file")
        descriptor = os.open(path, flags)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UnreadableError("is not a regular file, but a pipe or a device; write its content to a file")
            content = file.read(most + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise UnreadableError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(content) > most:
        raise UnreadableError(f"is larger than {most} bytes, the most that is read")
    return content


def parse_json(text: bytes | str, limits: Limits = LARGE) -> Any:
    """Parse JSON strictly.

    Raises:
        UnreadableError: if the text is not UTF-8, not JSON, or beyond the limits; if an object has the same key twice;
            if it contains NaN, Infinity, a number that is too long or too large, or half a character of UTF-16.
    """
    if isinstance(text, str):
        text = text.encode("utf-8", "surrogatepass")  # a lone surrogate is refused below, as it is not UTF-8
    if text.startswith(b"\xef\xbb\xbf"):
        raise UnreadableError("begins with a byte order mark; expected plain UTF-8")
    if len(text) > limits.size:
        raise UnreadableError(f"is larger than {limits.size} bytes, the most that is read")
    if text.count(b"[") + text.count(b"{") > limits.containers or text.count(b",") > limits.values:
        raise UnreadableError(
            f"contains more than {limits.containers} lists and objects or {limits.values} values, the most that is read"
        )
    # Calling Python for every number takes longer than everything else, and is hardly ever needed.
    is_odd = _LONG in text.translate(_DIGITS_AS_ZEROS) or _LARGE_EXPONENT.search(text)
    hooks: Any = {"parse_int": _short_int, "parse_float": _short_float} if is_odd else {}
    try:
        content = json.loads(text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant, **hooks)
    except UnicodeDecodeError as error:
        raise UnreadableError(f"is not UTF-8: byte {error.start} cannot be decoded") from error
    except RecursionError as error:
        raise UnreadableError(f"is nested deeper than {limits.depth} levels") from error
    except ValueError as error:
        raise UnreadableError(f"is not JSON: {error}") from error
    if _is_deeper_than(content, limits.depth):
        raise UnreadableError(f"is nested deeper than {limits.depth} levels")
    if b"\\u" in text:
        _refuse_half_characters(content)
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
    level = [content] if type(content) in _CONTAINERS else []
    for _ in range(depth):
        level = [
            part
            for value in level
            for part in (value.values() if type(value) is dict else value)
            if type(part) in _CONTAINERS
        ]
        if not level:
            return False
    return True


def _refuse_half_characters(value: Any) -> None:
    if isinstance(value, str):
        if _LONE_SURROGATE.search(value):
            raise UnreadableError(f"contains the text {quote(value)}, which has half a character (a lone surrogate)")
    elif isinstance(value, dict):
        for key, part in value.items():
            _refuse_half_characters(key)
            _refuse_half_characters(part)
    elif isinstance(value, list):
        for part in value:
            _refuse_half_characters(part)
