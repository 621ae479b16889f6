"""A server on loopback that speaks as web servers, S3 and the hub do, and fails when told to.

Rule 1: every request and every byte sent is counted.
Rule 2: a fault is used up by the request that it befalls.
"""

from __future__ import annotations

import json
import re
import threading
import time
from base64 import b64decode
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from hashlib import md5, sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

JSON = "application/json"
BASE = re.compile(r'^- "(.*)"$', re.MULTILINE)
"""Matches a base model in a model card; the hub takes no names but those of repositories."""
RANGE = re.compile(r"bytes=(\d+)-(\d+)?")


@lru_cache(maxsize=64)
def etag(data: bytes) -> str:
    """The version of a file, as S3 computes it."""
    return md5(data).hexdigest()


def blob_id(data: bytes) -> str:
    """What git calls a file, as `git hash-object` does."""
    return sha1(f"blob {len(data)}".encode() + bytes(1) + data).hexdigest()


def large_file(name: str, data: bytes) -> dict[str, Any]:
    """What the description of a repository says more of a large file."""
    if not name.endswith(".safetensors"):
        return {}
    return {"lfs": {"sha256": sha256(data).hexdigest(), "size": len(data), "pointerSize": 100}}


class Loopback:
    """Files by path, repositories by name, and what befell the requests for them."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        """By path, such as `bucket/a.safetensors`; a repository's as `owner/name@commit/a.json`."""
        self.branches: dict[str, str] = {}
        """The commit of `owner/name@main`."""
        self.gated: set[str] = set()
        self.read_only: set[str] = set()
        """Repositories that cannot be pushed to."""
        self.leads_to: str | None = None
        """The server that sends the files of repositories, at signed addresses."""
        self.names_content = True
        """Whether repositories name the content of files that another server sends."""
        self.hub_faults: deque[str] = deque()
        """Answers to the next requests for files of repositories, as in `faults`."""
        self.expires: deque[int] = deque()
        """Statuses of the answers to the next requests at signed addresses."""
        self.etags = ""
        """What precedes the name of each version."""
        self.faults: deque[str] = deque()
        """`500`, `cut`, `short` or `slow`, for the next requests with a range of some length; or a
        status with a header, such as `429 Retry-After: 5`."""
        self.lies: dict[str, str] = {}
        """Headers of answers with a range that are not true; `{range}` and `{size}` are."""
        self.repository_lies: dict[str, object] = {}
        """What the descriptions of repositories say that is not true."""
        self.listed_size: str | None = None
        """What listings of buckets say of the size of each object, if it is not true."""
        self.on_range: Any = None
        """Called before each answer with a range of some length."""
        self.write_faults: deque[str] = deque()
        """The same for the next requests that push: `500`, `cut`, or `lost`, an answer that is."""
        self.on_write: Any = None
        """Called before each request that pushes."""
        self.on_commit: Any = None
        """Called before each commit is made."""
        self.large: dict[str, bytes] = {}
        """Uploaded files by their SHA-256, which commits name."""
        self.commits: list[dict[str, Any]] = []
        """What commits say of themselves."""
        self.requests: list[str] = []
        self.sent = self.port = 0
        self.headers: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def commit(
        self, repository: str, commit: str, files: dict[str, bytes], branch: str = "main"
    ) -> None:
        """Move a branch of a repository to a commit with these files."""
        self.branches[f"{repository}@{branch}"] = commit
        for name, data in files.items():
            self.files[f"{repository}@{commit}/{name}"] = data


@contextmanager
def serving() -> Iterator[Loopback]:
    """A server with no files, until the block ends."""
    loopback = Loopback()

    server = LoopbackServer(("127.0.0.1", 0), Answers)
    server.state = loopback
    loopback.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield loopback
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class LoopbackServer(ThreadingHTTPServer):
    """A server whose threads share one state."""

    daemon_threads = True
    state: Loopback


