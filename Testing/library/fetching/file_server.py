"""A web server on this computer that knows ranges, and misbehaves as a test wants."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FileServer:
    """Serves one file at every path.

    Attributes:
        content: the file. requests: the value of Range in each request, "" for none.
        break_after: close the connection after so many bytes of an answer; None for never.
        ranges: whether parts are served. redirect: send everybody there. status: answer this alone.
        hold: set by a test; an answer waits for it after its first bytes.
        tell_size: whether Content-Length is sent.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.requests: list[str] = []
        self.break_after: int | None = None
        self.ranges = True
        self.redirect = ""
        self.status = 0
        self.tell_size = True
        self.hold: threading.Event | None = None
        self.url = ""

    @property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.content).hexdigest()}"'


@contextmanager
def serving(content: bytes) -> Iterator[FileServer]:
    server = FileServer(content)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self, server)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server.url = f"http://127.0.0.1:{http.server_address[1]}/models/file.safetensors"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        if server.hold is not None:
            server.hold.set()
        http.shutdown()
        http.server_close()
        thread.join()


def answer(request: Any, server: FileServer) -> None:
    wanted = request.headers.get("Range", "")
    server.requests.append(wanted)
    if server.redirect:
        request.send_response(302)
        request.send_header("Location", server.redirect)
        request.end_headers()
        return
    if server.status:
        request.send_error(server.status)
        return
    body, total = server.content, len(server.content)
    goes_on = server.ranges and wanted and request.headers.get("If-Range") == server.etag
    first = int(wanted.removeprefix("bytes=").rstrip("-")) if goes_on else 0
    request.send_response(206 if goes_on else 200)
    if goes_on:
        request.send_header("Content-Range", f"bytes {first}-{total - 1}/{total}")
    request.send_header("ETag", server.etag)
    if server.tell_size:
        request.send_header("Content-Length", str(total - first))
    request.end_headers()
    rest = body[first:]
    if server.break_after is not None:
        request.wfile.write(rest[: server.break_after])
        request.close_connection = True
        return
    if server.hold is not None:
        request.wfile.write(rest[: len(rest) // 2])
        request.wfile.flush()
        server.hold.wait(60)
        rest = rest[len(rest) // 2 :]
    request.wfile.write(rest)
