"""Downloads against a local server that breaks off, lies, forgets and changes its files."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from archive_server import Answer

from vfm_isbench.errors import DataError
from vfm_isbench.storage import connection, downloads
from vfm_isbench.storage.downloads import download
from vfm_isbench.storage.partial_download import partial_files

CONTENT = np.random.default_rng(0).bytes(300_000)
OTHER = np.random.default_rng(1).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NO_WAIT = (0.0, 0.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "file.zip"


def fetch(urls: str | list[str], path: Path, **options: object) -> Path:
    urls = [urls] if isinstance(urls, str) else urls
    return download(urls, path, **{"progress": False, "backoff": NO_WAIT, **options})  # type: ignore[arg-type]


def test_a_file_arrives_checked_and_alone(server, path):
    url = server.serve("/a", Answer(content=CONTENT))
    md5 = hashlib.md5(CONTENT).hexdigest()
    assert fetch(url, path, sha256=SHA256.upper(), md5=md5, size=len(CONTENT)) == path
    assert path.read_bytes() == CONTENT
    assert [entry.name for entry in path.parent.iterdir()] == ["file.zip"]
    assert server.requests[0][1]["User-Agent"].startswith("vfm-isbench")


def test_an_existing_file_needs_no_network(server, path):
    url = server.serve("/a", Answer(content=CONTENT))
    fetch(url, path)
    assert fetch(url, path, sha256=SHA256) == path
    assert fetch(url, path) == path
    assert len(server.requests) == 1


def test_a_different_file_in_its_place_is_not_replaced(server, path):
    path.parent.mkdir()
    path.write_bytes(OTHER)
    with pytest.raises(DataError, match=f"(?s)file.zip exists, but.*{SHA256}.*{hashlib.sha256(OTHER).hexdigest()}"):
        fetch(server.serve("/a", Answer(content=CONTENT)), path, sha256=SHA256)
    assert path.read_bytes() == OTHER
    assert server.requests == []


@pytest.mark.parametrize("validator", [{}, {"etag": None, "last_modified": "Mon, 02 Nov 2020 10:00:00 GMT"}])
def test_a_broken_download_resumes_where_it_broke(server, path, validator):
    url = server.serve("/a", Answer(content=CONTENT, cut=60_000, **validator))
    fetch(url, path, sha256=SHA256)
    assert path.read_bytes() == CONTENT
    # Attempts that gain bytes do not use up the two that are allowed.
    assert server.ranges == [None, "bytes=60000-", "bytes=120000-", "bytes=180000-", "bytes=240000-"]
    assert server.sent == len(CONTENT)


def test_a_later_call_continues_where_an_earlier_one_gave_up(server, path):
    url = server.serve("/a", Answer(content=CONTENT, cut=123_456), Answer(status=503))
    with pytest.raises(DataError, match=r"503.*3 attempts.*\n.*123456 bytes.*kept"):
        fetch(url, path)
    assert not path.exists()
    assert len(server.requests) == 3
    server.serve("/a", Answer(content=CONTENT))
    assert fetch(url, path).read_bytes() == CONTENT
    assert server.ranges[-1] == "bytes=123456-"
    assert server.requests[-1][1]["If-Range"] == '"1"'
    assert server.sent == len(CONTENT)


def test_nothing_more_is_requested_once_the_last_byte_has_arrived(server, path, monkeypatch):
    url = server.serve("/a", Answer(content=CONTENT))
    with monkeypatch.context() as patch:
        patch.setattr(downloads, "_mismatch", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            fetch(url, path)
    assert fetch(url, path).read_bytes() == CONTENT
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "second",
    [
        Answer(content=CONTENT, etag='"2"'),
        Answer(content=CONTENT, etag='"2"', heeds_if_range=False),
        Answer(content=CONTENT[:50_000], etag='"2"', heeds_if_range=False),
        Answer(content=CONTENT, heeds_range=False),
        Answer(content=CONTENT, etag=None),
    ],
    ids=["changed", "changed, If-Range ignored", "now shorter, If-Range ignored", "Range ignored", "no validator"],
)
def test_parts_of_different_versions_are_never_glued(server, path, second):
    url = server.serve("/a", Answer(content=OTHER, cut=100_000), second)
    fetch(url, path)
    assert path.read_bytes() == second.content


@pytest.mark.parametrize("etag", [None, 'W/"1"'])
def test_without_a_strong_validator_the_same_length_is_enough_to_continue(server, path, etag):
    url = server.serve("/a", Answer(content=CONTENT, etag=etag, cut=60_000))
    fetch(url, path, sha256=SHA256)
    assert server.ranges == [None, "bytes=60000-", "bytes=120000-", "bytes=180000-", "bytes=240000-"]
    assert "If-Range" not in server.requests[-1][1]
    assert server.sent == len(CONTENT)


def test_without_a_strong_validator_another_length_starts_over(server, path):
    first = Answer(content=OTHER, etag=None, cut=100_000)
    url = server.serve("/a", first, Answer(content=CONTENT[:250_000], etag=None))
    fetch(url, path)
    assert path.read_bytes() == CONTENT[:250_000]


def test_parts_whose_joined_checksum_is_wrong_are_fetched_once_more_from_the_start(server, path):
    first = Answer(content=OTHER, etag=None, cut=100_000)
    url = server.serve("/a", first, Answer(content=CONTENT, etag=None))
    fetch(url, path, sha256=SHA256)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=100000-", None]
    path.unlink()
    server.serve("/a", first, Answer(content=OTHER, etag=None))
    with pytest.raises(DataError, match="(?s)wrong bytes.*wrong bytes"):
        fetch(url, path, sha256=SHA256)
    assert server.ranges[3:] == [None, "bytes=100000-", None]


def test_without_a_checksum_a_part_from_one_mirror_is_kept_but_not_continued_from_another(server, path):
    first = server.serve("/a", Answer(content=CONTENT, cut=100_000), Answer(status=503))
    second = server.serve("/b", Answer(content=CONTENT, cut=1_000), Answer(status=503))
    for _ in range(2):
        with pytest.raises(DataError, match="101000 bytes received so far are kept"):
            fetch([first, second], path)
    assert {headers.get("Range") for place, headers in server.requests if place == "/b"} == {None, "bytes=1000-"}
    server.serve("/a", Answer(content=CONTENT))
    fetch([second, first], path)
    assert path.read_bytes() == CONTENT
    assert server.ranges[-1] == "bytes=100000-"
    assert server.sent == len(CONTENT) + 1_000
    assert [entry.name for entry in path.parent.iterdir()] == ["file.zip"]


@pytest.mark.parametrize("same_call", [True, False])
def test_with_a_checksum_another_mirror_continues_where_the_first_stopped(server, path, same_call):
    first = server.serve("/a", Answer(content=CONTENT, cut=100_000), Answer(status=503))
    second = server.serve("/b", Answer(content=CONTENT, etag='"other"'))
    if not same_call:
        with pytest.raises(DataError):
            fetch(first, path, sha256=SHA256)
    fetch([first, second], path, sha256=SHA256)
    assert path.read_bytes() == CONTENT
    assert server.requests[-1][0] == "/b"
    assert server.sent == len(CONTENT)


@pytest.mark.parametrize("page", [b"<html>Sign in</html>", b"<html>" + b" " * 200_000])
def test_a_mirror_with_another_file_does_not_discard_the_received_bytes(server, path, page):
    first = server.serve("/a", Answer(content=CONTENT, cut=100_000), Answer(status=503))
    page_url = server.serve("/page", Answer(content=page, heeds_range=len(page) > 100))
    refused = r"/page: (asks to sign in|cannot continue where .*/a stopped, after 100000 of 300000 bytes)"
    with pytest.raises(DataError, match=refused):
        fetch([first, page_url], path, sha256=SHA256)
    server.serve("/a", Answer(content=CONTENT))
    fetch([page_url, first], path, sha256=SHA256)
    assert server.ranges[-1] == "bytes=100000-"


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/a", "http://no-such-host.invalid/a"])
def test_an_unreachable_host_is_reported_without_waiting(path, monkeypatch, url):
    def waits(seconds):
        raise AssertionError("waited to try again")

    monkeypatch.setattr(downloads.time, "sleep", waits)
    with pytest.raises(DataError, match="could not be downloaded"):
        fetch(url, path, backoff=(5.0,))


def test_a_server_that_disappears_midway_is_retried(server, path, monkeypatch):
    url = server.serve("/a", Answer(content=CONTENT, cut=100_000), Answer(content=CONTENT))
    really_open = connection.urllib.request.urlopen

    def refuse(*_, **__):
        raise URLError(ConnectionRefusedError())

    answers = iter([really_open, refuse])
    monkeypatch.setattr(
        connection.urllib.request, "urlopen", lambda *args, **options: next(answers, really_open)(*args, **options)
    )
    fetch(url, path, sha256=SHA256)
    assert server.ranges == [None, "bytes=100000-"]


@pytest.mark.parametrize("check", ["sha256", "md5"])
def test_wrong_bytes_are_dropped_and_the_next_mirror_tried(server, path, check):
    expected = hashlib.new(check, CONTENT).hexdigest()
    wrong = server.serve("/wrong", Answer(content=OTHER))
    with pytest.raises(DataError) as caught:
        fetch(wrong, path, **{check: expected})
    assert expected in str(caught.value)
    assert hashlib.new(check, OTHER).hexdigest() in str(caught.value)
    assert list(path.parent.iterdir()) == []
    fetch([wrong, server.serve("/right", Answer(content=CONTENT))], path, **{check: expected})
    assert path.read_bytes() == CONTENT


def test_a_wrong_size_is_noticed_before_the_bytes_are_fetched(server, path):
    with pytest.raises(DataError, match=r"has 300000 bytes, expected 12"):
        fetch(server.serve("/a", Answer(content=CONTENT)), path, size=12)
    assert list(path.parent.iterdir()) == []


def test_the_error_says_why_each_url_failed_and_what_to_do(server, path):
    gone = server.serve("/gone", Answer(status=410))
    with pytest.raises(DataError) as caught:
        fetch(
            [server.url + "/none", gone, "gopher://old/file", "http://127.0.0.1:1/", "http://[bad", "http://a b/"], path
        )
    message = str(caught.value)
    for part in (
        "/none: HTTP 404",
        "/gone: HTTP 410",
        "gopher://old/file: expected a URL that begins",
        "127.0.0.1:1/: ",
        "[bad: not a usable",
        "a b/: not a usable",
    ):
        assert part in message
    assert f"put the file at {path} yourself" in message
    # A missing file is not requested again.
    assert [request for request, _ in server.requests] == ["/none", "/gone"]


def test_temporary_errors_are_retried_after_the_waits(server, path, monkeypatch):
    waits = []
    monkeypatch.setattr(downloads.time, "sleep", waits.append)
    url = server.serve("/a", Answer(status=503), Answer(status=429), Answer(content=CONTENT))
    fetch(url, path, backoff=(1.5, 7.0))
    assert waits == [1.5, 7.0]


def test_no_url_at_all(path):
    with pytest.raises(DataError, match="no URL at all"):
        fetch([], path)


def test_file_urls(tmp_path, path):
    source = tmp_path / "local file.zip"
    source.write_bytes(CONTENT)
    with pytest.raises(DataError, match="No such file"):
        fetch((tmp_path / "none").as_uri(), path)
    assert fetch(source.as_uri(), path, sha256=SHA256).read_bytes() == CONTENT


def test_a_folder_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="cannot be written"):
        fetch(server.serve("/a", Answer(content=CONTENT)), tmp_path / "file" / "a.zip")


def test_a_full_disk_is_reported_immediately_and_keeps_the_received_bytes(server, path):
    resource = pytest.importorskip("resource")
    url = server.serve("/a", Answer(content=CONTENT))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(DataError, match=r"cannot be written.*File too large.*continues from there"):
            fetch(url, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(server.requests) == 1
    fetch(url, path)
    assert server.ranges[-1] == "bytes=100000-"
    assert path.read_bytes() == CONTENT


def test_the_progress_bar_counts_bytes_on_stderr(server, path, capsys):
    fetch(server.serve("/a", Answer(content=CONTENT)), path, progress=True)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "file.zip: 100%" in printed.err
    assert "293k" in printed.err


FETCH = """
import os, sys, time
from pathlib import Path
from vfm_isbench.storage import locks
from vfm_isbench.storage.downloads import download
url, path, sha256, *together = sys.argv[1:]
if together:
    locks.PATIENCE = 0.5
    ready, processes = Path(together[0]), int(together[1])
    (ready / str(os.getpid())).touch()
    while len(os.listdir(ready)) < processes:  # none may be done before another has started
        time.sleep(0.01)