class Answers(BaseHTTPRequestHandler):
    """The answers to the requests of one connection."""

    protocol_version = "HTTP/1.1"
    server: LoopbackServer

    @property
    def state(self) -> Loopback:
        """What the server holds."""
        return self.server.state

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._pushed()

    def do_PUT(self) -> None:
        self._pushed()

    def _pushed(self) -> None:
        """Answer the requests of a push to a repository."""
        path = unquote(urlsplit(self.path).path).lstrip("/")
        self.state.requests.append(f"{self.command} {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.state.on_write is not None:
            self.state.on_write()
        fault = self.state.write_faults.popleft() if self.state.write_faults else None
        if any(path.startswith(f"api/models/{each}/") for each in self.state.read_only):
            self._send(403, b"{}")
        elif fault == "500":
            self._send(500, b"a fault")
        elif fault == "cut":
            self.close_connection = True
            self.connection.shutdown(2)
        else:
            status, answer = self._written(path, body)
            if fault == "lost":
                self.close_connection = True
                self.connection.shutdown(2)
            else:
                self._send(status, json.dumps(answer).encode(), {"Content-Type": JSON})

    def _written(self, path: str, body: bytes) -> tuple[int, Any]:
        state = self.state
        if path.startswith("large/"):
            state.large[path.removeprefix("large/")] = body
            return 200, {}
        if path == "api/validate-yaml":
            wrong = [each for each in BASE.findall(json.loads(body)["content"]) if "/" not in each]
            errors = [{"message": f"{each!r} is not valid"} for each in wrong]
            return 400 if wrong else 200, {"errors": errors, "warnings": []}
        if path.endswith("/info/lfs/objects/batch"):
            every = json.loads(body)["objects"]
            upload = {each["oid"]: {"href": f"{state.url}/large/{each['oid']}"} for each in every}
            told = [{**each, "actions": {"upload": upload[each["oid"]]}} for each in every]
            return 200, {"transfer": "basic", "objects": told}
        found = re.fullmatch(r"api/models/(.+?/.+?)/(preupload|commit)/(.+)", path)
        assert found is not None, path
        if found[2] == "preupload":
            modes = [
                {
                    "path": each["path"],
                    "uploadMode": "lfs" if each["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                    "oid": None,
                }
                for each in json.loads(body)["files"]
            ]
            return 200, {"files": modes}
        return self._commit(found[1], found[3], [json.loads(line) for line in body.splitlines()])

    def _commit(self, repository: str, branch: str, lines: list[Any]) -> tuple[int, Any]:
        state = self.state
        if state.on_commit is not None:
            state.on_commit()
        header = lines[0]["value"]
        parent = state.branches.get(f"{repository}@{branch}")
        if header.get("parentCommit") != parent:
            return 412, {"error": "A commit has happened since."}
        start = f"{repository}@{parent}/"
        files = {k.removeprefix(start): v for k, v in state.files.items() if k.startswith(start)}
        for each in lines[1:]:
            value = each["value"]
            held = each["key"] == "lfsFile"
            data = state.large[value["oid"]] if held else b64decode(value["content"])
            files[value["path"]] = data
        new = sha1(repr(sorted(files)).encode() + repr(header).encode()).hexdigest()
        state.commit(repository, new, files, branch)
        state.commits.append(header)
        url = f"{state.url}/{repository}/commit/{new}"
        return 200, {"success": True, "commitOid": new, "commitUrl": url}

    def _answer(self) -> None:
        state = self.state
        parts = urlsplit(self.path)
        path, query = unquote(parts.path).lstrip("/"), parse_qs(parts.query)
        state.requests.append(f"{self.command} {path} {self.headers.get('Range', '')}".rstrip())
        state.headers.append(dict(self.headers))
        if path.startswith("api/models/"):
            self._repository(path.removeprefix("api/models/"))
        elif "list-type" in query:
            self._list(path.rstrip("/"), query.get("prefix", [""])[0])
        elif found := re.fullmatch(r"(.+?/.+?)/resolve/(.+?)/(.+)", path):
            self._hub_file(found[1], found[2], found[3])
        else:
            self._file(path)

    def _repository(self, path: str) -> None:
        if path.endswith("/auth-check/write"):
            is_refused = path.removesuffix("/auth-check/write") in self.state.read_only
            self._send(403 if is_refused else 200, b"{}")
            return
        name, _, revision = path.partition("/revision/")
        commit = self.state.branches.get(f"{name}@{revision or 'main'}", revision)
        start = f"{name}@{commit}/"
        found = {key: data for key, data in self.state.files.items() if key.startswith(start)}
        if name in self.state.gated:
            self._send(403, b"{}", {"X-Error-Code": "GatedRepo"})
        elif not found:
            missing = "RevisionNotFound" if revision else "RepoNotFound"
            self._send(404, b"{}", {"X-Error-Code": missing})
        else:
            siblings = [
                {
                    "rfilename": key.removeprefix(start),
                    "size": len(data),
                    "blobId": blob_id(data),
                    **large_file(key, data),
                }
                for key, data in found.items()
            ]
            info = {"id": name, "modelId": name, "sha": commit, "siblings": siblings}
            info |= self.state.repository_lies
            self._send(200, json.dumps(info).encode(), {"Content-Type": "application/json"})

    def _hub_file(self, repository: str, revision: str, name: str) -> None:
        if repository in self.state.gated:
            self._send(403, b"", {"X-Error-Code": "GatedRepo"})
        else:
            commit = self.state.branches.get(f"{repository}@{revision}", revision)
            path, headers = f"{repository}@{commit}/{name}", {"X-Repo-Commit": commit}
            if self.state.hub_faults:
                self._refuse(self.state.hub_faults.popleft())
            elif self.state.leads_to is None:
                self._file(path, headers)
            else:
                headers["Location"] = f"{self.state.leads_to}/{path}?signature=hidden"
                if self.state.names_content:
                    content = sha256(self.state.files.get(path, b"")).hexdigest()
                    headers["X-Linked-ETag"] = f'"{content}"'
                self._send(302, b"", headers)

    def _refuse(self, fault: str) -> None:
        """Send a status with a header."""
        status, _, header = fault.partition(" ")
        name, _, value = header.partition(": ")
        self._send(int(status), b"", {name: value})

    def _list(self, bucket: str, prefix: str) -> None:
        keys = [key.removeprefix(f"{bucket}/") for key in sorted(self.state.files)]
        size = self.state.listed_size
        entries = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(data) if size is None else size}</Size>"
            f"<ETag>&quot;{etag(data)}&quot;</ETag>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            "<StorageClass>STANDARD</StorageClass></Contents>"
            for key in keys
            if key.startswith(prefix) and (data := self.state.files[f"{bucket}/{key}"]) is not None
        )
        text = (
            '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix><MaxKeys>1000</MaxKeys>"
            f"<IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"
        )
        self._send(200, text.encode(), {"Content-Type": "application/xml"})

    def _file(self, path: str, more: dict[str, str] | None = None) -> None:
        found = RANGE.fullmatch(self.headers.get("Range", ""))
        is_data = found is not None and found[2] is not None and int(found[2]) > int(found[1])
        fault = self.state.faults.popleft() if is_data and self.state.faults else None
        if is_data and self.state.on_range is not None:
            self.state.on_range(path)
        if self.state.expires and "signature=" in self.path:
            self._send(self.state.expires.popleft(), b"")
            return
        if fault is not None and " " in fault:
            self._refuse(fault)
            return
        data = self.state.files.get(path)
        if data is None:
            self._send(404, b"")
            return
        if fault == "500":
            self._send(500, b"a fault")
            return
        version = f'"{self.state.etags}{etag(data)}"'
        headers = {"ETag": version, "Accept-Ranges": "bytes", **(more or {})}
        headers["Last-Modified"] = "Thu, 01 Jan 2026 00:00:00 GMT"
        if found is None:
            self._send(200, data, headers, fault)
            return
        start, last = int(found[1]), min(int(found[2] or len(data)), len(data) - 1)
        if start >= len(data):
            self._send(416, b"", {**headers, "Content-Range": f"bytes */{len(data)}"})
            return
        headers["Content-Range"] = f"bytes {start}-{last}/{len(data)}"
        facts = {"range": f"{start}-{last}", "size": len(data)}
        headers |= {name: text.format(**facts) for name, text in self.state.lies.items()}
        self._send(206, data[start : last + 1], headers, fault)

    def _send(
        self,
        status: int,
        data: bytes,
        headers: dict[str, str] | None = None,
        fault: str | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault == "slow":
            with suppress(ConnectionError):
                for at in range(0, len(data), max(1, len(data) // 4)):
                    self.wfile.write(data[at : at + max(1, len(data) // 4)])
                    time.sleep(0.01)
        elif fault in ("cut", "short"):
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
            self.wfile.flush()
            self.connection.shutdown(2)
        else:
            # a reader that was told to stop may be gone
            with suppress(ConnectionError):
                self.wfile.write(data)
        self.state.sent += len(data) if fault != "cut" else len(data) // 2
