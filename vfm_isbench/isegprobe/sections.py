"""Reads fields out of a checkpoint's configuration, with errors that name the file and the field."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from vfm_isbench.errors import RunError
from vfm_isbench.storage.inert_pickle import Placeholder

T = TypeVar("T")


class Section:
    """One dictionary of a configuration.

    Args:
        source: The file it is from.
        values: The dictionary; also one of EasyDict or OmegaConf, as :mod:`vfm_isbench.storage.inert_pickle` reads it.
        path: Where it stands in the configuration, as ``head_cfg.params``.

    Raises:
        RunError: if the values are no dictionary.
    """

    def __init__(self, source: Path, values: Any, path: str) -> None:
        self._source = source
        self._path = path
        self._values = plain(values)
        if not isinstance(self._values, Mapping):
            raise self._error(path, values, "a dictionary")

    def value(self, name: str) -> Any:
        """The value of a field, None where there is none."""
        return plain(self._values.get(name))

    def section(self, name: str) -> Section:
        """The dictionary in a field."""
        return Section(self._source, self._values.get(name), self._place(name))

    def choice(self, name: str, table: Mapping[str, T]) -> T:
        """The entry of a table by the name in a field, in upper or lower case."""
        value = self.value(name)
        by_name = {key.lower(): entry for key, entry in table.items()}
        if not isinstance(value, str) or value.lower() not in by_name:
            raise self.refusal(name, f"one of {', '.join(table)}")
        return by_name[value.lower()]

    def whole(self, name: str) -> int:
        """A whole number above 0."""
        value = self.value(name)
        if type(value) is not int or value < 1:
            raise self.refusal(name, "a whole number above 0")
        return value

    def positive(self, name: str, default: float) -> float:
        """A number above 0; ``default`` is what an absent field means."""
        value = self._values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
            raise self.refusal(name, "a number above 0")
        return float(value)

    def side(self, name: str) -> int:
        """The side of a square, given once or twice."""
        value = self.value(name)
        sides = {plain(side) for side in value} if isinstance(value, (list, tuple)) else {value}
        side = sides.pop()
        if sides or type(side) is not int or side < 1:
            raise self.refusal(name, "a square: one whole number, or two that are equal")
        return side

    def expect(self, name: str, expected: Any, default: Any) -> None:
        """Insist on the one value that is supported; ``default`` is what an absent field means."""
        value = self.value(name) if name in self._values else default
        if value != expected:
            raise self.refusal(name, f"{expected!r} only")

    def refusal(self, name: str, supported: str) -> RunError:
        """The error for a field whose value is not supported."""
        return self._error(self._place(name), self.value(name), supported)

    def _place(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name

    def _error(self, place: str, value: Any, supported: str) -> RunError:
        return RunError(
            f"{self._source}: field {place} of its configuration is {reprlib.repr(value)}; supported is {supported}"
        )


def plain(value: Any) -> Any:
    """What EasyDict and OmegaConf hold, one level deep, as dictionary, list or value; all else as it is."""
    if not isinstance(value, Placeholder):
        return value
    if value.path == "easydict.EasyDict":
        return value.items
    # OmegaConf's containers keep nodes in _content, its nodes a value in _val.
    state = value.state if isinstance(value.state, dict) else {}
    return state.get("_content", state.get("_val", value))
