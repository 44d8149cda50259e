"""Turns roles in docstrings, as in ``:class:`vfm_isbench.Speed```, into links to the API reference, or into code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import griffe

PAGE = Path(__file__).with_name("reference.md")
ROLE = re.compile(r":(?:class|func|meth|mod|data|attr):`([^`]+)`")
LITERAL = re.compile(r"``([^`]+)``")


class Roles(griffe.Extension):
    """Rewrites every docstring before it is parsed."""

    def __init__(self) -> None:
        text = PAGE.read_text(encoding="utf-8")
        self._linked = set(re.findall(r"^::: (\S+)$", text, flags=re.MULTILINE))

    def on_object(self, *, obj: griffe.Object, **_more: Any) -> None:
        """Called for every object with a docstring or without."""
        if obj.docstring is not None:
            text = ROLE.sub(lambda found: self._link(found[1]), obj.docstring.value)
            obj.docstring.value = LITERAL.sub(r"`\1`", text)

    def _link(self, target: str) -> str:
        shown = target.lstrip("~.").removeprefix("vfm_isbench.")
        return f"[`{shown}`][{target}]" if target in self._linked else f"`{shown}`"
