"""Text from a stranger's file as messages may show it: it cannot forge a line or command the terminal."""

from __future__ import annotations

LONGEST = 120
"""How many characters of a stranger's text a message quotes."""


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
    r"""A JSON value in which no text can command a terminal; line breaks and tabs stay.

    >>> escaped({"name": "mine\x1b[2J", "notes": ["two\nlines"]})
    {'name': 'mine\\x1b[2J', 'notes': ['two\nlines']}
    """
    if isinstance(value, str):
        return value if value.isprintable() else "".join(_shown(char) for char in value)
    if isinstance(value, dict):
        return {escaped(key): escaped(part) for key, part in value.items()}
    return [escaped(part) for part in value] if isinstance(value, list) else value


def _shown(char: str) -> str:
    return char if char.isprintable() or char in "\n\t" else _escape(char)


def _escape(char: str) -> str:
    return char.encode("unicode_escape", "backslashreplace").decode()
