"""A local HTTP server that serves bytes well or badly, for tests of downloads."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the server does with one request.

    Attributes:
        content: The whole file.
        status: Any status other than 200 is sent without the file.
        etag: ETag header; None omits it.
        last_modified: Last-Modified header; None omits it.
        content_type: Content-Type header; None omits it.
        pause: Seconds between the two halves of the body.
        cut: Break the connection after this many bytes of the body.
        heeds_range: False sends the whole file, like servers without ranges.
        heeds_if_range: False sends the requested part even if the file has changed.
    """

    content: bytes = b""
    status: int = 200
    etag: str | None = '"1"'
    last_modified: str | None = None
    content_type: str | None = None
    pause: float = 0.0
    cut: int | None = None
    heeds_range: bool = True
    heeds_if_range: bool = True


class ArchiveServer:
    """Serves on a free port of this machine while its ``with`` block runs.

    Attributes:
        answers: For each path ("/a.zip"), the answers to the first request, the second, …; the last is repeated.
        requests: Path and headers of every request so far.
        sent: Bytes of files sent so far.
    """

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.requests: list[tuple[str, Mapping[str, str]]] = []
        self.sent = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._make_handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def serve(self, path: str, *answers: Answer) -> str:
        """Set the answers of a path; returns its URL."""
        self.answers[path] = list(answers)
        return self.url + path

    @property
    def ranges(self) -> list[str | None]:
        """The Range header of every request."""
        return [headers.get("Range") for _, headers in self.requests]

    def __enter__(self) -> ArchiveServer:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _next_answer(self, path: str) -> Answer:
        answers = self.answers.get(path, [Answer(status=404)])
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def _make_handler(outer) -> type[BaseHTTPRequestHandler]:  # noqa: N805  `self` is the handler's
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append((self.path, dict(self.headers)))
                answer = outer._next_answer(self.path)
                if answer.status != 200:
                    self.send_error(answer.status)
                    return
                total = len(answer.content)
                start = self._start(answer)
                if start >= total > 0:
                    self.send_error(416)
                    return
                body = answer.content[start:]
                self.send_response(206 if start else 200)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
                self.send_header("Content-Length", str(len(body)))
                headers = {
                    "ETag": answer.etag, "Last-Modified": answer.last_modified, "Content-Type": answer.content_type
                }  # fmt: skip
                for name, value in headers.items():
                    if value is not None:
                        self.send_header(name, value)
                self.end_headers()
                body = body[: answer.cut]
                outer.sent += len(body)
                half = len(body) // 2
                self.wfile.write(body[:half])
                if answer.pause:
                    time.sleep(answer.pause)
                self.wfile.write(body[half:])

            def _start(self, answer: Answer) -> int:
                asked, condition = self.headers.get("Range"), self.headers.get("If-Range")
                if asked is None or not answer.heeds_range:
                    return 0
                is_outdated = condition is not None and condition not in (answer.etag, answer.last_modified)
                if answer.heeds_if_range and is_outdated:
                    return 0
                return int(asked.removeprefix("bytes=").removesuffix("-"))

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        return Handler
