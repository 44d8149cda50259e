"""Plugins of other installed packages: found by their entry points, imported only when their name is used."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from vfm_isbench.errors import PluginError, VfmIsbenchError, VfmIsbenchWarning
from vfm_isbench.registry.registry import NAME_RULE, is_plain_name, unknown_name
from vfm_isbench.registry.trial import try_out
from vfm_isbench.storage.hashing import code_sha256

T = TypeVar("T")

_ORIGIN = "plugin_origin"


@dataclass(frozen=True, slots=True)
class Plugin:
    """One entry point of an installed package.

    Attributes:
        kind: What it adds, for messages ("backbone").
        name: Name under which it is used.
        package: Distribution that contains it.
        version: Version of that distribution.
        expected: What the entry point must name, for messages.
        entry_point: The entry point.
    """

    kind: str
    name: str
    package: str
    version: str
    expected: str
    entry_point: EntryPoint

    def __str__(self) -> str:
        return f"{self.package} {self.version} ({self.entry_point.value})"

    def load(self) -> Any:
        """Import the object that the entry point names.

        Raises:
            PluginError: if that fails for any reason.
        """
        try:
            return self.entry_point.load()
        except (Exception, SystemExit) as error:
            raise self.error(f"could not be imported: {type(error).__name__}: {error}") from error

    def make(self, expected: type[T], *arguments: Any, **options: Any) -> T:
        """Call the object that the entry point names, and mark the result with its origin.

        Raises:
            PluginError: if it cannot be imported or called, fails, or makes something other than ``expected``. This
                library's own errors pass through unchanged: a data set without its folder reports that itself.
        """
        function = self.load()
        if not callable(function):
            raise self.error(f"is of type {type(function).__name__}, which cannot be called")
        try:
            made = function(*arguments, **options)
        except VfmIsbenchError:
            raise
        except (Exception, SystemExit) as error:
            raise self.error(f"failed with {type(error).__name__}: {error}") from error
        if not isinstance(made, expected):
            raise self.error(f"made something of type {type(made).__name__}, not {expected.__name__}")
        return self.mark(made)

    def try_out(self, module: nn.Module, side: int, shape: tuple[int, ...]) -> None:
        """Raise a :class:`PluginError` unless a module keeps to a shape; see :func:`~.trial.try_out`."""
        try_out(module, side, shape, self.error)

    def mark(self, made: T) -> T:
        """Record on an object that this plugin made it, for :func:`plugin_origins`; returns the object."""
        # Bypasses the __setattr__ of frozen dataclasses and modules: the mark does not affect what the object computes.
        object.__setattr__(made, _ORIGIN, self.origin())
        return made

    def origin(self) -> dict[str, str | None]:
        """What a result records: kind, name, package, version, entry point, and a hash of the code if imported."""
        code = _code_of(self.entry_point.module)
        return {
            "kind": self.kind,
            "name": self.name,
            "package": self.package,
            "version": self.version,
            "entry_point": self.entry_point.value,
            "code_sha256": None if code is None else code_sha256(code),
        }

    def error(self, what: str) -> PluginError:
        """The error that says ``what`` is wrong with this plugin, where it comes from and what to do."""
        return PluginError(
            f"{self.kind} {self.name!r} of package {self.package} {self.version} (entry point "
            f"{self.entry_point.value!r} in the group {self.entry_point.group!r}) {what}. Expected {self.expected}. "
            f"Update {self.package}, uninstall it (pip uninstall {self.package}), or tell its authors"
        )


class Plugins:
    """The plugins of one kind that installed packages offer.

    Every query reads the metadata of all installed packages again, which takes milliseconds, but imports none of their
    code. A broken package therefore breaks only its own names.

    Args:
        kind: What they are, for messages ("backbone").
        group: Group of entry points.
        expected: What an entry point must name, for messages.
        built_in: Returns the built-in names, which no plugin can replace.
    """

    def __init__(self, kind: str, group: str, expected: str, built_in: Callable[[], Collection[str]]) -> None:
        self.kind = kind
        self.group = group
        self._expected = expected
        self._built_in = built_in

    def find(self, name: str, hint: str = "") -> Plugin:
        """Find the plugin with a name.

        Args:
            name: A name that is not built in.
            hint: Another sentence for the unknown-name error.

        Raises:
            UnknownNameError: if there is none; the message lists the names of built-in parts and plugins.
            PluginError: if the name is refused: built in, offered by several packages, or unusable as a name.
        """
        offers = self._offers()
        if name not in offers:
            usable = [offered for offered in offers if self._refusal(offered, offers[offered]) is None]
            raise unknown_name(self.kind, name, [*self._built_in(), *usable], hint)
        refusal = self._refusal(name, offers[name])
        if refusal is not None:
            raise PluginError(refusal)
        return offers[name][0]

    def warn_if_refused(self, name: str) -> None:
        """Warn if a package offers a plugin with this built-in name: its user may expect to get the plugin."""
        refusal = self._refusal(name, self._offers().get(name, []))
        if refusal is not None:
            warnings.warn(refusal, VfmIsbenchWarning, stacklevel=3)

    def describe(self) -> list[tuple[str, str]]:
        """Name and origin of each plugin, or why it is refused, by name."""
        return [
            (name, f"refused: {refusal}" if (refusal := self._refusal(name, offers)) else f"plugin: {offers[0]}")
            for name, offers in self._offers().items()
        ]

    def _refusal(self, name: str, offers: list[Plugin]) -> str | None:
        if not offers:
            return None
        packages = " and ".join(map(str, offers))
        remedy = f"(pip uninstall {' or '.join(dict.fromkeys(offer.package for offer in offers))})"
        if name in self._built_in():
            return (
                f"{self.kind} {name!r} is built in: the one offered by {packages} is refused, because a plugin cannot "
                f"replace a built-in name. Ask for another name of its entry point, or uninstall the package {remedy}"
            )
        if len(offers) > 1:
            return (
                f"{self.kind} {name!r} is ambiguous: it is offered by {packages}. Ask for another name of an entry "
                f"point, or uninstall a package {remedy}"
            )
        if not is_plain_name(name):
            return (
                f"{self.kind} {name!r} of {packages} has an unusable name; expected {NAME_RULE}. Ask for another name "
                f"of its entry point, or uninstall the package {remedy}"
            )
        return None

    def _offers(self) -> dict[str, list[Plugin]]:
        """All entry points of the group, grouped and sorted by name."""
        offers: dict[str, list[Plugin]] = {}
        try:
            for point in sorted(entry_points(group=self.group), key=lambda point: point.name):
                package, version = (point.dist.name, point.dist.version) if point.dist else ("unknown", "unknown")
                found = Plugin(self.kind, point.name, str(package), str(version), self._expected, point)
                offers.setdefault(point.name, []).append(found)
        except Exception as error:  # broken metadata of any installed package can raise anything
            warnings.warn(
                "plugins are unavailable: the metadata of an installed package cannot be read "
                f"({type(error).__name__}: {error}); run 'pip check' and look at entry_points.txt files to find it",
                VfmIsbenchWarning,
                stacklevel=3,
            )
            return {}
        return offers


def plugin_origins(*made: object) -> list[dict[str, str | None]]:
    """Origins of the objects that plugins made, without duplicates, by kind and name; see :meth:`Plugin.origin`."""
    origins = [origin for object_ in made if (origin := getattr(object_, _ORIGIN, None)) is not None]
    distinct = {(origin["kind"], origin["name"]): origin for origin in origins}
    return [distinct[key] for key in sorted(distinct)]


def _code_of(name: str) -> Path | None:
    """File of an imported module, or folder of its outermost package with an ``__init__.py``."""
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        file = getattr(sys.modules.get(".".join(parts[:count])), "__file__", None)
        if file is not None:
            path = Path(file)
            found = path.parent if path.name == "__init__.py" else path
            return found if found.exists() else None
    return None
