"""Web pages that a server sends instead of a file: one that asks for a confirmation is answered, others are reported.

Google Drive sends large files only after a page about viruses, and a page with status 200 when a file was downloaded
too often. Servers of other kinds answer a removed file with their start page.
"""

from __future__ import annotations

import http
import http.client
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

from vfm_isbench.storage.connection import BrokenConnection, GaveUp, open_url
from vfm_isbench.storage.printable import printable

LARGEST_PAGE = 1 << 20
"""Bytes of a page that are read; those of Drive have a few thousand."""

_BEGINNINGS = (b"<!doctype html", b"<html", b"<head", b"<!--")
_LOOKED_AT = 256
_FORM, _OLD_LINK = "download-form", "uc-download-link"
"""Ids of Drive's confirmation form, and of the link that it had earlier."""
_QUOTA = re.compile(
    r"quota exceeded|exceeded (?:the|its) (?:download )?quota|download quota|too many users|too many downloads", re.I
)
_SIGN_IN = re.compile(r"ServiceLogin|accounts\.google\.com/v3/signin|>\s*sign in\s*<|you need access", re.I)
_GOOGLE = (".google.com", ".googleusercontent.com")


def open_file(url: str, first: int, validator: str | None, timeout: float) -> Any:
    """Like :func:`~vfm_isbench.storage.connection.open_url`, but never returns a web page.

    Raises:
        GaveUp: if the server sends a web page instead of the file, also after a confirmation; the message says which.
        BrokenConnection, FileChanged: see :func:`~vfm_isbench.storage.connection.open_url`.
    """
    response = open_url(url, first, validator, timeout)
    if not _is_page(response):
        return response
    if response.status == http.HTTPStatus.PARTIAL_CONTENT:  # a part of the page
        response.close()
        response = open_url(url, 0, None, timeout)
        if not _is_page(response):
            return response
    page, address = _read(response), response.url
    confirmed = confirmed_url(page, address)
    if confirmed is not None:
        response = open_url(confirmed, first, validator, timeout)
        if not _is_page(response):
            return response
        page = _read(response)
    raise GaveUp(what_page_says(page))


def confirmed_url(page: str, address: str) -> str | None:
    """Where Drive's confirmation page leads; None if a page asks for no confirmation.

    Args:
        page: The page, HTML.
        address: Its URL, for relative links.

    >>> page = '<form id="download-form" action="/d"><input type="hidden" name="confirm" value="t"></form>'
    >>> confirmed_url(page, "https://drive.google.com/uc?id=1")
    'https://drive.google.com/d?confirm=t'
    """
    parser = _parsed(page)
    if parser.action is None:
        return None
    target = urlsplit(urljoin(address, parser.action))
    is_safe = target.scheme in ("https", urlsplit(address).scheme) and target.scheme in ("http", "https")
    if not is_safe or not _is_trusted(urlsplit(address).hostname, target.hostname):
        return None
    fields = {**dict(parse_qsl(target.query)), **parser.fields}
    return urlunsplit(target._replace(query=urlencode(fields), fragment=""))


def what_page_says(page: str) -> str:
    """Why there is a page instead of a file, in words."""
    parser = _parsed(page)
    title = printable(" ".join(parser.title.split()), 120)
    shown = f" (the page is titled {title!r})" if title else ""
    if _QUOTA.search(page):
        return f"its download quota is used up, usually for a day{shown}"
    if _SIGN_IN.search(page):
        return f"asks to sign in, so the file is not public{shown}"
    return f"sends a web page instead of the file{shown}"


class _PageParser(HTMLParser):
    """Collects the title and the confirmation form of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.title = ""
        self.action: str | None = None
        self.fields: dict[str, str] = {}
        self._in_title = self._in_form = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "title":
            self._in_title = True
        elif tag == "form" and given.get("id") == _FORM and given.get("method", "get").lower() == "get":
            self.action, self._in_form = given.get("action", ""), True
        elif tag == "input" and self._in_form and given.get("type", "").lower() == "hidden" and given.get("name"):
            self.fields[given["name"]] = given.get("value", "")
        elif tag == "a" and given.get("id") == _OLD_LINK and self.action is None:
            self.action = given.get("href", "")

    def handle_endtag(self, tag: str) -> None:
        self._in_title = self._in_title and tag != "title"
        self._in_form = self._in_form and tag != "form"

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data


def _parsed(page: str) -> _PageParser:
    parser = _PageParser()
    parser.feed(page)
    parser.close()
    return parser


def _is_trusted(host: str | None, target: str | None) -> bool:
    """Whether a page of ``host`` may send us on to ``target``: to itself, and within Google."""
    return host is not None and target is not None and (host == target or (_is_google(host) and _is_google(target)))


def _is_google(host: str) -> bool:
    return f".{host}".endswith(_GOOGLE)


def _is_page(response: Any) -> bool:
    """Whether a response is a web page; its bytes stay unread."""
    if not hasattr(response, "peek"):  # a file: URL
        return False
    try:
        head = bytes(response.peek(_LOOKED_AT)[:_LOOKED_AT]).lstrip(b"\xef\xbb\xbf \t\r\n")
    except (OSError, http.client.HTTPException) as error:
        raise BrokenConnection(f"broke off: {type(error).__name__}: {error}") from error
    if head.lower().startswith(_BEGINNINGS):
        return True
    headers: Mapping[str, str] = response.headers
    is_called_page = (headers.get("Content-Type") or "").lower().startswith(("text/html", "application/xhtml"))
    # Some servers call everything a page; an archive does not begin like one.
    return is_called_page and (head.startswith(b"<") or response.status == http.HTTPStatus.PARTIAL_CONTENT)


def _read(response: Any) -> str:
    try:
        with response:
            return bytes(response.read(LARGEST_PAGE)).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        raise BrokenConnection(f"broke off: {type(error).__name__}: {error}") from error
