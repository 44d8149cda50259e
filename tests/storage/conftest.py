"""Fixtures of the tests of storage."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from archive_server import ArchiveServer


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ArchiveServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ArchiveServer() as server:
        yield server
