"""Tables in GitHub's Markdown, safe for untrusted text."""

from __future__ import annotations

from collections.abc import Sequence

_SPECIAL = frozenset("\\`*_{}[]<>()#+!|~&")


def markdown_table(rows: Sequence[Sequence[str]], *, text_columns: int = 1) -> str:
    """A table; the first row is its header.

    Args:
        rows: Cells. Their text appears as it is: Markdown and HTML are escaped.
        text_columns: Number of left columns that hold text, aligned left; the others are aligned right.
    """
    head, *body = ["| " + " | ".join(escape(cell) for cell in row) + " |" for row in rows]
    rule = "|" + "|".join("---" if column < text_columns else "---:" for column in range(len(rows[0]))) + "|"
    return "\n".join([head, rule, *body])


def escape(text: str) -> str:
    """Escape text so that Markdown shows it as it is, in one line."""
    return "".join(f"\\{letter}" if letter in _SPECIAL else letter for letter in " ".join(text.split()))


def code(text: str) -> str:
    """Text as inline code; its own back-ticks become apostrophes."""
    return f"`{' '.join(text.split()).replace('`', chr(39))}`"
