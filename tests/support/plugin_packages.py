"""Handmade installed packages: metadata with entry points, and modules, in a folder on Python's path."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

GROUPS = {
    "upsampler": "vfm_isbench.upsamplers",
    "backbone": "vfm_isbench.backbones",
    "data set": "vfm_isbench.datasets",
    "click encoder": "vfm_isbench.click_encoders",
}


class Packages:
    """Installs packages into a folder, like pip."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(
        self,
        package: str,
        points: Mapping[tuple[str, str], str],
        modules: Mapping[str, str] | None = None,
        version: str = "1.0",
    ) -> None:
        """Install a package, or another version of it.

        Args:
            package: Name of the distribution.
            points: Entry point by kind and name.
            modules: Source by module name.
            version: Version of the distribution.
        """
        groups: dict[str, list[str]] = {}
        for (kind, name), value in points.items():
            groups.setdefault(GROUPS[kind], []).append(f"{name} = {value}\n")
        text = "".join(f"[{group}]\n{''.join(lines)}" for group, lines in groups.items())
        self.write(package, text, version)
        for name, source in (modules or {}).items():
            sys.modules.pop(name, None)
            (self.folder / f"{name}.py").write_text(source, encoding="utf-8")
        importlib.invalidate_caches()

    def write(self, package: str, entry_points: str, version: str = "1.0") -> None:
        """Write the metadata of a package, with the text of its entry points."""
        info = self.folder / f"{package.replace('-', '_')}.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(entry_points, encoding="utf-8")
        importlib.invalidate_caches()


def installed_packages(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Packages]:
    """Add the folder to Python's path during a test, and forget its modules afterwards."""
    # Python compares file times in seconds to see if compiled code is outdated; tests write faster than that.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(str(folder))
    yield Packages(folder)
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]
