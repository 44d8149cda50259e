"""Downloads, unpacks and verifies a data set, and moves it into place as a whole."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vfm_isbench.datasets.catalogue import SAMPLE_WEIGHTS_FILE
from vfm_isbench.datasets.download.by_hand import take_from_folder
from vfm_isbench.datasets.download.install import install_archives
from vfm_isbench.datasets.download.manifest import (
    STATE_FOLDER,
    Manifest,
    archive_path,
    manifest_path,
    read_manifest,
)
from vfm_isbench.datasets.download.sources import DatasetSource, RemoteFile, source_of
from vfm_isbench.datasets.download.unpack import is_archive
from vfm_isbench.datasets.download.verify import VerifyReport, verify_dataset
from vfm_isbench.errors import DataError, VfmIsbenchWarning
from vfm_isbench.storage.downloads import BACKOFF, DownloadFailed, download
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
        if self.manifest is not None and self.manifest.sha256 is not None:
            lines.append(f"  archive: {self.manifest.size} bytes, sha256 {self.manifest.sha256}, {self.manifest.date}")
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Options:
    """How to download; see :func:`download_dataset`."""

    mirrors: Sequence[str]
    keep_archive: bool
    progress: bool
    backoff: Sequence[float]
    sha256: str | None
    from_folder: Path | None

    def fetch(self, urls: Sequence[str], path: Path, sha256: str | None, md5: str | None) -> None:
        download(urls, path, sha256=sha256, md5=md5, progress=self.progress, backoff=self.backoff)

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
    sha256: str | None = None,
    from_folder: Path | None = None,
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
        sha256: SHA-256 that the archive must have; it takes the place of a published checksum.
        from_folder: A folder with the archive or the unpacked files, fetched by hand; the network is not used then.

    Raises:
        UnknownNameError: if no data set has this name.
        DataError: if it could not be downloaded or is not the published data set, if its folder exists but is not
            complete (and stays unchanged), or if the data root cannot be written.

    Warns:
        VfmIsbenchWarning: if the scores of SBD's training images cannot be downloaded: training then draws evenly.
    """
    options = _Options(
        mirrors=mirrors,
        keep_archive=keep_archive,
        progress=progress,
        backoff=backoff,
        sha256=sha256,
        from_folder=None if from_folder is None else Path(from_folder),
    )
    source = source_of(name)
    data_root = Path(data_root)
    try:
        report = _find(source, data_root)
        if report is None:
            state = data_root / STATE_FOLDER
            state.mkdir(parents=True, exist_ok=True)
            with waiting_for(state / f"{source.archive.file_name}.lock", f"downloading and unpacking {name}"):
                report = _find(source, data_root) or _install(source, data_root, options)  # may be there by now
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


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One way to get the archive: addresses of the same bytes, and what these must be."""

    urls: Sequence[str]
    sha256: str | None = None
    md5: str | None = None

    @property
    def is_hashed(self) -> bool:
        return self.sha256 is not None or self.md5 is not None


def _install(source: DatasetSource, data_root: Path, options: _Options) -> DownloadReport:
    if options.from_folder is None:
        return _download(source, data_root, options)
    manifest, verified = take_from_folder(
        source, options.from_folder, data_root, sha256=options.sha256, progress=options.progress
    )
    return DownloadReport(verified=verified, was_there=False, manifest=manifest)


def _download(source: DatasetSource, data_root: Path, options: _Options) -> DownloadReport:
    archive = archive_path(source, data_root)
    earlier = read_manifest(source.name, data_root)
    recorded = earlier.sha256 if earlier is not None else None
    failures: list[str] = []
    received = 0
    for attempt in _attempts(source, options, recorded, has_archive=archive.exists()):
        was_there = archive.exists()
        try:
            options.fetch(attempt.urls, archive, attempt.sha256, attempt.md5)
            if not was_there and not is_archive(archive):
                archive.unlink()
                raise DataError(f"{', '.join(attempt.urls)}: not a zip or tar archive")
        except DownloadFailed as error:
            failures += error.reasons or [f"{archive.name}: no address is known"]
            received = error.received
            continue
        except DataError as error:
            failures.append(str(error))
            continue
        try:
            manifest, verified = install_archives(
                source, [archive], data_root, urls=_all_urls(source, options), progress=options.progress
            )
        except DataError as error:
            failures.append(f"{', '.join(attempt.urls) or archive}: {_set_aside(error, source, archive, attempt)}")
            continue
        if not options.keep_archive:
            archive.unlink()
        return DownloadReport(verified=verified, was_there=False, manifest=manifest)
    raise DataError(_failure(source, data_root, failures, recorded, received))


def _attempts(source: DatasetSource, options: _Options, recorded: str | None, *, has_archive: bool) -> list[_Attempt]:
    file = source.archive
    urls = options.urls(file)
    published = options.sha256 or file.sha256
    md5 = None if options.sha256 else file.md5
    # What was installed may have been a copy with other bytes, so a published hash overrules it.
    sha256 = published or (recorded if md5 is None else None)
    if sha256 is not None or md5 is not None:
        copies = [] if published is not None else [_Attempt([url], sha256) for url in file.copies]
        return [_Attempt(urls, sha256, md5), *copies]
    # Only the content can show whether an archive is right: try an existing archive, then one address at a time.
    is_enough = has_archive and not source.more_archives
    return [_Attempt([])] * is_enough + [_Attempt([url]) for url in (*urls, *file.copies)]


def _all_urls(source: DatasetSource, options: _Options) -> list[str]:
    return [*options.urls(source.archive), *source.archive.copies]


def _set_aside(error: DataError, source: DatasetSource, archive: Path, attempt: _Attempt) -> str:
    """What to report of an archive with other contents; without a checksum it is renamed, so that it is not reused."""
    if not attempt.is_hashed:
        archive = archive.replace(archive.with_name(archive.name + ".rejected"))  # not atomic: only its name changes
    return f"{error}\nThe archive is kept as {archive}."


def _failure(
    source: DatasetSource, data_root: Path, failures: Sequence[str], recorded: str | None, received: int
) -> str:
    archive, command = source.archive.file_name, f"vfm-isbench data download {source.name}"
    names = " and ".join(source.archive_names)
    tried = failures or ["no address is known, because its archives have to be fetched by hand"]
    lines = [f"{names} could not be downloaded. Tried:", *(f"  {reason}" for reason in tried)]
    if source.archive.sha256 is None and recorded is not None:
        lines.append(
            "The expected sha256 comes from an earlier download. If the data set was published again since, delete "
            f"{manifest_path(source.name, data_root)}."
        )
    lines.append("What else you can do:")
    if len(source.archive_names) == 1:
        lines.append(f"  name a copy of {archive} on a server or a disk: {command} --mirror URL")
    where = f" from {source.page}" if source.page else ""
    lines.append(f"  fetch {names} by hand{where}, and give its folder: {command} --from-folder DIR")
    if len(source.archive_names) == 1:
        lines.append(f"  or put the archive at {archive_path(source, data_root)} and run the same command again.")
    if received:
        lines.append(f"The {received} bytes received so far are kept for the next attempt.")
    return "\n".join(lines)


def _fetch_sample_weights(file: RemoteFile, root: Path, options: _Options) -> None:
    if (root.parent / SAMPLE_WEIGHTS_FILE).is_file():  # training finds it there, too
        return
    try:
        options.fetch(options.urls(file), root / SAMPLE_WEIGHTS_FILE, file.sha256, file.md5)
    except DataError as error:
        warnings.warn(
            f"{error}\nWithout this file, training on {root.name} draws images evenly, and the result says so.",
            VfmIsbenchWarning,
            stacklevel=3,
        )
