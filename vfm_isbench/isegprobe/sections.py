"""Read fields of a checkpoint's configuration, with errors that name the file and the field."""

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
        source: The file, for messages.
        values: The dictionary, or an EasyDict or OmegaConf as :mod:`vfm_isbench.storage.inert_pickle` reads it.
        path: Its place in the configuration, such as ``head_cfg.params``.

    Raises:
        RunError: if ``values`` is not a dictionary.
    """

    def __init__(self, source: Path, values: Any, path: str) -> None:
        self._source = source
        self._path = path
        self._values = plain(values)
        if not isinstance(self._values, Mapping):
            raise self._error(path, values, "a dictionary")

    def value(self, name: str) -> Any:
        """The value of a field, or None if it is absent."""
        return plain(self._values.get(name))

    def section(self, name: str) -> Section:
        """The dictionary stored in a field."""
        return Section(self._source, self._values.get(name), self._place(name))

    def choice(self, name: str, table: Mapping[str, T]) -> T:
        """The table's entry for the name in a field; case is ignored."""
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
        """A number above 0, or ``default`` if the field is absent."""
        value = self._values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
            raise self.refusal(name, "a number above 0")
        return float(value)

    def side(self, name: str) -> int:
        """The side of a square, given as one number or as two equal ones."""
        value = self.value(name)
        sides = {plain(side) for side in value} if isinstance(value, (list, tuple)) else {value}
        side = sides.pop()
        if sides or type(side) is not int or side < 1:
            raise self.refusal(name, "one whole number above 0, or two equal ones")
        return side

    def expect(self, name: str, expected: Any, default: Any) -> None:
        """Require the only supported value; an absent field counts as ``default``."""
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
            f"{self._source}: field {place} of its configuration is {reprlib.repr(value)}; supported: {supported}"
        )


def plain(value: Any) -> Any:
    """Unwrap an EasyDict or OmegaConf object by one level; return any other value as it is."""
    if not isinstance(value, Placeholder):
        return value
    if value.path == "easydict.EasyDict":
        return value.items
    # OmegaConf containers keep their nodes in _content; a node keeps its value in _val.
    state = value.state if isinstance(value.state, dict) else {}
    return state.get("_content", state.get("_val", value))
