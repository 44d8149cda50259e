"""Downloads, unpacks and verifies a data set, and moves it into place as a whole."""

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
from vfm_isbench.storage.locks import waiting_for


@dataclass(frozen=True, kw_only=True, slots=True)
class DownloadReport:
    """The result of a download.

    Attributes:
        verified: Check of the data set as it is now.
        was_there: Whether the complete data set existed before.
        manifest: Record of the download; None if this library did not download the data set.
    """

    verified: VerifyReport
    was_there: bool
    manifest: Manifest | None

    def __str__(self) -> str:
        lines = [str(self.verified)]
        if self.was_there:
            lines.append("  already there, nothing downloaded")
        if self.manifest is not None:
            lines.append(f"  archive: {self.manifest.size} bytes, sha256 {self.manifest.sha256}, {self.manifest.date}")
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Options:
    """How to download; see :func:`download_dataset`."""

    mirrors: Sequence[str]
    keep_archive: bool
    progress: bool
    backoff: Sequence[float]

    def fetch(self, file: RemoteFile, urls: Sequence[str], path: Path, sha256: str | None) -> None:
        download(urls, path, sha256=sha256, md5=file.md5, progress=self.progress, backoff=self.backoff)

    def urls(self, file: RemoteFile) -> list[str]:
        return [*(f"{mirror.rstrip('/')}/{file.file_name}" for mirror in self.mirrors), *file.urls]


def download_dataset(
    name: str,
    data_root: Path,
    *,
    mirrors: Sequence[str] = (),
    keep_archive: bool = False,
    progress: bool = True,
    backoff: Sequence[float] = BACKOFF,
) -> DownloadReport:
    """Download, unpack and verify a data set; if it already exists and is complete, do nothing.

    The folder of the data set appears as a whole, after every file has been opened and counted. Until then, everything
    is in ``DATA_ROOT/.vfm_isbench``; the next call resumes an interrupted download. If you put the archive into
    ``DATA_ROOT/.vfm_isbench/downloads`` yourself, it is used instead of the network. If another process is downloading
    the same data set, this one waits for it.

    Args:
        name: Name of the data set.
        data_root: The folder that will contain the data set's folder; created if missing.
        mirrors: Base URLs, tried in order before the official address; the archive's file name is appended.
        keep_archive: Keep the archive after unpacking it.
        progress: Whether to show progress bars on stderr.
        backoff: Seconds to wait before each retry after a broken connection.

    Raises:
        UnknownNameError: if no data set has this name.
        DataError: if it could not be downloaded or is not the published data set, if its folder exists but is not
            complete (and stays unchanged), or if the data root cannot be written.

    Warns:
        VfmIsbenchWarning: if the scores of SBD's training images cannot be downloaded: training then draws evenly.
    """
    options = _Options(mirrors=mirrors, keep_archive=keep_archive, progress=progress, backoff=backoff)
    source = source_of(name)
    data_root = Path(data_root)
    try:
        report = _find(source, data_root)
        if report is None:
            state = data_root / STATE_FOLDER
            state.mkdir(parents=True, exist_ok=True)
            with waiting_for(state / f"{source.archive.file_name}.lock", f"downloading and unpacking {name}"):
                report = _find(source, data_root) or _download(source, data_root, options)  # may be there by now
    except OSError as error:
        raise DataError(
            f"{data_root}: cannot be written ({error}). Make room or choose another data root; the archive is kept, "
            "and the next attempt continues from there."
        ) from error
    if source.sample_weights is not None:
        _fetch_sample_weights(source.sample_weights, report.verified.root, options)
    return report


def _find(source: DatasetSource, data_root: Path) -> DownloadReport | None:
    """Report on a data set that is already there; None if there is nothing.

    Raises:
        DataError: if there is something else in its place.
    """
    found = verify_dataset(source.name, data_root)
    if found.state in ("incomplete", "unreadable"):
        raise DataError(
            f"{found.root} exists, but is not the complete data set:\n  "
            + "\n  ".join(found.problems)
            + "\nIt stays unchanged. Move or delete it, then run the same command again."
        )
    if not found.is_complete:
        return None
    return DownloadReport(verified=found, was_there=True, manifest=read_manifest(source.name, data_root))


