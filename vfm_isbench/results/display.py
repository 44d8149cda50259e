"""How objects show themselves: as HTML in notebooks, and as a short line where Python prints their ``repr``.

The HTML is self-contained, and sets no colour: it takes those of the notebook, whether light or dark. All text is
escaped, because names and notes may come from a stranger's file.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

_LONGEST = 60
_RULE = "1px solid rgba(128, 128, 128, 0.5)"
_QUIET = "font-size: 0.9em; opacity: 0.8; margin: 0.3em 0"


def quoted(text: object) -> str:
    r"""Text for a ``repr``: in quotes, in one line, and not too long.

    >>> print(quoted("jbu"), quoted("two\nlines"))
    'jbu' 'two\nlines'
    """
    return repr(shortened(str(text)))


def shortened(text: str) -> str:
    """Text that is not too long for one line, with "…" for what was cut off."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def html_table(heading: str, rows: Sequence[Sequence[str]], *, text_columns: int = 1) -> str:
    """A table below its heading; the first row is the header.

    Args:
        heading: Text above the table.
        rows: Cells, as text; without any, only the heading is shown.
        text_columns: Number of left columns that hold text, aligned left; the others are aligned right.
    """

    def line(row: Sequence[str], tag: str) -> str:
        cells = []
        for column, cell in enumerate(row):
            style = f"text-align: {'left' if column < text_columns else 'right'}; white-space: nowrap; "
            style += f"padding: 0.2em 0.7em; border: none; border-bottom: {_RULE}"
            cells.append(f'<{tag} style="{style}">{html.escape(cell)}</{tag}>')
        return f"<tr>{''.join(cells)}</tr>"

    title = f'<div style="font-weight: bold; margin: 0.5em 0 0.3em">{html.escape(heading)}</div>'
    if not rows:
        return title
    head, *body = rows
    return (
        f"{title}"
        '<table style="border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 0">'
        f"<thead>{line(head, 'th')}</thead><tbody>{''.join(line(row, 'td') for row in body)}</tbody></table>"
    )


def html_block(tables: Iterable[str], explanation: str = "", lines: Iterable[str] = ()) -> str:
    """What a notebook shows: tables of :func:`html_table`, what their columns mean, and further lines of text."""
    texts = [f'<div style="{_QUIET}; overflow-wrap: anywhere">{html.escape(line)}</div>' for line in lines]
    meaning = f'<div style="{_QUIET}; max-width: 60em">{html.escape(explanation)}</div>' if explanation else ""
    # The classes keep the notebook from reading dollar signs as formulas.
    return (
        '<div class="tex2jax_ignore mathjax_ignore" style="overflow-x: auto">'
        f"{''.join(tables)}{meaning}{''.join(texts)}</div>"
    )
