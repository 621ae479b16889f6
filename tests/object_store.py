"""A store of objects on loopback that speaks as S3 does, from the package moto, with faults.

Rule 1: a fault is used up by the request that it befalls.
Rule 2: the environment of the test points to it, with credentials that mean nothing.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3 import models
from werkzeug.serving import WSGIRequestHandler, make_server

PART = 40_000
"""Bytes of the parts that uploads have in tests."""
Start = Callable[..., Any]
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "hidden",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_MAX_ATTEMPTS": "1",
}


class ObjectStore:
    """A WSGI application in front of moto's, which counts requests and has faults."""

    def __init__(self) -> None:
        self._app = DomainDispatcherApplication(create_backend_app)
        self.port = 0
        self.most_listed = 1000
        """Objects on a page of a listing."""
        self.clear()

    def clear(self) -> None:
        """Forget requests and faults."""
        self.faults: defaultdict[str, deque[str]] = defaultdict(deque)
        """By kind of request (see `kind_of`), for the next of that kind.

        `500`; `cut`, half an answer; `lost`, the request is carried out and its answer cut;
        `slow`, the answer comes in pieces; `drip`, it never ends; `no-conditions`, 501 for a
        request with a condition.
        """
        self.requests: list[str] = []
        self.sent = 0
        self.received = 0
        self.before: Callable[[str], None] = lambda _: None
        """Called with the kind of each request before it is carried out."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def backend(self) -> Any:
        """What moto holds, for reading and writing without requests."""
        return models.s3_backends["123456789012"]["aws"]

    def make_bucket(self, name: str) -> None:
        self.backend.create_bucket(name, "us-east-1")

    def put(self, bucket: str, key: str, data: bytes) -> None:
        self.backend.put_object(bucket, key, data)

    def objects(self, bucket: str) -> dict[str, bytes]:
        """All objects of a bucket."""
        found = self.backend.buckets[bucket].keys
        return {key: found[key].value for key in found}

    def uploads(self, bucket: str) -> list[str]:
        """The keys of uploads that are neither finished nor aborted."""
        return [each.key_name for each in self.backend.buckets[bucket].multiparts.values()]

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        kind = kind_of(environ)
        self.requests.append(kind)
        self.received += int(environ.get("CONTENT_LENGTH") or 0)
        self.before(kind)
        fault = self.faults[kind].popleft() if self.faults[kind] else None
        refused = {"500": "500 Internal Server Error", "no-conditions": "501 Not Implemented"}
        if fault == "no-conditions" and "HTTP_IF_NONE_MATCH" not in environ:
            fault = None
        if fault in refused:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start(refused[fault], [("Content-Length", "0")])
            return [b""]
        if kind == "list" and self.most_listed < 1000 and "max-keys" not in query_of(environ):
            environ["QUERY_STRING"] += f"&max-keys={self.most_listed}"
        answer = b"".join(self._app(environ, start))
        self.sent += len(answer)
        if fault is None:
            return [answer]
        return self._faulty(fault, answer, environ["werkzeug.socket"])

    def _faulty(self, fault: str, answer: bytes, connection: Any) -> Iterator[bytes]:
        if fault == "slow":
            for at in range(0, len(answer), max(1, len(answer) // 4)):
                yield answer[at : at + max(1, len(answer) // 4)]
                time.sleep(0.01)
        elif fault == "drip":
            for at in range(len(answer)):
                yield answer[at : at + 1]
                time.sleep(0.05)
        else:
            if fault == "cut":
                yield answer[: len(answer) // 2]
            connection.shutdown(2)
            yield b""


def query_of(environ: dict[str, Any]) -> dict[str, list[str]]:
    return parse_qs(environ["QUERY_STRING"], keep_blank_values=True)


def kind_of(environ: dict[str, Any]) -> str:
    """What a request asks for: create, part, complete, abort, get, list, head or put."""
    query = query_of(environ)
    method = environ["REQUEST_METHOD"]
    if "list-type" in query:
        return "list"
    if method == "POST":
        return "create" if "uploads" in query else "complete"
    if "uploadId" in query:
        return {"PUT": "part", "DELETE": "abort"}.get(method, method)
    return method.lower()


class _Quiet(WSGIRequestHandler):
    """Answers without a log."""

    protocol_version = "HTTP/1.1"

    def log(self, *_: Any) -> None:
        # moto fails for some requests that S3 refuses
        pass


@contextmanager
def storing(smallest_part: int) -> Iterator[ObjectStore]:
    """A store without buckets, until the block ends; parts have at least so many bytes."""
    store = ObjectStore()
    before = models.S3_UPLOAD_PART_MIN_SIZE
    models.S3_UPLOAD_PART_MIN_SIZE = smallest_part
    server = make_server("127.0.0.1", 0, store, threaded=True, request_handler=_Quiet)
    server.daemon_threads = True
    store.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield store
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        models.S3_UPLOAD_PART_MIN_SIZE = before