def _download(source: DatasetSource, data_root: Path, options: _Options) -> DownloadReport:
    archive = archive_path(source, data_root)
    urls = options.urls(source.archive)
    earlier = read_manifest(source.name, data_root)
    recorded = earlier.sha256 if earlier is not None else None
    sha256 = source.archive.sha256 or recorded
    is_hashed = sha256 is not None or source.archive.md5 is not None
    attempts = [urls]
    if not is_hashed:
        # Only the content can show whether an archive is right: try an existing archive, then one address at a time.
        attempts = [[]] * archive.exists() + [[url] for url in urls]
    failures = []
    for tried in attempts:
        try:
            options.fetch(source.archive, tried, archive, sha256)
        except DataError as error:
            failures.append(str(error))
            continue
        try:
            manifest, verified = _put_in_place(source, archive, data_root, is_hashed, options)
        except DataError as error:
            failures.append(f"{', '.join(tried) or archive}: {error}")
            continue
        if not options.keep_archive:
            archive.unlink()
        return DownloadReport(verified=verified, was_there=False, manifest=manifest)
    if source.archive.sha256 is None and recorded is not None:
        failures.append(
            "The expected sha256 comes from an earlier download. If the data set was published again since, delete "
            f"{manifest_path(source.name, data_root)}."
        )
    raise DataError("\n".join(failures))


def _put_in_place(
    source: DatasetSource, archive: Path, data_root: Path, is_hashed: bool, options: _Options
) -> tuple[Manifest, VerifyReport]:
    """Unpack an archive beside the target, verify and record its content, and move it into place."""
    with tempfile.TemporaryDirectory(prefix=f"{source.name}-", dir=data_root / STATE_FOLDER) as staging:
        try:
            found, verified = _unpack_and_verify(source, archive, Path(staging) / "content", options.progress)
        except DataError as error:
            if not is_hashed:
                # not atomic: only its name changes
                archive = archive.replace(archive.with_name(archive.name + ".rejected"))
            raise DataError(
                f"{error}\nThe archive is kept as {archive}. Try another mirror; or, to use it as it is, unpack it "
                f"to {data_root / source.folder} yourself."
            ) from error
        manifest = Manifest(
            urls=tuple(options.urls(source.archive)),
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
        found.rename(data_root / source.folder)  # not atomic: a folder; `data verify` finds damaged files
    return manifest, replace(verified, root=data_root / source.folder)


def _unpack_and_verify(
    source: DatasetSource, archive: Path, content: Path, progress: bool
) -> tuple[Path, VerifyReport]:
    unpack(archive, content, progress=progress)
    found = _find_layout(source, content)
    if found is None:
        names = [entry.name + "/" * entry.is_dir() for entry in list_entries(content)]
        wanted = ", ".join([f"{name}/" for name in source.folders] + list(source.files))
        raise DataError(f"{archive}: no folder in it has {wanted}; it contains {some_names(names) or 'nothing'}")
    verified = verify_folder(source, found, deep=True, progress=progress)
    if not verified.is_complete:
        problems = "\n  ".join(problem.replace(f"{content}/", "") for problem in verified.problems)
        raise DataError(f"{archive}: not the published data set:\n  {problems}")
    return found, verified


def _find_layout(source: DatasetSource, content: Path) -> Path | None:
    """The outermost folder with the data set's layout, because archives differ in their outer folders."""
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


def _fetch_sample_weights(file: RemoteFile, root: Path, options: _Options) -> None:
    if (root.parent / SAMPLE_WEIGHTS_FILE).is_file():  # training finds it there, too
        return
    try:
        options.fetch(file, options.urls(file), root / SAMPLE_WEIGHTS_FILE, file.sha256)
    except DataError as error:
        warnings.warn(
            f"{error}\nWithout this file, training on {root.name} draws images evenly, and the result says so.",
            VfmIsbenchWarning,
            stacklevel=3,
        )
