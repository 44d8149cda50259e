"""Text from a stranger's file as messages may show it: it cannot forge a line or command the terminal."""

from __future__ import annotations

import re

LONGEST = 120
"""How many characters of a stranger's text a message quotes."""

_COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Characters that terminals and browsers obey instead of showing them."""


def printable(text: str, longest: int = LONGEST) -> str:
    r"""Text that is safe for a terminal or a log: one line, nothing invisible, not too long.

    Control characters, line breaks, marks that change the writing direction, and lone surrogates become escapes.

    >>> printable("mine\nother.json.gz: fine\x1b[2J")
    'mine\\nother.json.gz: fine\\x1b[2J'
    """
    shown = "".join(char if char.isprintable() else _escape(char) for char in text[: longest + 1])
    return shown if len(shown) <= longest and len(text) <= longest else f"{shown[: longest - 1]}…"


def quote(value: object) -> str:
    """A value of a stranger's file as messages show it: printable and shortened."""
    if isinstance(value, list | dict):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    return printable(repr(value), LONGEST)


def escaped(value: object) -> object:
    r"""A JSON value in which no text can command a terminal: controls and marks of direction become escapes.

    Line breaks and tabs stay, and so do bytes of a file name that is not UTF-8.

    >>> escaped({"name": "mine\x1b[2J", "notes": ["two\nlines"]})
    {'name': 'mine\\x1b[2J', 'notes': ['two\nlines']}
    """
    if isinstance(value, str):
        return value if value.isprintable() else _COMMANDS.sub(lambda found: _escape(found[0]), value)
    if isinstance(value, dict):
        return {escaped(key): escaped(part) for key, part in value.items()}
    return [escaped(part) for part in value] if isinstance(value, list) else value


def _escape(char: str) -> str:
    return char.encode("unicode_escape", "backslashreplace").decode()
