"""Fetches a file over HTTP: mirrors, resuming, checksums, and never a half-written file under its final name."""

from __future__ import annotations

import errno
import hashlib
import http
import http.client
import json
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vfm_isbench.errors import DataError
from vfm_isbench.storage.hashing import hash_file

USER_AGENT = "vfm-isbench (Python urllib)"
TIMEOUT = 30.0
"""Seconds without a byte after which a connection counts as broken off."""
BACKOFF = (1.0, 3.0, 9.0)
"""Seconds to wait before each new attempt at the same URL; attempts that gain bytes do not count."""
CHUNK = 1 << 16
WORTH_A_RETRY = frozenset({408, 429, 500, 502, 503, 504})
"""HTTP answers that are about the moment, not about the file."""


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
    """Fetch a file from the first of several URLs that has it, or go on where an earlier attempt stopped.

    Bytes are collected in ``NAME.partial`` beside the target, and ``NAME.partial.json`` remembers which version of
    which URL they belong to; a file that changed meanwhile is fetched from its beginning. With a checksum, what one
    URL gave is continued from another; without, every URL has a partial file of its own. The target appears as a whole,
    after its checks.

    Args:
        urls: ``http``, ``https`` or ``file`` URLs of the same file, tried in order.
        path: Where the file goes; folders are made. A file that is there and passes the checks is kept, without any
            use of the network.
        sha256: Expected SHA-256, hexadecimal; None skips that check.
        md5: Expected MD5, hexadecimal, for files published with nothing better; None skips that check.
        size: Expected size in bytes; None skips that check.
        progress: Whether to show a progress bar on stderr.
        timeout: Seconds without a byte after which a connection counts as broken off.
        backoff: Seconds to wait before each new attempt at a connection that broke off.

    Returns:
        ``path``.

    Raises:
        DataError: if no URL gave the right bytes (the message has what each of them said), another file is at
            ``path``, or the disk is full or not writable.
    """
    path = Path(path)
    said = []
    is_checked = sha256 is not None or md5 is not None
    try:
        if path.exists():
            wrong = _what_is_wrong(path, sha256, md5, size)
            if wrong:
                raise DataError(
                    f"{path} is there, but is not the file expected: {wrong}. Move it away, then try again."
                )
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        for url in urls:
            partial = _Partial(path, None if is_checked else url)
            for _ in range(2):  # a second time where parts were joined that did not belong together
                try:
                    is_joined = _fetch(url, partial, size, progress, timeout, backoff)
                except _GaveUp as error:
                    said.append(f"{url}: {error}")
                    break
                wrong = _what_is_wrong(partial.path, sha256, md5, size)
                if not wrong:
                    partial.finish(path)
                    return path
                partial.remove()
                said.append(f"{url}: wrong bytes, {wrong}")
                if not is_joined:
                    break
    except OSError as error:  # those of the network have become _GaveUp
        raise DataError(
            f"{path}: cannot be written ({error}). Make room or choose another folder; what has arrived so far is "
            "kept, and the next attempt goes on from there."
        ) from error
    arrived = sum(file.stat().st_size for file in _partial_files(path))
    kept = f" The {arrived} bytes that have arrived are kept for the next attempt." if arrived else ""
    raise DataError(
        "\n  ".join([f"{path.name} could not be downloaded. Tried:", *(said or ["no URL at all"])])
        + f"\nGive another mirror, or put the file at {path} yourself.{kept}"
    )


class _GaveUp(Exception):
    """This URL will not give the file; the message says why."""


class _BrokenOff(Exception):
    """The connection failed in a way that may pass."""


class _OutOfReach(_BrokenOff):
    """No such host, no way to it, or nobody there: that passes only if there was a connection before."""


class _Changed(Exception):
    """The bytes that have arrived are of another version than those that would follow."""


@dataclass(frozen=True, slots=True)
class _Version:
    """What the bytes of a partial file belong to.

    Attributes:
        url: As asked for, before redirections.
        validator: Strong ETag, or Last-Modified; None where the server told neither.
        total: Length of the whole file in bytes; None where the server did not tell.
    """

    url: str
    validator: str | None
    total: int | None


