"""Takes data sets that the user fetched by hand: archives, or folders already unpacked."""

from __future__ import annotations

from pathlib import Path, PurePath

from vfm_isbench.datasets.download.install import install_archives, install_folder, layout_in
from vfm_isbench.datasets.download.manifest import Manifest
from vfm_isbench.datasets.download.sources import DatasetSource
from vfm_isbench.datasets.download.unpack import is_archive
from vfm_isbench.datasets.download.verify import VerifyReport
from vfm_isbench.datasets.files import list_entries, some_names
from vfm_isbench.errors import DataError
from vfm_isbench.storage.hashing import hash_file


def take_from_folder(
    source: DatasetSource, folder: Path, data_root: Path, *, sha256: str | None, progress: bool
) -> tuple[Manifest, VerifyReport]:
    """Install a data set from a folder that holds its archive, its archives, or the unpacked files.

    The user's files stay unchanged.

    Args:
        source: The data set.
        folder: The folder. Archives have their published names; a number that a browser adds does not matter.
        data_root: The folder that will contain the data set's folder.
        sha256: Hash that the archive must have, instead of a published checksum.
        progress: Whether to show progress bars on stderr.

    Raises:
        DataError: if the folder holds nothing of that kind, or something else than the published data set.
        OSError: if the data root cannot be written.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; expected one that holds {_expected(source)}")
    archives = [_archive_in(folder, name) for name in source.archive_names]
    found = [archive for archive in archives if archive is not None]
    if len(found) == len(archives):
        if len(found) == 1:
            _check(source, found[0], sha256)
        for archive in found:
            if not is_archive(archive):
                raise DataError(f"{archive}: not a zip or tar archive. Perhaps a web page was saved; fetch it again.")
        return install_archives(source, found, data_root, urls=(), progress=progress)
    unpacked = layout_in(source, folder)
    if unpacked is None:
        names = [entry.name + "/" * entry.is_dir() for entry in list_entries(folder)]
        raise DataError(f"{folder} holds {some_names(names) or 'nothing'}; expected {_expected(source)}")
    if sha256 is not None:
        raise DataError(
            f"{unpacked} is an unpacked folder, so there is no archive that could have the SHA-256 {sha256}"
        )
    return install_folder(source, unpacked, data_root, progress=progress)


def _archive_in(folder: Path, name: str) -> Path | None:
    """A file with this name, in any case, perhaps with a number that a browser added ("GrabCut (1).zip")."""
    stem, suffix = PurePath(name).stem.lower(), PurePath(name).suffix.lower()
    files = [entry for entry in list_entries(folder) if entry.is_file() and entry.suffix.lower() == suffix]
    exact = [file for file in files if file.stem.lower() == stem]
    numbered = [file for file in files if file.stem.lower().startswith(f"{stem} (")]
    candidates = [*exact, *numbered]
    return next((file for file in candidates if is_archive(file)), next(iter(candidates), None))


def _check(source: DatasetSource, archive: Path, sha256: str | None) -> None:
    published = ("sha256", source.archive.sha256) if source.archive.sha256 else ("md5", source.archive.md5)
    algorithm, wanted = ("sha256", sha256) if sha256 is not None else published
    if wanted is None:
        return
    got = hash_file(archive, algorithm)
    if got != wanted.lower():
        hint = "" if sha256 else f" If you trust this copy, give its own hash: --sha256 {hash_file(archive)}"
        raise DataError(f"{archive}: expected {algorithm} {wanted.lower()}, got {got}.{hint}")


def _expected(source: DatasetSource) -> str:
    layout = ", ".join([f"{name}/" for name in source.folders] + list(source.files))
    return f"{' and '.join(source.archive_names)}, or a folder with {layout}"
