"""Where servers lead to other addresses, and how long such an address is asked.

Rule 1: nothing leads to an address that is not encrypted, but for one of this machine to another.
Rule 2: what the hub leads to is asked without credentials, as long as it sends the version that it
sent first.
"""

from __future__ import annotations

from threading import Lock
from typing import Any

from ...frozen import frozen
from .address import LOOPBACK
from .attempts import ChangedError, RefusedError

PASSING = (408, 416, 425, 429)
"""Refusals that say nothing about the address."""
COMMIT = "x-repo-commit"
CONTENT = "x-linked-etag"
"""Headers in which the hub names the commit of a file, and its content, where it leads to it."""


def require_safe(answer: Any) -> None:
    """Raise RefusedError for an answer that leads to an address that may be read by others."""
    import httpx2

    if not answer.has_redirect_location:
        return
    try:
        place = answer.url.join(answer.headers["location"])
    except httpx2.InvalidURL:
        # the client refuses it, too
        return
    is_here = answer.url.host in LOOPBACK and answer.url.scheme == "http"
    if place.scheme == "http" and not (is_here and place.host in LOOPBACK):
        raise RefusedError("it leads to an address that is not encrypted")


def is_expired(status: int) -> bool:
    """Whether a refusal may be of the address, as where a signature has expired."""
    return 400 <= status < 500 and status not in PASSING


@frozen
class Lead:
    """An address that the hub led to."""

    url: str
    """May hold secrets."""
    etag: str | None
    """What its server calls the version that it sends."""

    def require_same(self, answer: Any) -> None:
        """Raise ChangedError if its server sends another version than at first."""
        if _plain(answer.headers.get("etag")) != self.etag:
            raise ChangedError


class HubTarget:
    """Where the hub leads to for a file of a commit, and which content that has."""

    def __init__(self, commit: str) -> None:
        self.lead: Lead | None = None
        """What is asked instead of the hub, until it refuses; None where the hub is asked."""
        self._commit = commit
        self._content: str | None = None
        self._lock = Lock()

    def follow(self, answer: Any) -> None:
        """Keep where an answer came from; ChangedError if it is not of the same content as ever.

        The hub names the content where it leads elsewhere; if it does not, the server there does.
        """
        first = (*answer.history, answer)[0].url
        told = [each for each in (*answer.history, answer) if each.url.origin == first.origin]
        commit = _told(told, COMMIT)
        etag = _plain(answer.headers.get("etag"))
        content = _plain(_told(told, CONTENT)) or etag
        with self._lock:
            if commit not in (None, self._commit) or self._content not in (None, content):
                raise ChangedError
            self._content = content
            is_elsewhere = answer.url.origin != first.origin
            self.lead = Lead(str(answer.url), etag) if is_elsewhere else None

    def forget(self, lead: Lead) -> None:
        """Ask the hub again, unless another thread did so meanwhile."""
        with self._lock:
            if self.lead is lead:
                self.lead = None


def _told(answers: list[Any], name: str) -> str | None:
    """What the first of some answers with such a header says in it."""
    return next((each.headers[name] for each in answers if name in each.headers), None)


def _plain(etag: str | None) -> str | None:
    """The name of a version without quotes, and without the sign of a weak one."""
    return None if etag is None else etag.removeprefix("W/").strip('"')
