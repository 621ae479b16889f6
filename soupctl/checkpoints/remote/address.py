"""Addresses of checkpoints on servers, as values.

Rule 1: a user's name, a password and a query may be secret: they are used, but never shown.
Rule 2: a path of the library has lost one of the two slashes; it still is the address.
Rule 3: schemes are written in small or capital letters.
"""

from __future__ import annotations

import re
from pathlib import PurePath
from urllib.parse import quote

from ...errors import UsageError, show_as, without_secrets
from ...format.index import is_inside
from ...frozen import frozen
from ...pattern import pattern

ADDRESS = pattern(r"(hf|s3|gs|https|http):/{1,2}(.*)", re.DOTALL | re.IGNORECASE)
OTHER = pattern(r"([a-z][a-z0-9+.-]*)://.*", re.DOTALL | re.IGNORECASE)
"""Matches an address of another kind, such as that of an FTP server."""
VERSION = pattern(r"([^?#]*)\?versionId=([\w.-]+)", re.ASCII)
"""Matches what follows `s3://` for one version of an object."""
REPOSITORY = pattern(
    r"(?P<repository>[^/@]+/[^/@]+)"
    r"(?:@(?P<revision>refs/[^/]+/[^/]+|[^/]+))?"
    r"(?:/(?P<inside>.*))?"
)
STORES = ("s3", "gs")
"""Schemes of stores of objects."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")


@frozen
class Address:
    """The address of a file or a folder on a server."""

    scheme: str
    rest: str
    """All that follows `scheme://`, with secrets."""

    @property
    def text(self) -> str:
        """The whole address, with secrets."""
        return f"{self.scheme}://{self.rest}"

    @property
    def host(self) -> str:
        """The server's name, or the bucket's, in small letters."""
        from urllib.parse import urlsplit

        return urlsplit(self.text).hostname or ""

    @property
    def shown(self) -> str:
        """The address without secrets."""
        if self.scheme == "hf":
            return self.text.rstrip("/")
        return without_secrets(re.split("[?#]", self.text)[0]).rstrip("/")

    def beside(self, name: str) -> Address:
        """The address of another file in the same folder, with the same query."""
        if self.scheme in STORES:
            return Address(self.scheme, f"{self.object_name.rpartition('/')[0]}/{name}")
        path, mark, query = self.rest.partition("?")
        # a `?` in a name is quoted, so it begins no query
        return Address(self.scheme, f"{path.rpartition('/')[0]}/{quote(name)}{mark}{query}")

    @property
    def object_version(self) -> str | None:
        """The version of an object of S3 that the address names; None for the newest."""
        found = VERSION.fullmatch(self.rest) if self.scheme == "s3" else None
        return None if found is None else found[2]

    @property
    def object_name(self) -> str:
        """Bucket and key of an object, without its version."""
        found = VERSION.fullmatch(self.rest) if self.scheme == "s3" else None
        return self.rest if found is None else found[1]


@frozen
class HubAddress:
    """A place in a repository of the hub."""

    repository: str
    revision: str | None
    inside: str
    """A file or a folder in it; empty for all of it."""

    @property
    def shown(self) -> str:
        """The address as text."""
        revision = "" if self.revision is None else f"@{self.revision}"
        inside = f"/{self.inside}" if self.inside else ""
        return f"hf://{self.repository}{revision}{inside}"


def address_of(text: str | PurePath) -> Address | None:
    """The address that a text or path is; None for one on this disk.

    Raises UsageError for an address that is not encrypted, names no place, or is of another kind of
    server.
    """
    found = ADDRESS.fullmatch(str(text))
    if found is None:
        _require_no_address(str(text))
        return None
    address = Address(found[1].lower(), found[2].lstrip("/"))
    try:
        is_named = bool(address.rest and (address.scheme == "hf" or address.host.encode("idna")))
    except ValueError:
        is_named = False
    if not is_named:
        what = "is not the address of a file or folder"
        raise UsageError(what, path=without_secrets(address.text))
    if address.scheme == "http" and address.host not in LOOPBACK:
        raise UsageError("http:// is not encrypted", path=address.shown, advice="https:// is")
    if address.scheme in STORES and re.search("[?#]", address.object_name):
        what = "has a query or a fragment, which no object's address has"
        advice = "?versionId=ID names a version of an object of S3"
        raise UsageError(what, path=address.shown, advice=advice)
    if address.shown != str(text):
        show_as(str(text), address.shown)
    return address


def _require_no_address(text: str) -> None:
    """Raise UsageError for an address of a kind that is not read."""
    other = OTHER.fullmatch(text)
    if other is not None:
        what = f"{other[1].lower()}:// is no kind of address that is read"
        advice = "hf://, s3://, gs:// and https:// are"
        raise UsageError(what, path=without_secrets(text), advice=advice)


def hub_address(address: Address) -> HubAddress:
    """The place in a repository that an `hf://` address means; UsageError for any other text."""
    found = REPOSITORY.fullmatch(address.rest.rstrip("/"))
    if found is None or not is_inside(found["inside"] or "repository"):
        what = "is not hf://OWNER/NAME[@REVISION][/PLACE]"
        raise UsageError(what, path=address.shown)
    return HubAddress(found["repository"], found["revision"], found["inside"] or "")


def require_target(address: Address) -> None:
    """Raise UsageError for an address that no object can be written to."""
    if address.scheme == "hf":
        what = "is a repository, and soups are written to files and buckets"
        advice = "make a file, and `soupctl push` uploads it"
        raise UsageError(what, path=address.shown, advice=advice)
    if address.scheme not in STORES:
        what = "is on a web server, and soups are written to files and buckets"
        raise UsageError(what, path=address.shown, advice="make a file, and upload it")
    if address.object_version is not None:
        what = "names a version, and an object that is written becomes a new one"
        raise UsageError(what, path=address.shown, advice="leave it out")
    _, _, key = address.rest.partition("/")
    if not key or key.endswith("/"):
        what = "is not the address of an object"
        raise UsageError(what, path=address.shown, advice=f"{address.scheme}://BUCKET/NAME")
