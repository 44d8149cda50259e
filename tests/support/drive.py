"""A local server that plays Google Drive: confirmation pages, quota pages, and files."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

from archive_server import Answer, ArchiveServer

HTML = "text/html; charset=utf-8"

QUOTA_PAGE = (
    "<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head><body><p>Sorry, you can't view "
    "or download this file at this time.</p>"
    "<p>Too many users have viewed or downloaded this file recently.</p></body></html>"
)
START_PAGE = "<!doctype html>\n<html><head><title>Page not found · Example</title></head><body>Hello</body></html>"
SIGN_IN_PAGE = '<html><head><title>Sign-in</title></head><body><a href="/ServiceLogin?x=1">Sign in</a></body></html>'


def page(text: str, status: int = 200) -> Answer:
    """A web page, as an answer."""
    return Answer(content=text.encode(), content_type=HTML, etag=None, heeds_range=False, status=status)


def confirmation_page(action: str, fields: Mapping[str, str]) -> str:
    """The page that Drive sends before a large file: a form with hidden fields."""
    inputs = "".join(f'<input type="hidden" name="{name}" value="{value}">' for name, value in fields.items())
    return (
        "<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head><body>"
        "<p>Google Drive can't scan this file for viruses.</p>"
        f'<form id="download-form" action="{action}" method="get"><input type="submit" id="uc-download-link" '
        f'class="goog-inline-block" value="Download anyway"/>{inputs}</form></body></html>'
    )


def serve_on_drive(server: ArchiveServer, file_id: str, *answers: Answer) -> str:
    """Serve a file behind a confirmation page, with these answers behind it; returns its first URL."""
    fields = {"id": file_id, "export": "download", "confirm": "t", "uuid": "5f0e-aa&amp;b"}
    server.serve(f"/download?{urlencode({**fields, 'uuid': '5f0e-aa&b'})}", *answers)
    return server.serve(f"/uc?export=download&id={file_id}", page(confirmation_page(f"{server.url}/download", fields)))
