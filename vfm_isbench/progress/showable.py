"""Text as a terminal can show it, whatever its encoding and whatever names the text contains."""

from __future__ import annotations

import unicodedata

_ESCAPED = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories that a terminal obeys or cannot show: controls, direction marks, surrogates, line separators."""

_STAND_INS = {"·": "|", "–": "-", "−": "-", "─": "-", "…": "...", "≥": ">=", "≤": "<=", "±": "+-", "×": "x", "→": "->"}
"""What replaces the signs of our own tables where the encoding lacks them."""


def showable(text: str, encoding: str) -> str:
    r"""Text that cannot fail to print and cannot command the terminal; its line breaks stay.

    >>> showable("mine\x1b[2J: ≥20@90 · Größe\nbytes: \udcff", "ascii")
    'mine\\x1b[2J: >=20@90 | Gr\\xf6\\xdfe\nbytes: \\udcff'
    """
    shown = "".join(_escape(char) if unicodedata.category(char) in _ESCAPED and char != "\n" else char for char in text)
    try:
        shown.encode(encoding)
    except UnicodeEncodeError:
        return "".join(_encodable(char, encoding) for char in shown)
    return shown


def _escape(char: str) -> str:
    return char.encode("unicode_escape", "backslashreplace").decode()


def _encodable(char: str, encoding: str) -> str:
    try:
        char.encode(encoding)
    except UnicodeEncodeError:
        return _STAND_INS.get(char) or _escape(char)
    return char