class _Partial:
    """The bytes that have arrived so far, and beside them which version of the file they are from.

    Args:
        target: Where the complete file goes.
        url: The only URL the bytes may be from; None where a checksum tells whether those of several fit together.
    """

    def __init__(self, target: Path, url: str | None) -> None:
        self.name = target.name
        self.is_shared = url is None
        tag = "" if url is None else f".{hashlib.sha256(url.encode()).hexdigest()[:8]}"
        self.path = target.with_name(f"{target.name}{tag}.partial")
        self._version_path = self.path.with_name(f"{self.path.name}.json")

    @property
    def length(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def version(self) -> _Version | None:
        try:
            return _Version(**json.loads(self._version_path.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def start(self, version: _Version) -> None:
        # In this order: a crash in between must not leave old bytes under a new version.
        self.path.write_bytes(b"")
        self._version_path.write_text(json.dumps(asdict(version)), encoding="utf-8")

    def finish(self, target: Path) -> None:
        self.path.replace(target)
        self._version_path.unlink(missing_ok=True)
        for other in _partial_files(target):
            other.unlink()
            other.with_name(f"{other.name}.json").unlink(missing_ok=True)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self._version_path.unlink(missing_ok=True)


def _partial_files(target: Path) -> list[Path]:
    """What has arrived for a target, from whichever URL."""
    # Either the plain name, or one with eight digits of a URL's hash.
    pattern = re.compile(re.escape(target.name) + r"(\.[0-9a-f]{8})?\.partial")
    return [file for file in target.parent.iterdir() if pattern.fullmatch(file.name)]


def _fetch(
    url: str, partial: _Partial, size: int | None, progress: bool, timeout: float, backoff: Sequence[float]
) -> bool:
    """Complete the partial file from one URL, with new attempts where the connection breaks off.

    Returns:
        Whether the file was joined from parts, some of them perhaps of an earlier call.
    """
    if not url.startswith(("http:", "https:", "file:")):
        raise _GaveUp("expected a URL that begins with http:, https: or file:")
    before = partial.length
    longest, waits, is_joined = 0, iter(backoff), before > 0
    while True:
        try:
            _fetch_once(url, partial, size, progress, timeout)
            return is_joined
        except _Changed as error:
            known = partial.version()
            if known is not None and known.url != url:
                raise _GaveUp(
                    f"does not go on where {known.url} stopped, after {partial.length} of {known.total} bytes; to "
                    f"begin anew, delete {partial.path}"
                ) from error
            partial.remove()
            is_joined = False
        except _BrokenOff as error:
            if isinstance(error, _OutOfReach) and partial.length == before:
                raise _GaveUp(str(error)) from error
            is_joined = partial.length > 0
            if partial.length > longest:
                longest, waits = partial.length, iter(backoff)
            wait = next(waits, None)
            if wait is None:
                raise _GaveUp(f"{error} (given up after {len(backoff) + 1} attempts)") from error
            time.sleep(wait)


def _fetch_once(url: str, partial: _Partial, size: int | None, progress: bool, timeout: float) -> None:
    known = partial.version()
    is_same = known is not None and known.url == url
    # Without a validator of this URL's, the length is what tells that the rest fits; and a checksum, if there is one.
    validator = known.validator if known is not None and is_same else None
    fits = known is not None and (known.total is not None or validator is not None) and (is_same or partial.is_shared)
    have = partial.length if fits else 0
    if known is not None and have > 0 and have == known.total:
        return
    with _open(url, have, validator, timeout) as response:
        version, start = _version_and_start(url, response)
        if have == 0 < start:
            raise _GaveUp(f"answers with the bytes from {start} on, though the whole file was asked for")
        if start not in (0, have):
            raise _Changed
        if known is not None and have > 0:
            is_other = version.total != known.total or (is_same and version.validator != known.validator)
            # A part, from a server that honours Range, but not If-Range; or something else on another server.
            if is_other and (start > 0 or not is_same):
                raise _Changed
        if size is not None and version.total not in (None, size):
            raise _GaveUp(f"has {version.total} bytes, expected {size}")
        if start == 0:
            partial.start(version)
        bar = tqdm(
            desc=partial.name,
            total=version.total,
            initial=start,
            unit="B",
            unit_scale=True,
            unit_divisor=1024,
            disable=not progress,
        )
        with partial.path.open("ab") as file, bar:
            while chunk := _read(response):
                file.write(chunk)
                bar.update(len(chunk))
    if version.total is not None and partial.length != version.total:
        raise _BrokenOff(f"broke off after {partial.length} of {version.total} bytes")


def _open(url: str, have: int, validator: str | None, timeout: float) -> Any:
    # Not compressed on the way: ranges and checksums are about the file itself.
    headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
    if have > 0:
        headers["Range"] = f"bytes={have}-"
        if validator is not None:
            headers["If-Range"] = validator
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have > 0:
            raise _Changed from error
        answer = f"HTTP {error.code} {error.reason}"
        raise (_BrokenOff if error.code in WORTH_A_RETRY else _GaveUp)(answer) from error
    except urllib.error.URLError as error:
        if url.startswith("file:"):
            raise _GaveUp(str(error.reason)) from error
        raise (_OutOfReach if _is_out_of_reach(error.reason) else _BrokenOff)(str(error.reason)) from error
    except (ValueError, http.client.InvalidURL) as error:
        raise _GaveUp(f"no usable URL ({error})") from error
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenOff(f"{type(error).__name__}: {error}") from error


def _is_out_of_reach(reason: object) -> bool:
    no_way = (errno.ENETUNREACH, errno.EHOSTUNREACH)
    return isinstance(reason, (socket.gaierror, ConnectionRefusedError)) or getattr(reason, "errno", None) in no_way


def _version_and_start(url: str, response: Any) -> tuple[_Version, int]:
    """Which version of the file an answer belongs to, and at which byte it begins."""
    headers = response.headers
    etag = headers.get("ETag")
    # A weak ETag promises the same meaning, not the same bytes.
    validator = etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")
    if response.status == http.HTTPStatus.PARTIAL_CONTENT:
        try:
            place, total = headers["Content-Range"].removeprefix("bytes ").split("/")
            return _Version(url, validator, int(total)), int(place.split("-")[0])
        except (AttributeError, ValueError) as error:
            raise _GaveUp(f"answers with a part of the file, but not which: {headers.get('Content-Range')}") from error
    length = headers.get("Content-Length")
    return _Version(url, validator, int(length) if length and length.isdigit() else None), 0


def _read(response: Any) -> bytes:
    try:
        chunk: bytes = response.read(CHUNK)
        return chunk
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenOff(f"broke off: {type(error).__name__}: {error}") from error


def _what_is_wrong(path: Path, sha256: str | None, md5: str | None, size: int | None) -> str:
    """What differs from the expected bytes, in words; empty where nothing does."""
    if size is not None and path.stat().st_size != size:
        return f"expected {size} bytes, got {path.stat().st_size}"
    for algorithm, expected in (("sha256", sha256), ("md5", md5)):
        if expected is not None:
            got = hash_file(path, algorithm)
            if got != expected.lower():
                return f"expected {algorithm} {expected.lower()}, got {got}"
    return ""
