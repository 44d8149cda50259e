"""JavaScript libraries included in every page, stored in this package byte for byte as published."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True, kw_only=True, slots=True)
class VendoredFile:
    """One library.

    Attributes:
        name: Name of the npm package.
        version: Its version.
        licence: SPDX identifier.
        file: Name of the script in ``vendor/``.
        licence_file: Name of the file with the licence texts, including those of bundled code.
        source: Package and path of the script.
        sha256: Hash of the script.
    """

    name: str
    version: str
    licence: str
    file: str
    licence_file: str
    source: str
    sha256: str

    def script(self) -> str:
        """The script's text."""
        return _read(self.file)

    def licence_text(self) -> str:
        """The licence texts."""
        return _read(self.licence_file)


def vendored_files() -> tuple[VendoredFile, ...]:
    """The libraries, in the order in which the page loads them."""
    return tuple(VendoredFile(**row) for row in json.loads(_read("vendored.json")))


def _read(name: str) -> str:
    return (files("vfm_isbench.leaderboard.page") / "vendor" / name).read_text(encoding="utf-8")
