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
    found = content[key]
    if not isinstance(found, Mapping):
        raise _wrong(f"{where}{key}", "an object", found)
    return found


def sequence(content: Any, key: str, where: str = "") -> Sequence[Any]:
    """A list; see :func:`mapping`."""
    found = content[key]
    if not isinstance(found, list | tuple):
        raise _wrong(f"{where}{key}", "a list", found)
    return found


def text(content: Any, key: str) -> str:
    """A text; see :func:`mapping`."""
    found = content[key]
    if not isinstance(found, str):
        raise _wrong(key, "a text", found)
    return found


def part(content: Any, key: str) -> Mapping[str, Any]:
    """An upsampler or a backbone: an object with a text or null as its hash, and an object or null as its source."""
    found = mapping(content, key)
    optional_text(found, "sha256", f"{key}.")
    source = found.get("source")
    if source is not None and not isinstance(source, Mapping):
        raise _wrong(f"{key}.source", "an object or null", source)
    return found


def optional_text(content: Mapping[str, Any], key: str, where: str) -> str | None:
    """A text or null; the field may be missing."""
    found = content.get(key)
    if found is not None and not isinstance(found, str):
        raise _wrong(f"{where}{key}", "a text or null", found)
    return found


def optional_number(content: Mapping[str, Any], key: str, where: str) -> float | None:
    """A number or null; the field must exist."""
    found = content[key]
    if found is not None and not is_number(found):
        raise _wrong(f"{where}{key}", "a number or null", found)
    return found


def mappings(content: Any, key: str) -> tuple[Mapping[str, Any], ...]:
    """A list of objects."""
    found = sequence(content, key)
    for index, item in enumerate(found):
        if not isinstance(item, Mapping):
            raise _wrong(f"{key}[{index}]", "an object", item)
    return tuple(found)


def texts(content: Any, key: str) -> tuple[str, ...]:
    """A list of texts."""
    found = sequence(content, key)
    for index, item in enumerate(found):
        if not isinstance(item, str):
            raise _wrong(f"{key}[{index}]", "a text", item)
    return tuple(found)


def numbers(content: Any, key: str) -> Mapping[str, float]:
    """An object whose values are numbers."""
    found = mapping(content, key)
    for name, value in found.items():
        if not is_number(value):
            raise _wrong(f"{key}.{name}", "a number", value)
    return found


def _wrong(field: str, expected: str, found: Any) -> ResultError:
    shown = "null" if found is None else type(found).__name__
    return ResultError(f"the field {field!r} has the wrong type: expected {expected}, found {shown}")
