"""Whether a host answers is found out in seconds, whatever is wrong with the network."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from vfm_isbench.storage import connection
from vfm_isbench.storage.connection import is_out_of_reach


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("urllib.request.getproxies", dict)


@pytest.fixture
def listening() -> Iterator[int]:
    """Port of a server on this machine that accepts connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_server_that_accepts_connections_is_in_reach(listening: int) -> None:
    assert not is_out_of_reach(f"http://127.0.0.1:{listening}/any/file")


def test_a_port_where_nothing_listens_is_out_of_reach(listening: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert is_out_of_reach(f"https://127.0.0.1:{port}/any/file")


def test_an_unknown_host_is_out_of_reach() -> None:
    assert is_out_of_reach("https://no-such-host.invalid/file")


def test_a_lookup_that_hangs_does_not_hold_anything_up(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(connection, "_SECONDS_PER_HOST", 0.2)

    def hang(*_args: object, **_options: object) -> None:
        over.wait(60)
        raise TimeoutError

    monkeypatch.setattr("socket.create_connection", hang)
    start = time.monotonic()
    assert is_out_of_reach("https://example.org/file")
    assert time.monotonic() - start < 10
    over.set()


def test_files_and_proxies_are_left_to_whoever_opens_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_out_of_reach("file:///some/where")
    monkeypatch.setattr("urllib.request.getproxies", lambda: {"https": "http://proxy"})
    assert not is_out_of_reach("https://no-such-host.invalid/file")
