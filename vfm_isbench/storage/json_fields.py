"""Reads the fields of a parsed JSON object, and names every field that is missing or has the wrong type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vfm_isbench.storage.printable import quote
from vfm_isbench.storage.strict_json import UnreadableError
from vfm_isbench.types import is_number

LONGEST_NAME = 1_000
"""Characters of a name; that of an upsampler may be a path."""
LONGEST_TEXT = 20_000
"""Characters of a note."""


def mapping(content: Any, key: str, where: str = "") -> Mapping[str, Any]:
    """The JSON object in a field of another object.

    Args:
        content: The object that has the field.
        key: Name of the field.
        where: Path before the name in messages: "datasets.davis.".

    Raises:
        UnreadableError: if the field is missing or has another type; the message names it.
    """
    found: Mapping[str, Any] = _typed(_field(content, key, where), Mapping, "an object", f"{where}{key}")
    return found


def sequence(content: Any, key: str, where: str = "", most: int | None = None) -> Sequence[Any]:
    """A list, with at most so many items; see :func:`mapping`."""
    found: Sequence[Any] = _typed(_field(content, key, where), (list, tuple), "a list", f"{where}{key}")
    if most is not None and len(found) > most:
        raise UnreadableError(f"the field '{where}{key}' has {len(found)} items; at most {most} are allowed")
    return found


def text(content: Any, key: str, where: str = "", longest: int = LONGEST_TEXT) -> str:
    """A text, with at most so many characters; see :func:`mapping`."""
    return _short(_typed(_field(content, key, where), str, "a text", f"{where}{key}"), f"{where}{key}", longest)


def optional_text(content: Mapping[str, Any], key: str, where: str) -> str | None:
    """A text or null; the field may be missing."""
    found: str | None = _typed(content.get(key), (str, type(None)), "a text or null", f"{where}{key}")
    return None if found is None else _short(found, f"{where}{key}", LONGEST_TEXT)


def number(content: Any, key: str, where: str = "") -> float:
    """A number, which true and false are not; see :func:`mapping`."""
    return _number(_field(content, key, where), "a number", f"{where}{key}")


def whole(content: Any, key: str, where: str = "", least: int = 0, most: int = 2**63 - 1) -> int:
    """A whole number from ``least`` to ``most``; see :func:`mapping`."""
    found = _number(_field(content, key, where), "a whole number", f"{where}{key}")
    if not isinstance(found, int) or not least <= found <= most:
        raise UnreadableError(f"the field '{where}{key}' is {found!r}; expected a whole number from {least} to {most}")
    return found


def optional_number(content: Mapping[str, Any], key: str, where: str = "") -> float | None:
    """A number or null; the field must exist."""
    found = _field(content, key, where)
    return None if found is None else _number(found, "a number or null", f"{where}{key}")


def mappings(content: Any, key: str, most: int | None = None) -> tuple[Mapping[str, Any], ...]:
    """A list of objects."""
    items = enumerate(sequence(content, key, most=most))
    return tuple(_typed(item, Mapping, "an object", f"{key}[{index}]") for index, item in items)


def texts(content: Any, key: str, most: int | None = None) -> tuple[str, ...]:
    """A list of texts."""
    items = enumerate(sequence(content, key, most=most))
    return tuple(
        _short(_typed(item, str, "a text", f"{key}[{index}]"), f"{key}[{index}]", LONGEST_TEXT) for index, item in items
    )


def numbers(content: Any, key: str) -> Mapping[str, float]:
    """An object whose values are numbers."""
    return {name: _number(value, "a number", f"{key}.{name}") for name, value in mapping(content, key).items()}


def _field(content: Any, key: str, where: str) -> Any:
    if not isinstance(content, Mapping):
        raise UnreadableError(
            f"{f'the field {where[:-1]!r}' if where else 'it'} is {quote(content)}; expected an object"
        )
    if key not in content:
        raise UnreadableError(f"the field '{where}{key}' is missing")
    return content[key]


def _number(found: Any, expected: str, field: str) -> float:
    return found if is_number(found) else _typed(found, (), expected, field)


def _short(found: str, field: str, longest: int) -> str:
    if len(found) > longest:
        raise UnreadableError(f"the field {field!r} has {len(found)} characters; at most {longest} are allowed")
    return found


def _typed(found: Any, types: Any, expected: str, field: str) -> Any:
    if not isinstance(found, types):
        shown = "null" if found is None else type(found).__name__
        raise UnreadableError(f"the field {field!r} has the wrong type: expected {expected}, found {shown}")
    return found
