"""The click patterns of the evaluation as a protocol writes them: "center", "jitter:5", "mix:center=0.5,random=0.5"."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

SYNTAX = (
    "a click pattern: center, random, boundary, clustered, jitter:SIGMA, worst_of:N, best_of:N, realistic, "
    "realistic:FILE, or a mixture such as mix:center=0.5,random=0.3,boundary=0.2"
)

TRIED = ("worst_of", "best_of")
"""Patterns that try candidates with the network before they place one of them."""

MOST_CANDIDATES = 50
LARGEST_SIGMA = 1000.0

_PLAIN = ("center", "random", "boundary", "clustered", "realistic")
_LONGEST = 1000
_NUMBER = re.compile(r"(0|[1-9]\d*)(\.\d+)?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clicker:
    """A click pattern, read from its text.

    Attributes:
        name: What stands before the colon.
        sigma: Of "jitter": standard deviation in pixels; else 0.
        candidates: Of "worst_of" and "best_of": how many clicks they try; else 1.
        file: Of "realistic": the file with people's clicks, or how results call it; "" for the model.
        parts: Of "mix": the patterns with their shares, which add up to 1; else empty.
    """

    name: str
    sigma: float = 0.0
    candidates: int = 1
    file: str = ""
    parts: tuple[tuple[Clicker, float], ...] = ()

    @classmethod
    def parse(cls, text: object) -> Clicker:
        """Read a pattern. Each has one spelling, so that equal protocols look equal.

        Raises:
            ValueError: if the text is not a pattern; says why, and how to write it.

        >>> Clicker.parse("jitter:2.5").sigma, Clicker.parse("worst_of:5").candidates
        (2.5, 5)
        """
        if not isinstance(text, str):
            raise ValueError("it must be text")
        name, colon, value = text.partition(":")
        if name in _PLAIN and not colon:
            return cls(name=name)
        if name == "realistic":
            return cls(name=name, file=_file(value))
        if name == "jitter":
            return cls(name=name, sigma=_sigma(value))
        if name in TRIED:
            return cls(name=name, candidates=_count(name, value))
        if name == "mix":
            return cls(name=name, parts=_parts(value))
        if name in _PLAIN:
            raise ValueError(f"{name} takes no value: write {name}")
        raise ValueError("there is no pattern of that name")

    @property
    def needs_trials(self) -> bool:
        """Whether candidates are tried with the network."""
        return self.name in TRIED


def why_no_clicker(text: object) -> str:
    """Why a value is not a click pattern; empty if it is one."""
    try:
        Clicker.parse(text)
    except ValueError as error:
        return str(error)
    return ""


def clicks_label(clicker: str, max_clicks: int) -> str:
    """The clicks of a protocol as its signature shows them.

    >>> clicks_label("center", 20), clicks_label("random", 20), clicks_label("jitter:5", 20)
    ('ritm20', 'random20', 'jitter(5)20')
    """
    if clicker == "center":
        return f"ritm{max_clicks}"
    name, colon, value = clicker.partition(":")
    return f"{name}({value}){max_clicks}" if colon else f"{name}{max_clicks}"


def _file(value: str) -> str:
    if not 0 < len(value) <= _LONGEST or not value.isprintable() or set("|<>") & set(value):
        raise ValueError("realistic:FILE needs the path of a CSV file, without any of the characters | < >")
    return value


def _sigma(value: str) -> float:
    if not _NUMBER.fullmatch(value) or not 0 < float(value) <= LARGEST_SIGMA:
        raise ValueError(f"jitter needs SIGMA, pixels above 0 up to {LARGEST_SIGMA:g}: write jitter:5")
    return _canonical(value, "jitter:")


def _count(name: str, value: str) -> int:
    if not re.fullmatch(r"[1-9]\d?", value, re.ASCII) or not 2 <= int(value) <= MOST_CANDIDATES:
        raise ValueError(f"{name} needs N, a whole number of candidates from 2 to {MOST_CANDIDATES}: write {name}:5")
    return int(value)


def _parts(value: str) -> tuple[tuple[Clicker, float], ...]:
    advice = "write mix:center=0.5,random=0.3,boundary=0.2"
    found: dict[Clicker, float] = {}
    for part in value.split(","):
        pattern, equals, share = part.partition("=")
        if not equals or not _NUMBER.fullmatch(share) or not 0 < float(share) < 1:
            raise ValueError(f"mix needs patterns with shares between 0 and 1: {advice}")
        if pattern.startswith(("mix", "realistic:", *TRIED)):
            raise ValueError("mix takes center, random, boundary, clustered, jitter:SIGMA and realistic only")
        clicker = Clicker.parse(pattern)
        if clicker in found:
            raise ValueError(f"mix names {pattern} twice")
        found[clicker] = _canonical(share, f"{pattern}=")
    if not math.isclose(sum(found.values()), 1):
        raise ValueError(f"the shares of mix add up to {sum(found.values()):g}, not to 1: {advice}")
    return tuple(found.items())


def _canonical(text: str, before: str) -> float:
    number = float(text)
    if text != (canonical := repr(number).removesuffix(".0")):
        raise ValueError(f"write {before}{canonical}")
    return number
