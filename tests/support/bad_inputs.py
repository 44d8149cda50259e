"""Makes bad inputs of valid files: bytes flipped, cut or inserted; JSON values replaced, removed, doubled or nested."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

DEEP, HUGE, TWICE = "<deep>", "<huge>", "<twice>"
"""Markers of what Python's JSON cannot write; they are put into the text."""

HOSTILE: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, -5, 2**31, 2**63, 2**64, 10**6, 10**39, 1e308, -1e308, 1e-320, 0.5, "", "x", "NaN",
    "\ud800", "\udcff", "\x1b[2J\x07", "a\nb", "\u202e", "x" * 5000, [], {}, [[]], [None], [1, 2], {"a": 1}, {"": None},
    float("nan"), float("inf"), float("-inf"), "../../etc/passwd", "\0", DEEP, HUGE,
)  # fmt: skip


def bad_bytes(content: bytes, rng: random.Random) -> bytes:
    """A few changes to bytes."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        where = rng.randrange(len(changed) + 1)
        kind = rng.randrange(7)
        if kind == 0:
            del changed[where:]
        elif kind == 1:
            changed[where:where] = rng.choice((b"\0", b"\xff" * 8, b"[" * 50, rng.randbytes(12)))
        elif kind == 2:
            del changed[where : where + rng.randrange(1, 64)]
        elif kind == 3:
            changed[where : where + 8] = rng.choice((b"\xff", b"\0", b"\x7f")) * 8
        elif where < len(changed):
            # The beginning of a file holds sizes and types, so it is hit more often than its share.
            where = rng.randrange(min(64, len(changed))) if kind == 4 else where
            changed[where] = rng.randrange(256) if kind == 5 else changed[where] ^ 1 << rng.randrange(8)
    return bytes(changed)


def bad_json(content: Any, rng: random.Random) -> bytes:
    """JSON with a few values changed, and perhaps bytes of its text."""
    content = copy.deepcopy(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        places = list(_places(content, rng))
        if not places:
            break
        parent, key = rng.choice(places)
        kind = rng.randrange(6)
        if kind == 0:
            del parent[key]
        elif kind == 1 and isinstance(parent, dict):
            parent[TWICE + key] = parent[key]
        elif kind == 2 and isinstance(parent, list):
            parent.append(copy.deepcopy(parent[key]))
        elif kind == 3 and isinstance(parent[key], int | float):
            parent[key] = rng.choice((-parent[key], parent[key] + 1, parent[key] * 10**6, str(parent[key])))
        else:
            parent[key] = copy.deepcopy(rng.choice(HOSTILE))
    if rng.randrange(20) == 0:
        content = rng.choice(HOSTILE)
    text = json.dumps(content).replace(TWICE, "")
    text = text.replace(f'"{DEEP}"', "[" * 5000 + "]" * 5000).replace(f'"{HUGE}"', rng.choice(("9" * 400, "1e999")))
    return bad_bytes(text.encode(), rng) if rng.randrange(5) == 0 else text.encode()


def _places(content: Any, rng: random.Random) -> Iterator[tuple[Any, Any]]:
    """Every place in small parts of a JSON value, and some in long lists."""
    keys = (
        list(content) if isinstance(content, dict) else list(range(len(content))) if isinstance(content, list) else []
    )
    for key in keys if len(keys) < 120 else rng.sample(keys, 10):
        yield content, key
        yield from _places(content[key], rng)


def bad_tensors(content: bytes, rng: random.Random, inner: str | None = None) -> bytes:
    """A safetensors file with a bad header, bad JSON in its header, or bad bytes."""
    kind = rng.randrange(4)
    if kind == 0:
        return bad_bytes(content, rng)
    length = int.from_bytes(content[:8], "little")
    header, rest = json.loads(content[8 : 8 + length]), content[8 + length :]
    if kind == 1 and inner is not None:
        ours = json.loads(header["__metadata__"][inner])
        header["__metadata__"][inner] = bad_json(ours, rng).decode("utf-8", "replace")
        text = json.dumps(header).encode()
    elif kind == 2:
        text = json.dumps(header).encode()
        numbers = list(re.finditer(rb"(?<=[\[,])[0-9]+(?=[\],])", text))
        found = rng.choice(numbers)
        new = rng.choice((b"0", b"1", b"-1", b"99999999999", b"9" * 30, b"4", b"1.5"))
        text = text[: found.start()] + new + text[found.end() :]
    else:
        text = bad_json(header, rng)
    absurd = rng.randrange(12) == 0
    claimed = rng.choice((0, 7, 2**63, 2**40, len(text) + 1)) if absurd else len(text)
    return claimed.to_bytes(8, "little") + text + rest


def bad_text(content: bytes, rng: random.Random) -> bytes:
    """Lines repeated, removed, exchanged or replaced."""
    lines = content.split(b"\n")
    for _ in range(rng.choice((1, 2, 3))):
        where = rng.randrange(len(lines))
        kind = rng.randrange(5)
        if kind == 0:
            lines.insert(where, lines[where])
        elif kind == 1 and len(lines) > 1:
            del lines[where]
        elif kind == 2:
            lines[where] = rng.choice((b"", b"../../x", b"\xff\xfe", b"\0", b"x" * 9999, b"a b c", b"\x1b[2J"))
        else:
            lines[where] = bad_bytes(lines[where], rng)
    return b"\n".join(lines)


Mutator = Callable[[random.Random], bytes]
