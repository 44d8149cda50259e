"""Reads the fields of a result file and names every field of the wrong type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vfm_isbench.errors import ResultError
from vfm_isbench.types import is_number


def mapping(content: Any, key: str, where: str = "") -> Mapping[str, Any]:
    """The JSON object in a field of another object.

    Args:
        content: The object that has the field.
        key: Name of the field.
        where: Path before the name in messages: "datasets.davis.".

    Raises:
        ResultError: if the field has another type.
        KeyError: if it is missing.
    """
    found: Mapping[str, Any] = _typed(content[key], Mapping, "an object", f"{where}{key}")
    return found


def sequence(content: Any, key: str, where: str = "") -> Sequence[Any]:
    """A list; see :func:`mapping`."""
    found: Sequence[Any] = _typed(content[key], (list, tuple), "a list", f"{where}{key}")
    return found


def text(content: Any, key: str) -> str:
    """A text; see :func:`mapping`."""
    return str(_typed(content[key], str, "a text", key))


def part(content: Any, key: str) -> Mapping[str, Any]:
    """An upsampler or a backbone: an object with a text or null as its hash, and an object or null as its source."""
    found = mapping(content, key)
    optional_text(found, "sha256", f"{key}.")
    _typed(found.get("source"), (Mapping, type(None)), "an object or null", f"{key}.source")
    return found


def optional_text(content: Mapping[str, Any], key: str, where: str) -> str | None:
    """A text or null; the field may be missing."""
    found: str | None = _typed(content.get(key), (str, type(None)), "a text or null", f"{where}{key}")
    return found


def optional_number(content: Mapping[str, Any], key: str, where: str) -> float | None:
    """A number or null; the field must exist."""
    found = content[key]
    return None if found is None else _number(found, "a number or null", f"{where}{key}")


def mappings(content: Any, key: str) -> tuple[Mapping[str, Any], ...]:
    """A list of objects."""
    items = enumerate(sequence(content, key))
    return tuple(_typed(item, Mapping, "an object", f"{key}[{index}]") for index, item in items)


def texts(content: Any, key: str) -> tuple[str, ...]:
    """A list of texts."""
    return tuple(_typed(item, str, "a text", f"{key}[{index}]") for index, item in enumerate(sequence(content, key)))


def numbers(content: Any, key: str) -> Mapping[str, float]:
    """An object whose values are numbers."""
    return {name: _number(value, "a number", f"{key}.{name}") for name, value in mapping(content, key).items()}


def _number(found: Any, expected: str, field: str) -> float:
    return found if is_number(found) else _typed(found, (), expected, field)


def _typed(found: Any, types: Any, expected: str, field: str) -> Any:
    if not isinstance(found, types):
        shown = "null" if found is None else type(found).__name__
        raise ResultError(f"the field {field!r} has the wrong type: expected {expected}, found {shown}")
    return found
