"""From a data set's name to its files on disk: downloaded, unpacked, verified, put in place as a whole."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from vfm_isbench.datasets.catalogue import SAMPLE_WEIGHTS_FILE
from vfm_isbench.datasets.download.manifest import (
    STATE_FOLDER,
    Manifest,
    archive_path,
    hash_content,
    manifest_path,
    read_manifest,
    write_manifest,
)
from vfm_isbench.datasets.download.sources import Counts, DatasetSource, RemoteFile, source_of
from vfm_isbench.datasets.download.unpack import unpack
from vfm_isbench.datasets.download.verify import VerifyReport, verify_dataset, verify_folder
from vfm_isbench.datasets.files import check_layout, list_entries, some_names
from vfm_isbench.errors import DataError, VfmIsbenchWarning
from vfm_isbench.storage.downloads import BACKOFF, download
from vfm_isbench.storage.hashing import hash_file


@dataclass(frozen=True, kw_only=True, slots=True)
class DownloadReport:
    """What a download came to.

    Attributes:
        verified: The data set as it now is.
        was_there: Whether it was there before, complete.
        manifest: Record of the download; None where the data set was not downloaded by this library.
    """

    verified: VerifyReport
    was_there: bool
    manifest: Manifest | None

    def __str__(self) -> str:
        lines = [str(self.verified)]
        if self.was_there:
            lines.append("  was there already, nothing downloaded")
        if self.manifest is not None:
            lines.append(f"  archive: {self.manifest.size} bytes, sha256 {self.manifest.sha256}, {self.manifest.date}")
        return "\n".join(lines)


def download_dataset(
    name: str,
    data_root: Path,
    *,
    mirrors: Sequence[str] = (),
    keep_archive: bool = False,
    progress: bool = True,
    backoff: Sequence[float] = BACKOFF,
) -> DownloadReport:
    """Download, unpack and verify a data set; nothing is done for one that is there and complete.

    The folder of the data set appears as a whole, after every file was opened and counted. Until then everything is
    in ``DATA_ROOT/.vfm_isbench``; an interrupted download goes on where it stopped. An archive put into
    ``DATA_ROOT/.vfm_isbench/downloads`` by hand is used instead of the network.

    Args:
        name: Name of the data set.
        data_root: The folder that will hold its folder; made where it is not there.
        mirrors: Base URLs, tried in order before the official address; the archive's file name is appended.
        keep_archive: Keep the archive after it was unpacked.
        progress: Whether to show progress bars on stderr.
        backoff: Seconds to wait before each new attempt at a connection that broke off.

    Raises:
        UnknownNameError: if there is no such data set.
        DataError: if it could not be downloaded or is not the published one, if the folder is there, but not complete
            (it is then left as it is), or if the data root cannot be written.

    Warns:
        VfmIsbenchWarning: if the scores of SBD's training images could not be fetched: training then draws evenly.
    """
    source = source_of(name)
    data_root = Path(data_root)
    before = verify_dataset(name, data_root)
    if before.state in ("incomplete", "unreadable"):
        raise DataError(
            f"{before.root} is there, but is not the complete data set:\n  "
            + "\n  ".join(before.problems)
            + "\nIt is left as it is. Move or delete it, then give the same command again."
        )
    try:
        if before.is_complete:
            report = DownloadReport(verified=before, was_there=True, manifest=read_manifest(name, data_root))
        else:
            report = _download(source, data_root, mirrors, keep_archive, progress, backoff)
    except OSError as error:
        raise DataError(
            f"{data_root}: cannot be written ({error}). Make room or choose another data root; the archive is kept, "
            "and the next attempt goes on from there."
        ) from error
    if source.sample_weights is not None:
        _fetch_sample_weights(source.sample_weights, report.verified.root, mirrors, progress, backoff)
    return report


def _download(
    source: DatasetSource,
    data_root: Path,
    mirrors: Sequence[str],
    keep_archive: bool,
    progress: bool,
    backoff: Sequence[float],
) -> DownloadReport:
    archive = archive_path(source, data_root)
    urls = _urls(source.archive, mirrors)
    earlier = read_manifest(source.name, data_root)
    recorded = earlier.sha256 if earlier is not None else None
    sha256, md5 = source.archive.sha256 or recorded, source.archive.md5
    is_hashed = sha256 is not None or md5 is not None
    attempts = [urls]
    if not is_hashed:
        # Only its content tells a right archive from a wrong one: each address by itself, after what is there already.
        attempts = [[]] * archive.exists() + [[url] for url in urls]
    failures = []
    for some in attempts:
        try:
            download(some, archive, sha256=sha256, md5=md5, progress=progress, backoff=backoff)
        except DataError as error:
            failures.append(str(error))
            continue
        try:
            manifest, verified = _put_in_place(source, archive, data_root, urls, is_hashed, progress)
        except DataError as error:
            failures.append(f"{', '.join(some) or archive}: {error}")
            continue
        if not keep_archive:
            archive.unlink()
        return DownloadReport(verified=verified, was_there=False, manifest=manifest)
    if source.archive.sha256 is None and recorded is not None:
        failures.append(
            "The sha256 expected is that of an earlier download. If the data set was published anew, delete "
            f"{manifest_path(source.name, data_root)}."
        )
    raise DataError("\n".join(failures))


def _put_in_place(
    source: DatasetSource, archive: Path, data_root: Path, urls: Sequence[str], is_hashed: bool, progress: bool
) -> tuple[Manifest, VerifyReport]:
    """Unpack an archive beside the target, verify what was in it, record it, and move it to its place."""
    with tempfile.TemporaryDirectory(prefix=f"{source.name}-", dir=data_root / STATE_FOLDER) as staging:
        try:
            found, verified = _unpack_and_verify(source, archive, Path(staging) / "content", progress)
        except DataError as error:
            if not is_hashed:
                archive = archive.replace(archive.with_name(archive.name + ".rejected"))
            raise DataError(
                f"{error}\nThe archive is kept as {archive}. Give another mirror; or, to use it as it is, unpack it "
                f"to {data_root / source.folder} yourself."
            ) from error
        manifest = Manifest(
            urls=tuple(urls),
            sha256=hash_file(archive),
            size=archive.stat().st_size,
            date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            content_sha256=hash_content(source, found),
            counts={
                split: Counts(images=report.images or 0, objects=report.objects or 0)
                for split, report in verified.splits.items()
            },
        )
        write_manifest(source.name, data_root, manifest)
        found.rename(data_root / source.folder)
    return manifest, replace(verified, root=data_root / source.folder)


def _unpack_and_verify(
    source: DatasetSource, archive: Path, content: Path, progress: bool
) -> tuple[Path, VerifyReport]:
    unpack(archive, content, progress=progress)
    found = _find_layout(source, content)
    if found is None:
        names = [entry.name + "/" * entry.is_dir() for entry in list_entries(content)]
        wanted = ", ".join([f"{name}/" for name in source.folders] + list(source.files))
        raise DataError(f"{archive}: no folder in it has {wanted}; it holds {some_names(names) or 'nothing'}")
    verified = verify_folder(source, found, deep=True, progress=progress)
    if not verified.is_complete:
        problems = "\n  ".join(problem.replace(f"{content}/", "") for problem in verified.problems)
        raise DataError(f"{archive}: not the published data set:\n  {problems}")
    return found, verified


def _find_layout(source: DatasetSource, content: Path) -> Path | None:
    """The outermost folder with the data set's layout: archives differ in the folders they wrap it in."""
    level = [content]
    while level:
        for folder in level:
            try:
                check_layout(folder, folders=source.folders, files=source.files)
                return folder
            except DataError:
                continue
        level = [entry for folder in level for entry in list_entries(folder) if entry.is_dir()]
    return None


def _fetch_sample_weights(
    file: RemoteFile, root: Path, mirrors: Sequence[str], progress: bool, backoff: Sequence[float]
) -> None:
    if (root.parent / SAMPLE_WEIGHTS_FILE).is_file():  # looked for there, too
        return
    try:
        download(
            _urls(file, mirrors), root / SAMPLE_WEIGHTS_FILE, sha256=file.sha256, progress=progress, backoff=backoff
        )
    except DataError as error:
        warnings.warn(
            f"{error}\nWithout it, training on {root.name} draws its images evenly, and the result says so.",
            VfmIsbenchWarning,
            stacklevel=3,
        )


def _urls(file: RemoteFile, mirrors: Sequence[str]) -> list[str]:
    return [*(f"{mirror.rstrip('/')}/{file.file_name}" for mirror in mirrors), *file.urls]
