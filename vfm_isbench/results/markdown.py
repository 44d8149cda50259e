"""Tables in GitHub's Markdown, of text that others wrote."""

from __future__ import annotations

from collections.abc import Sequence

_SPECIAL = frozenset("\\`*_{}[]<>()#+!|~&")


def markdown_table(rows: Sequence[Sequence[str]], *, text_columns: int = 1) -> str:
    """A table; the first row is its head.

    Args:
        rows: Cells. Their text is shown as it is: what means something in Markdown or HTML is escaped.
        text_columns: Columns from the left that hold text and stand to the left; the others stand to the right.
    """
    head, *body = ["| " + " | ".join(escape(cell) for cell in row) + " |" for row in rows]
    rule = "|" + "|".join("---" if column < text_columns else "---:" for column in range(len(rows[0]))) + "|"
    return "\n".join([head, rule, *body])


def escape(text: str) -> str:
    """Text that Markdown shows as it is, in one line."""
    return "".join(f"\\{letter}" if letter in _SPECIAL else letter for letter in " ".join(text.split()))


def code(text: str) -> str:
    """Text between back-ticks, which it must not hold."""
    return f"`{' '.join(text.split()).replace('`', chr(39))}`"
