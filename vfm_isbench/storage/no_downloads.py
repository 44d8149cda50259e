"""A ``with`` block in which nothing is downloaded: whoever would use the network looks only at what is there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_FORBIDDEN: ContextVar[bool] = ContextVar("downloads are forbidden", default=False)


@contextmanager
def no_downloads() -> Iterator[None]:
    """Forbid the downloads of this library inside a ``with`` block; what is missing then raises the usual errors."""
    token = _FORBIDDEN.set(True)
    try:
        yield
    finally:
        _FORBIDDEN.reset(token)


def are_downloads_forbidden() -> bool:
    """Whether the caller is inside :func:`no_downloads`."""
    return _FORBIDDEN.get()
