"""A strict schema for untrusted JSON: a tree of small checks, each of which reports everything wrong below it.

A check takes a parsed JSON value, the path to it, and the report; it returns whether the value is usable.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from typing import Protocol as Interface
from urllib.parse import urlsplit

from vfm_isbench.leaderboard.findings import Report
from vfm_isbench.storage.printable import quote
from vfm_isbench.types import is_number

KEY = re.compile(r"[A-Za-z0-9_.:@/+-]{1,100}")
"""Names of data sets, packages, settings."""
HEX = re.compile(r"[0-9a-f]{64}")
"""A SHA-256 as written in entries."""

_BREAKS = {ord("\n"): None, ord("\t"): None}


class Check(Interface):
    """Checks a value."""

    def __call__(self, value: Any, path: str, report: Report) -> bool:
        """Report everything that is wrong; return True if nothing is."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number in [low, high], optionally whole."""

    low: float = -1e300
    high: float = 1e300
    whole: bool = False

    def __call__(self, value: Any, path: str, report: Report) -> bool:
        """See :class:`Check`."""
        kind = "a whole number" if self.whole else "a number"
        if not is_number(value) or (self.whole and not isinstance(value, int)):
            report.add(path, f"{quote(value)} is not {kind}")
        elif not self.low <= value <= self.high:
            report.add(path, f"{quote(value)} lies outside [{self.low:g}, {self.high:g}]")
        else:
            return True
        return False


@dataclass(frozen=True, slots=True)
class Text:
    """Visible characters of bounded length: one line, or several if allowed, optionally matching a pattern."""

    longest: int = 200
    lines: bool = False
    pattern: re.Pattern[str] | None = None
    expected: str = ""

    def __call__(self, value: Any, path: str, report: Report) -> bool:
        """See :class:`Check`."""
        if not isinstance(value, str):
            report.add(path, f"{quote(value)} is not a text")
        elif len(value) > self.longest:
            report.add(path, f"has {len(value)} characters; at most {self.longest} are allowed")
        elif not (value.translate(_BREAKS) if self.lines else value).isprintable():
            report.add(path, f"{quote(value)} contains control or invisible characters")
        elif self.pattern is not None and not self.pattern.fullmatch(value):
            report.add(path, f"{quote(value)} is not {self.expected}")
        else:
            return True
        return False


@dataclass(frozen=True, slots=True)
class Flag:
    """True or false."""

    def __call__(self, value: Any, path: str, report: Report) -> bool:
        """See :class:`Check`."""
        if not isinstance(value, bool):
            report.add(path, f"{quote(value)} is not true or false")
        return isinstance(value, bool)


@dataclass(frozen=True, slots=True)
class Optional:
    """Null, or a value that passes another check."""

    check: Check

    def __call__(self, value: Any, path: str, report: Report) -> bool:
        """See :class:`Check`."""
        return value is None or self.check(value, path, report)


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list of bounded length."""

    check: Check
    least: int = 0
    most: int = 10_000

    def __call__(self, value: Any, path: str, report: Report) -> bool:
        """See :class:`Check`."""
        if not isinstance(value, list):
            report.add(path, f"{quote(value)} is not a list")
            return False
        if not self.least <= len(value) <= self.most:
            report.add(path, f"has {len(value)} items; expected {self.least} to {self.most}")
            return False
        return all([self.check(item, f"{path}[{index}]", report) for index, item in enumerate(value)])


@dataclass(frozen=True, slots=True)
class MapOf:
    """An object whose keys are names."""

    check: Check
    most: int = 100

    def __call__(self, value: Any, path: str, report: Report) -> bool:
        """See :class:`Check`."""
        if not isinstance(value, dict):
            report.add(path, f"{quote(value)} is not an object")
            return False
        if len(value) > self.most:
            report.add(path, f"has {len(value)} fields; at most {self.most} are allowed")
            return False
        good = [KEY.fullmatch(key) is not None for key in value]
        for key, fits in zip(value, good, strict=True):
            if not fits:
                report.add(path, f"{quote(key)} is not a name of letters, digits and . : @ / + - _")
        return all(good) & all([self.check(item, f"{path}.{key}", report) for key, item in value.items()])


@dataclass(frozen=True, slots=True)
class Record:
    """An object with exactly these fields, some of them optional."""

    fields: Mapping[str, Check]
    optional: Mapping[str, Check] = field(default_factory=dict)

    def __call__(self, value: Any, path: str, report: Report) -> bool:
        """See :class:`Check`."""
        if not isinstance(value, dict):
            report.add(path, f"{quote(value)} is not an object")
            return False
        known = {**self.fields, **self.optional}
        good = True
        for key in value:
            if key not in known:
                report.add(_below(path, key), "is not a field of this schema")
                good = False
        for key in self.fields:
            if key not in value:
                report.add(_below(path, key), "is missing")
                good = False
        return good & all([known[key](item, _below(path, key), report) for key, item in value.items() if key in known])


@dataclass(frozen=True, slots=True)
class Plain:
    """Any JSON value of bounded depth and length, for what an upsampler declares about its source."""

    depth: int = 3
    longest: int = 2000

    def __call__(self, value: Any, path: str, report: Report) -> bool:
        """See :class:`Check`."""
        if value is None or isinstance(value, bool) or is_number(value):
            return True
        if isinstance(value, str):
            return Text(self.longest, lines=True)(value, path, report)
        if self.depth == 0:
            report.add(path, "is nested too deeply")
            return False
        below = Plain(self.depth - 1, self.longest)
        return (ListOf(below, most=1000) if isinstance(value, list) else MapOf(below, most=1000))(value, path, report)


@dataclass(frozen=True, slots=True)
class Url:
    """A web address: http or https, a host, no credentials, no characters that could end an attribute or a line."""

    longest: int = 500

    def __call__(self, value: Any, path: str, report: Report) -> bool:
        """See :class:`Check`."""
        if not Text(self.longest)(value, path, report):
            return False
        problem = url_problem(value)
        if problem:
            report.add(path, f"{quote(value)} {problem}")
        return not problem


def url_problem(url: str) -> str | None:
    """What is wrong with a web address, or None."""
    if not re.fullmatch(r"[A-Za-z0-9._~:/?#\[\]@!$&*+,;=%()-]+", url):
        return "contains characters that must be escaped in a web address"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        return f"is not a web address: {error}"
    if parts.scheme not in ("http", "https"):
        return "is not a web address: expected https://… or http://…"
    if not host or not re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", host):
        return "has no host"
    if "@" in parts.netloc:
        return "contains a user name"
    return None


def _below(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
