"""A plain client: reads files of a web server by ranges, several at once, and throws them away."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from http.client import HTTPConnection, HTTPResponse
from threading import local
from urllib.parse import urlsplit

BLOCK = 4 << 20
AT_ONCE = 8
"""The size of the requests of soupctl, and how many it makes at one time."""


class Connections(local):
    """One connection and one buffer for each thread."""

    def __init__(self, host: str, stack: ExitStack) -> None:
        """Connections to a host, which the end of the stack closes."""
        self.buffer = memoryview(bytearray(BLOCK))
        self._connection = stack.enter_context(closing(HTTPConnection(host, timeout=60)))

    def answer(self, path: str, start: int, stop: int) -> HTTPResponse:
        """The answer to a request for a range."""
        self._connection.request("GET", path, headers={"Range": f"bytes={start}-{stop - 1}"})
        return self._connection.getresponse()


def main(urls: Sequence[str]) -> int:
    """Read the files; returns 1 if a byte is missing."""
    places = [urlsplit(url) for url in urls]
    with ExitStack() as stack:
        connections = Connections(places[0].netloc, stack)
        sizes = [_size(connections, place.path) for place in places]
        jobs = [
            (place.path, start, min(start + BLOCK, size))
            for place, size in zip(places, sizes, strict=True)
            for start in range(0, size, BLOCK)
        ]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            read = sum(pool.map(lambda job: _read(connections, *job), jobs))
    return int(read != sum(sizes))


def _size(connections: Connections, path: str) -> int:
    answer = connections.answer(path, 0, 1)
    answer.read()
    return int(answer.headers["Content-Range"].rpartition("/")[2])


def _read(connections: Connections, path: str, start: int, stop: int) -> int:
    """The bytes of a range that were read."""
    answer, read = connections.answer(path, start, stop), 0
    while size := answer.readinto(connections.buffer[read:]):
        read += size
    return read


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