download([url], Path(path), sha256=sha256 or None, progress=False, backoff=(0.0,))
"""


@pytest.mark.parametrize("processes", [2, 6])
@pytest.mark.parametrize("sha256", [SHA256, ""])
def test_processes_that_want_the_same_file_fetch_it_once(processes, sha256, server, path, python, tmp_path):
    url = server.serve("/a", Answer(content=CONTENT, pause=2.0))
    ready = tmp_path / "ready"
    ready.mkdir()
    command = [*python, "-c", FETCH, url, str(path), sha256, str(ready), str(processes)]
    started = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(processes)]
    said = [process.communicate(timeout=60)[1] for process in started]
    assert [process.returncode for process in started] == [0] * processes, said
    assert path.read_bytes() == CONTENT
    assert server.sent == len(CONTENT) and len(server.requests) == 1
    assert [entry.name for entry in path.parent.iterdir()] == ["file.zip"]
    waited = [text for text in said if text]
    assert waited, "whoever waits says so"
    for text in waited:
        assert re.match(r"waiting for process \d+ on \S+ \(for \d+ s, since .*\), which is downloading file.zip", text)
        assert "If it hangs, end it" in text


def test_a_killed_download_is_continued_by_the_process_that_waits(server, path, python):
    url = server.serve("/a", Answer(content=CONTENT, pause=20.0), Answer(content=CONTENT))
    first = subprocess.Popen([*python, "-c", FETCH, url, str(path), SHA256])
    lock = path.with_name("file.zip.lock")
    while not (lock.exists() and lock.read_text() and partial_files(path) and partial_files(path)[0].stat().st_size):
        assert first.poll() is None, "it ended before it had fetched anything"
        time.sleep(0.01)
    second = subprocess.Popen([*python, "-c", FETCH, url, str(path), SHA256])
    time.sleep(0.3)
    os.kill(json.loads(lock.read_text())["pid"], signal.SIGKILL)
    assert first.wait(60) != 0 and second.wait(60) == 0
    assert path.read_bytes() == CONTENT
    assert server.ranges[-1] is not None, "it continued"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.zip"]
