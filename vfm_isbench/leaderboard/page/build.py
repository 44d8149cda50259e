"""Builds the page: template, style, scripts and data in one file.

Names, notes and citations come from people who submit entries. They reach the page as JSON in a block that the browser
does not run, and the scripts show them only as text. A Content-Security-Policy enforces this in the browser: it runs
only the scripts whose hashes the page lists, opens no connections, and parses no HTML from strings.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from vfm_isbench.errors import ResultError
from vfm_isbench.leaderboard.page.vendored import vendored_files
from vfm_isbench.storage.atomic import write_text

FILE_NAME = "index.html"
SCRIPTS = ("text.js", "state.js", "cells.js", "table.js", "charts.js", "detail.js", "export.js", "main.js")
"""Our scripts in the order in which the page runs them; each may use definitions of the earlier ones."""
REQUIRED = ("groups", "entries", "removed")
# Characters that could end a script block or change the state of the HTML parser; json.dumps keeps the rest ASCII.
UNSAFE = {ord(character): f"\\u{ord(character):04x}" for character in "<>&"}


def build_page(data: Mapping[str, Any]) -> str:
    """The leaderboard page as HTML text.

    Args:
        data: The return value of ``vfm_isbench.leaderboard.page_data``: ``generated``, ``version``, ``groups``,
            ``entries`` and ``removed``. Its texts are untrusted.

    Raises:
        ResultError: if a list is missing, or the data cannot be written as JSON (NaN cannot: use None).
    """
    missing = [name for name in REQUIRED if not isinstance(data.get(name), list)]
    if missing:
        raise ResultError(f"leaderboard data lacks the list {missing[0]!r}; expected what page_data() returns")
    vendored = vendored_files()
    scripts = [library.script() for library in vendored] + [_asset(name) for name in SCRIPTS]
    licences = [
        f"<h3>{escape(f'{library.name} {library.version}')} ({escape(library.licence)})</h3>\n"
        f'<pre tabindex="0">{escape(library.licence_text())}</pre>'
        for library in vendored
    ]
    return Template(_asset("page.html")).substitute(
        policy=escape(content_security_policy(scripts)),
        style=_asset("page.css"),
        data=embedded_json(data),
        scripts="\n".join(f"<script>{script}</script>" for script in scripts),
        licences="\n".join(licences),
    )


def write_page(data: Mapping[str, Any], folder: str | Path) -> Path:
    """Write the page to a folder as a single file, ``index.html``; returns its path.

    Raises:
        ResultError: as :func:`build_page`, or if the file cannot be written.
    """
    path = Path(folder) / FILE_NAME
    page = build_page(data)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, page)
    except OSError as error:
        raise ResultError(f"{path} cannot be written: {error}") from error
    return path


def embedded_json(data: Mapping[str, Any]) -> str:
    r"""JSON that is safe inside a script block: ASCII, with ``<``, ``>`` and ``&`` as ``\uXXXX``.

    Raises:
        ResultError: if the data cannot be written as JSON.

    >>> print(embedded_json({"name": "</script>"}))
    {"name":"\u003c/script\u003e"}
    """
    try:
        text = json.dumps(data, allow_nan=False, ensure_ascii=True, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise ResultError(f"leaderboard data is not valid JSON: {error}; use None for a missing score") from error
    return text.translate(UNSAFE)


def content_security_policy(scripts: list[str]) -> str:
    """The policy of a page that runs only these inline scripts.

    It allows inline style, because the charts add a style element; without fonts, pictures and connections, style can
    fetch nothing.
    """
    hashes = " ".join(f"'sha256-{_base64_sha256(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
        "form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _base64_sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _asset(name: str) -> str:
    return (files("vfm_isbench.leaderboard.page") / "assets" / name).read_text(encoding="utf-8")
