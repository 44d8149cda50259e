"""Turns archives or an unpacked folder into a verified data set, and moves it into place as a whole."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from vfm_isbench.datasets.download.manifest import (
    STATE_FOLDER,
    Manifest,
    hash_archives,
    hash_content,
    write_manifest,
)
from vfm_isbench.datasets.download.sources import Counts, DatasetSource
from vfm_isbench.datasets.download.unpack import unpack
from vfm_isbench.datasets.download.verify import VerifyReport, verify_folder
from vfm_isbench.datasets.files import check_layout, list_entries, some_names
from vfm_isbench.errors import DataError

_DEEPEST = 6
"""Levels of folders in which the layout is looked for; published archives have at most two around it."""


def install_archives(
    source: DatasetSource, archives: Sequence[Path], data_root: Path, *, urls: Sequence[str], progress: bool
) -> tuple[Manifest, VerifyReport]:
    """Unpack archives beside the target, verify and record their content, and move it into place.

    Raises:
        DataError: if they are not the published data set; nothing is changed then.
        OSError: if the data root cannot be written.
    """

    def fill(content: Path) -> Path:
        for archive in archives:
            unpack(archive, content, progress=progress)
        found = layout_in(source, content)
        if found is None:
            names = [entry.name + "/" * entry.is_dir() for entry in list_entries(content)]
            wanted = ", ".join([f"{name}/" for name in source.folders] + list(source.files))
            raise DataError(
                f"{_named(archives)}: no folder in it has {wanted}; it contains {some_names(names) or 'nothing'}"
            )
        return found

    return _install(source, fill, _named(archives), archives, data_root, urls=urls, progress=progress)


def install_folder(
    source: DatasetSource, folder: Path, data_root: Path, *, progress: bool
) -> tuple[Manifest, VerifyReport]:
    """Copy the layout of an unpacked folder beside the target, and go on as :func:`install_archives`."""

    def fill(content: Path) -> Path:
        for name in source.folders:
            shutil.copytree(folder / name, content / name)  # not atomic: the whole folder is moved into place
        for name in source.files:
            (content / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(folder / name, content / name)  # not atomic: the whole folder is moved into place
        return content

    return _install(source, fill, str(folder), (), data_root, urls=(), progress=progress)


def _install(
    source: DatasetSource,
    fill: Callable[[Path], Path],
    origin: str,
    archives: Sequence[Path],
    data_root: Path,
    *,
    urls: Sequence[str],
    progress: bool,
) -> tuple[Manifest, VerifyReport]:
    state = data_root / STATE_FOLDER
    state.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{source.name}-", dir=state) as staging:
        content = Path(staging) / "content"
        found = fill(content)
        verified = verify_folder(source, found, deep=True, progress=progress)
        if not verified.is_complete:
            problems = "\n  ".join(problem.replace(f"{content}/", "") for problem in verified.problems)
            raise DataError(f"{origin}: not the published data set:\n  {problems}")
        manifest = Manifest(
            urls=tuple(urls),
            sha256=hash_archives(archives),
            size=sum(archive.stat().st_size for archive in archives),
            date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            content_sha256=hash_content(source, found),
            counts={
                split: Counts(images=report.images or 0, objects=report.objects or 0)
                for split, report in verified.splits.items()
            },
        )
        write_manifest(source.name, data_root, manifest)
        found.rename(data_root / source.folder)  # not atomic: a folder; `data verify` finds damaged files
    return manifest, replace(verified, root=data_root / source.folder)


def layout_in(source: DatasetSource, folder: Path) -> Path | None:
    """The outermost folder with the data set's layout, because archives differ in their outer folders."""
    level = [folder]
    for _ in range(_DEEPEST):
        for candidate in level:
            try:
                check_layout(candidate, folders=source.folders, files=source.files)
                return candidate
            except DataError:
                continue
        level = [entry for parent in level for entry in list_entries(parent) if _is_own_folder(entry)]
    return None


def _is_own_folder(entry: Path) -> bool:
    return entry.is_dir() and not entry.is_symlink()  # links may lead round and round


def _named(archives: Sequence[Path]) -> str:
    return " and ".join(map(str, archives))
