"""A small registry that maps names to entries, with helpful errors for unknown names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from vfm_isbench.errors import UnknownNameError

T = TypeVar("T")

NAME_RULE = "letters, digits, '_', '-' and '.', without '.py' at the end"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9](?:[\w.-]*[\w-])?", re.ASCII)


def is_plain_name(name: object) -> bool:
    """Whether a name is unambiguous in a signature, a file name and a command."""
    return isinstance(name, str) and _PLAIN_NAME.fullmatch(name) is not None and not name.endswith(".py")


def unknown_name(kind: str, name: str, known: list[str], hint: str = "") -> UnknownNameError:
    """Build the error for an unknown name: it lists the known names and suggests the nearest."""
    nearest = difflib.get_close_matches(name, known, n=1)
    suggestion = f" Did you mean {nearest[0]!r}?" if nearest else ""
    return UnknownNameError(
        f"unknown {kind} {name!r}.{suggestion} Known: {', '.join(known)}.{' ' + hint if hint else ''}"
    )


class Registry(Generic[T]):
    """Maps names to entries of one kind.

    Args:
        kind: What the entries are, for error messages ("backbone", "upsampler").
        hint: Another sentence for the unknown-name error, for example how to pass something unregistered.
    """

    def __init__(self, kind: str, hint: str = "") -> None:
        self.kind = kind
        self.hint = hint
        self._entries: dict[str, T] = {}

    def add(self, name: str, entry: T) -> None:
        """Register ``entry`` under ``name``.

        Raises:
            ValueError: if the name is taken; entries are never replaced silently.
        """
        if name in self._entries:
            raise ValueError(f"{self.kind} {name!r} is already registered")
        self._entries[name] = entry

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator form of :meth:`add`."""

        def keep(entry: T) -> T:
            self.add(name, entry)
            return entry

        return keep

    def get(self, name: str) -> T:
        """Look up an entry.

        Raises:
            UnknownNameError: if the name is unknown; the message lists the known names and suggests the nearest.
        """
        if name not in self._entries:
            raise unknown_name(self.kind, name, list(self._entries), self.hint)
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)
