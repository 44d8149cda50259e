"""Opens a URL from a given byte onwards, and sorts failures by what a download can do about them."""

from __future__ import annotations

import errno
import http
import http.client
import socket
import threading
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from vfm_isbench.storage.partial_download import Version

USER_AGENT = "vfm-isbench (Python urllib)"
CHUNK = 1 << 16
WORTH_A_RETRY = frozenset({408, 429, 500, 502, 503, 504})
"""HTTP status codes of temporary failures."""

_SECONDS_PER_ADDRESS = 2.0
"""Time for one address of a host to accept a connection; a host may have several."""
_SECONDS_PER_HOST = 6.0
"""Time for a host to be found and to accept a connection at one of its addresses."""
_PORTS = {"http": 80, "https": 443}


class GaveUp(Exception):
    """This URL will not supply the file; the message says why."""


class BrokenConnection(Exception):
    """The connection failed in a way that may be temporary."""


class Unreachable(BrokenConnection):
    """The host is unknown, unreachable or refuses connections: temporary only if it was reachable before."""


class FileChanged(Exception):
    """The bytes received so far belong to another version than the bytes that would follow."""


def is_out_of_reach(url: str) -> bool:
    """Whether nothing answers at the host of a URL, found out within seconds.

    Clients of hubs would retry for most of a minute before they say so. Behind a proxy, which finds hosts itself, the
    answer is always False.
    """
    parts = urlsplit(url)
    if parts.hostname is None or urllib.request.getproxies():
        return False
    address = (parts.hostname, parts.port or _PORTS.get(parts.scheme, _PORTS["https"]))
    answered = threading.Event()

    def connect() -> None:
        try:
            socket.create_connection(address, timeout=_SECONDS_PER_ADDRESS).close()
        except (OSError, ValueError):  # ValueError: no host can have that name
            return
        answered.set()

    # In a thread, because looking up a name has no timeout.
    attempt = threading.Thread(target=connect, daemon=True)
    attempt.start()
    attempt.join(_SECONDS_PER_HOST)
    return not answered.is_set()


def open_url(url: str, first: int, validator: str | None, timeout: float) -> Any:
    """Request a file from byte ``first`` onwards, provided that ``validator`` still describes it.

    Returns:
        The response of :func:`urllib.request.urlopen`.

    Raises:
        GaveUp, BrokenConnection, FileChanged: see there.
    """
    # Uncompressed, because ranges and checksums refer to the file itself.
    headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
    if first > 0:
        headers["Range"] = f"bytes={first}-"
        if validator is not None:
            headers["If-Range"] = validator
    try:
        request = urllib.request.Request(url, headers=headers)
        # Addresses are those of this library, or a mirror that the user names, which may be a folder.
        return urllib.request.urlopen(request, timeout=timeout)  # nosec B310 # see above
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and first > 0:
            raise FileChanged from error
        answer = f"HTTP {error.code} {error.reason}"
        raise (BrokenConnection if error.code in WORTH_A_RETRY else GaveUp)(answer) from error
    except urllib.error.URLError as error:
        if url.startswith("file:"):
            raise GaveUp(str(error.reason)) from error
        raise (Unreachable if _is_unreachable(error.reason) else BrokenConnection)(str(error.reason)) from error
    except (ValueError, http.client.InvalidURL) as error:
        raise GaveUp(f"not a usable URL ({error})") from error
    except (OSError, http.client.HTTPException) as error:
        raise BrokenConnection(f"{type(error).__name__}: {error}") from error


def version_and_start(url: str, response: Any) -> tuple[Version, int]:
    """Version of the file in a response, and the position of its first byte in the file."""
    headers = response.headers
    etag = headers.get("ETag")
    # A weak ETag promises the same meaning, not the same bytes.
    validator = etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")
    if response.status == http.HTTPStatus.PARTIAL_CONTENT:
        try:
            place, total = headers["Content-Range"].removeprefix("bytes ").split("/")
            return Version(url, validator, int(total)), int(place.split("-")[0])
        except (AttributeError, ValueError) as error:
            raise GaveUp(f"sends part of the file without saying which: {headers.get('Content-Range')}") from error
    length = headers.get("Content-Length")
    return Version(url, validator, int(length) if length and length.isdigit() else None), 0


def read_chunk(response: Any) -> bytes:
    """Read the next bytes of a response; empty at its end."""
    try:
        return bytes(response.read(CHUNK))
    except (OSError, http.client.HTTPException) as error:
        raise BrokenConnection(f"broke off: {type(error).__name__}: {error}") from error


def _is_unreachable(reason: object) -> bool:
    no_route = (errno.ENETUNREACH, errno.EHOSTUNREACH)
    return isinstance(reason, (socket.gaierror, ConnectionRefusedError)) or getattr(reason, "errno", None) in no_route
