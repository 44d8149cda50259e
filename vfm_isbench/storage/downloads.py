"""Downloads a file over HTTP: mirrors, resuming, checksums, and never a half-written file under its final name."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from vfm_isbench.errors import DataError
from vfm_isbench.storage.connection import (
    BrokenConnection,
    FileChanged,
    GaveUp,
    Unreachable,
    read_chunk,
    version_and_start,
)
from vfm_isbench.storage.hashing import hash_file
from vfm_isbench.storage.locks import waiting_for
from vfm_isbench.storage.no_downloads import are_downloads_forbidden
from vfm_isbench.storage.partial_download import PartialDownload, Version, partial_files
from vfm_isbench.storage.web_pages import open_file

TIMEOUT = 30.0
"""Seconds without a byte after which a connection counts as broken."""
BACKOFF = (1.0, 3.0, 9.0)
"""Seconds to wait before each retry of the same URL; attempts that gain bytes do not count."""


class DownloadFailed(DataError):
    """No URL supplied the file.

    Attributes:
        reasons: Why not, one text for each URL.
        received: Bytes received so far, which are kept for the next attempt.
    """

    reasons: tuple[str, ...] = ()
    received: int = 0


@dataclass(frozen=True, slots=True)
class _Expected:
    sha256: str | None
    md5: str | None
    size: int | None


@dataclass(frozen=True, slots=True)
class _Options:
    progress: bool
    timeout: float
    backoff: Sequence[float]


def download(
    urls: Sequence[str],
    path: Path,
    *,
    sha256: str | None = None,
    md5: str | None = None,
    size: int | None = None,
    progress: bool = True,
    timeout: float = TIMEOUT,
    backoff: Sequence[float] = BACKOFF,
) -> Path:
    """Download a file from the first URL that has it, resuming an earlier attempt if possible.

    Bytes are collected in ``NAME.partial`` beside the target, and ``NAME.partial.json`` records which version of which
    URL they belong to; if the file has changed since, the download starts over. With a checksum, one URL can continue
    what another began; without, every URL has a partial file of its own. The target appears only when it is complete
    and has passed its checks. A process that wants the same target waits, and then finds the file.

    Args:
        urls: ``http``, ``https`` or ``file`` URLs of the same file, tried in order.
        path: Where the file goes; missing folders are created. If a file exists there and passes the checks, it is kept
            and the network is not used.
        sha256: Expected SHA-256, hexadecimal; None skips this check.
        md5: Expected MD5, hexadecimal, for files published with nothing better; None skips this check.
        size: Expected size in bytes; None skips this check.
        progress: Whether to show a progress bar on stderr.
        timeout: Seconds without a byte after which a connection counts as broken.
        backoff: Seconds to wait before each retry after a broken connection.

    Returns:
        ``path``.

    Raises:
        DownloadFailed: if no URL supplied the right bytes; the message says why for each URL.
        DataError: if another file exists at ``path``, the disk is full or not writable, or downloads are forbidden.
    """
    path = Path(path)
    expected, options = _Expected(sha256, md5, size), _Options(progress, timeout, backoff)
    failures: list[str] = []
    try:
        if _is_there(path, expected):
            return path
        if are_downloads_forbidden():
            raise DataError(f"{path.name} is not at {path}, and downloads are forbidden here")
        path.parent.mkdir(parents=True, exist_ok=True)
        with waiting_for(path.with_name(f"{path.name}.lock"), f"downloading {path.name}"):
            if _is_there(path, expected):  # by now
                return path
            if any(_download_from(url, path, expected, options, failures) for url in urls):
                return path
    except OSError as error:  # network errors have become GaveUp
        raise DataError(
            f"{path}: cannot be written ({error}). Make room or choose another folder; the bytes received so far are "
            "kept, and the next attempt continues from there."
        ) from error
    received = sum(file.stat().st_size for file in partial_files(path))
    kept = f" The {received} bytes received so far are kept for the next attempt." if received else ""
    failed = DownloadFailed(
        "\n  ".join([f"{path.name} could not be downloaded. Tried:", *(failures or ["no URL at all"])])
        + f"\nGive another mirror, or put the file at {path} yourself.{kept}"
    )
    failed.reasons, failed.received = tuple(failures), received
    raise failed


def _is_there(path: Path, expected: _Expected) -> bool:
    """Whether the file exists.

    Raises:
        DataError: if it is another file.
    """
    if not path.exists():
        return False
    if mismatch := _mismatch(path, expected):
        raise DataError(f"{path} exists, but is not the expected file: {mismatch}. Move it away and try again.")
    return True


def _download_from(url: str, path: Path, expected: _Expected, options: _Options, failures: list[str]) -> bool:
    """Download and check the file from one URL; False if that fails, with the reason added to ``failures``."""
    partial = PartialDownload(path, url if expected.sha256 is None and expected.md5 is None else None)
    for _ in range(2):  # a second time if the bytes were joined from parts that did not belong together
        try:
            is_joined = _fetch(url, partial, expected.size, options)
        except GaveUp as error:
            failures.append(f"{url}: {error}")
            return False
        mismatch = _mismatch(partial.path, expected)
        if not mismatch:
            partial.finish(path)
            return True
        partial.remove()
        failures.append(f"{url}: wrong bytes, {mismatch}")
        if not is_joined:
            break
    return False


def _mismatch(path: Path, expected: _Expected) -> str:
    """How a file differs from the expected one, in words; empty if it does not."""
    if expected.size is not None and path.stat().st_size != expected.size:
        return f"expected {expected.size} bytes, got {path.stat().st_size}"
    for algorithm, wanted in (("sha256", expected.sha256), ("md5", expected.md5)):
        if wanted is not None:
            got = hash_file(path, algorithm)
            if got != wanted.lower():
                return f"expected {algorithm} {wanted.lower()}, got {got}"
    return ""


def _fetch(url: str, partial: PartialDownload, size: int | None, options: _Options) -> bool:
    """Complete the partial file from one URL, retrying when the connection breaks.

    Returns:
        Whether the file was joined from parts, some of them perhaps from an earlier call.
    """
    if not url.startswith(("http:", "https:", "file:")):
        raise GaveUp("expected a URL that begins with http:, https: or file:")
    before = partial.length
    longest, waits, is_joined = 0, iter(options.backoff), before > 0
    while True:
        try:
            _fetch_once(url, partial, size, options)
            return is_joined
        except FileChanged as error:
            known = partial.version()
            if known is not None and known.url != url:
                raise GaveUp(
                    f"cannot continue where {known.url} stopped, after {partial.length} of {known.total} bytes; to "
                    f"start over, delete {partial.path}"
                ) from error
            partial.remove()
            is_joined = False
        except BrokenConnection as error:
            if isinstance(error, Unreachable) and partial.length == before:
                raise GaveUp(str(error)) from error
            is_joined = partial.length > 0
            if partial.length > longest:
                longest, waits = partial.length, iter(options.backoff)
            wait = next(waits, None)
            if wait is None:
                raise GaveUp(f"{error} (gave up after {len(options.backoff) + 1} attempts)") from error
            time.sleep(wait)


def _fetch_once(url: str, partial: PartialDownload, size: int | None, options: _Options) -> None:
    """Request the missing bytes once, and append them to the partial file."""
    known = partial.resumable_version(url)
    have = 0 if known is None else partial.length
    if known is not None and have == known.total:
        return
    validator = known.validator if known is not None and known.url == url else None
    with open_file(url, have, validator, options.timeout) as response:
        version, start = version_and_start(url, response)
        _check_response(version, start, known, have)
        if size is not None and version.total not in (None, size):
            raise GaveUp(f"has {version.total} bytes, expected {size}")
        if start == 0:
            partial.start(version)
        _append(response, partial, start, version.total, options.progress)
    if version.total is not None and partial.length != version.total:
        raise BrokenConnection(f"broke off after {partial.length} of {version.total} bytes")


def _check_response(version: Version, start: int, known: Version | None, have: int) -> None:
    """Raise an error if a response that begins at byte ``start`` does not continue the ``have`` bytes of ``known``."""
    if have == 0 < start:
        raise GaveUp(f"sends bytes from {start} onwards, although the whole file was requested")
    if start not in (0, have):
        raise FileChanged
    if known is not None:
        is_same_url = known.url == version.url
        is_other = version.total != known.total or (is_same_url and version.validator != known.validator)
        # A part, from a server that honours Range but not If-Range; or another file on another server.
        if is_other and (start > 0 or not is_same_url):
            raise FileChanged


def _append(response: Any, partial: PartialDownload, start: int, total: int | None, progress: bool) -> None:
    units: dict[str, Any] = {"unit": "B", "unit_scale": True, "unit_divisor": 1024}
    bar = tqdm(desc=partial.name, total=total, initial=start, disable=not progress, **units)
    with partial.path.open("ab") as file, bar:  # not atomic: moved into place when it is complete
        while chunk := read_chunk(response):
            file.write(chunk)
            bar.update(len(chunk))
