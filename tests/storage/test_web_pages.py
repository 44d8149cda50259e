"""Web pages in place of a file: what Drive asks is answered, the rest is recognised."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from archive_server import Answer
from drive import QUOTA_PAGE, SIGN_IN_PAGE, START_PAGE, confirmation_page, page, serve_on_drive

from vfm_isbench.storage.downloads import DownloadFailed, download
from vfm_isbench.storage.web_pages import confirmed_url

CONTENT = np.random.default_rng(0).bytes(300_000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.zip"


def fetch(path: Path, *urls: str) -> Path:
    return download(urls, path, progress=False, backoff=(0.0,))


def test_the_confirmation_page_is_answered_with_all_its_fields(server, path):
    url = serve_on_drive(server, "1AbC", Answer(content=CONTENT))
    assert fetch(path, url).read_bytes() == CONTENT
    assert [asked for asked, _ in server.requests] == [
        "/uc?export=download&id=1AbC",
        "/download?id=1AbC&export=download&confirm=t&uuid=5f0e-aa%26b",
    ]


def test_a_broken_download_from_drive_goes_on_where_it_stopped(server, path):
    half = len(CONTENT) // 2
    url = serve_on_drive(server, "1AbC", Answer(content=CONTENT, cut=half), Answer(content=CONTENT))
    assert fetch(path, url).read_bytes() == CONTENT
    assert server.ranges[-1] == f"bytes={half}-"
    pages = 2 * len(server.answers["/uc?export=download&id=1AbC"][0].content)
    assert server.sent == len(CONTENT) + pages


def test_a_page_in_parts_is_recognised_too(server, path):
    """A server that honours ranges even for the page: the rest of it must not be appended to the file."""
    url = serve_on_drive(server, "1AbC", Answer(content=CONTENT, cut=50), Answer(content=CONTENT))
    server.answers["/uc?export=download&id=1AbC"] = [
        Answer(content=answer.content, content_type=answer.content_type)
        for answer in server.answers["/uc?export=download&id=1AbC"]
    ]
    assert fetch(path, url).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (QUOTA_PAGE, r"download quota is used up.*'Google Drive - Quota exceeded'"),
        (START_PAGE, r"sends a web page instead of the file \(the page is titled 'Page not found · Example'\)"),
        (SIGN_IN_PAGE, "asks to sign in"),
        ("<html></html>", "sends a web page instead of the file$"),
        (confirmation_page("http://elsewhere.invalid/d", {"confirm": "t"}), "a web page.*Virus scan warning"),
        (confirmation_page("file:///etc/passwd", {}), "a web page"),
    ],
)
@pytest.mark.parametrize("is_named_page", [True, False])
def test_other_pages_are_reported_and_never_kept(server, path, text, reason, is_named_page):
    answer = page(text)
    url = server.serve("/uc?id=1", answer if is_named_page else Answer(content=answer.content))
    with pytest.raises(DownloadFailed) as caught:
        fetch(path, url)
    (found,) = caught.value.reasons
    assert re.search(rf"/uc\?id=1: .*{reason}", found), found
    assert len(server.requests) == 1  # such an answer is final: no retries
    assert [entry for entry in path.parent.iterdir() if entry.suffix == ".zip"] == []


def test_a_page_after_the_confirmation_is_the_end(server, path):
    url = serve_on_drive(server, "1", page(QUOTA_PAGE))
    with pytest.raises(DownloadFailed, match="quota is used up"):
        fetch(path, url)
    assert len(server.requests) == 2


def test_the_next_source_is_tried_after_each_kind_of_failure(server, path):
    urls = [
        server.serve("/gone", Answer(status=404)),
        server.serve("/page", page(START_PAGE)),
        serve_on_drive(server, "full", page(QUOTA_PAGE)),
        serve_on_drive(server, "good", Answer(content=CONTENT)),
    ]
    assert fetch(path, *urls).read_bytes() == CONTENT


def test_a_file_that_a_server_calls_a_page_is_still_a_file(server, path):
    url = server.serve("/a", Answer(content=b"PK\3\4" + CONTENT, content_type="text/html"))
    assert fetch(path, url).read_bytes().startswith(b"PK")


def test_confirmations_lead_to_the_same_host_or_within_google():
    form = confirmation_page("https://drive.usercontent.google.com/download", {"id": "1"})
    assert confirmed_url(form, "https://drive.google.com/uc?id=1") == (
        "https://drive.usercontent.google.com/download?id=1"
    )
    assert confirmed_url(form, "https://drive.google.com.example.org/uc?id=1") is None
    assert confirmed_url(form, "https://notgoogle.com/uc?id=1") is None
    assert confirmed_url(confirmation_page("http://drive.google.com/d", {}), "https://drive.google.com/uc") is None
    old = '<a id="uc-download-link" href="/uc?export=download&amp;confirm=aB1&amp;id=7">Download anyway</a>'
    assert confirmed_url(old, "https://drive.google.com/uc?id=7") == (
        "https://drive.google.com/uc?export=download&confirm=aB1&id=7"
    )
    post = confirmation_page("/d", {}).replace('method="get"', 'method="post"')
    assert confirmed_url(post, "https://drive.google.com/uc") is None
