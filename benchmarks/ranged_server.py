"""A web server on loopback that sends ranges of files, and counts what it sends."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread

RANGE = re.compile(r"bytes=(\d+)-(\d+)")


class RangedServer(ThreadingHTTPServer):
    """Sends the files of a folder."""

    daemon_threads = True

    def __init__(self, folder: Path, delay: float) -> None:
        super().__init__(("127.0.0.1", 0), RangedAnswers)
        self.folder = folder
        self.delay = delay
        """Seconds before each answer."""
        self.requests = self.sent = 0
        self.lock = Lock()

    def url(self, name: str) -> str:
        """The address of a file."""
        return f"http://127.0.0.1:{self.server_port}/{name}"

    def handle_error(self, *_: object) -> None:
        """Say nothing: a client that has all it needs closes its connections."""

    def count(self, size: int) -> None:
        """Count a request and the bytes of its answer."""
        with self.lock:
            self.requests += 1
            self.sent += size


class RangedAnswers(BaseHTTPRequestHandler):
    """The answers to the requests of one connection."""

    protocol_version = "HTTP/1.1"
    server: RangedServer

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Send a range of a file, straight from the page cache."""
        time.sleep(self.server.delay)
        found = RANGE.fullmatch(self.headers.get("Range", ""))
        assert found is not None, "all clients ask for ranges"
        with (self.server.folder / self.path.lstrip("/")).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            start, stop = int(found[1]), min(int(found[2]) + 1, size)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
            self.send_header("Content-Length", str(stop - start))
            self.send_header("ETag", '"1"')
            self.end_headers()
            self.server.count(stop - start)
            while start < stop:
                start += os.sendfile(self.connection.fileno(), file.fileno(), start, stop - start)


@contextmanager
def serving(folder: Path, delay: float = 0.0) -> Iterator[RangedServer]:
    """A server of the files in a folder, in threads of this process, until the block ends."""
    with RangedServer(folder, delay) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
