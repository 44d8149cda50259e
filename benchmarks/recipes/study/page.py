"""The figures on a study's page: everything between two markers is written by the recipe.

<!-- figures: KEY -->
(written by the recipe)
<!-- end of figures -->
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from vfm_isbench.storage.atomic import write_text

PAGES = Path(__file__).parents[3] / "docs" / "studies"
_BLOCK = re.compile(r"(<!-- figures: (?P<key>[\w-]+) -->\n)(?P<text>.*?)(<!-- end of figures -->)", re.DOTALL)


def table(rows: Sequence[Sequence[str]], text_columns: int = 1) -> str:
    """A table in Markdown; the first row is its header. Cells may contain Markdown."""
    head, *body = ["| " + " | ".join(row) + " |" for row in rows]
    rule = "|" + "|".join("---" if column < text_columns else "---:" for column in range(len(rows[0]))) + "|"
    return "\n".join([head, rule, *body])


def filled(text: str, blocks: Mapping[str, str]) -> str:
    """A page with the text of its blocks replaced.

    Raises:
        ValueError: if the page has a block without figures, or lacks one.
    """
    keys = [found["key"] for found in _BLOCK.finditer(text)]
    if sorted(keys) != sorted(blocks):
        raise ValueError(f"the page has the blocks {sorted(keys)}, the recipe makes {sorted(blocks)}")
    # By a function, so that backslashes in the figures stay as they are.
    return _BLOCK.sub(lambda found: f"{found[1]}\n{blocks[found['key']].strip()}\n\n{found[4]}", text)


def write_page(name: str, blocks: Mapping[str, str], pages: Path = PAGES) -> None:
    """Write the figures into the study's page."""
    page = pages / f"{name}.md"
    write_text(page, filled(page.read_text(encoding="utf-8"), blocks))
