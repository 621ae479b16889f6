"""Addresses of Ray clusters, and whether something answers there."""

from __future__ import annotations

import os
import socket
from importlib.util import find_spec

from ..errors import LimitError, UsageError
from ..frozen import frozen
from ..pattern import pattern

RUNNING, LOCAL = "auto", "local"
"""Stand for the cluster that runs on this machine, and for workers that end with the command."""
ADDRESS = pattern(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):([1-9][0-9]{0,4})")
VARIABLE = "RAY_ADDRESS"
"""The environment variable in which Ray's own commands expect the address of a cluster."""
ANSWER = 10.0
"""Seconds in which a cluster must answer."""
LONGEST_SHOWN = 60


@frozen
class ClusterAddress:
    """The address of a cluster, as the user or the environment gives it."""

    text: str
    is_from_environment: bool = False

    @property
    def shown(self) -> str:
        """The address in messages, with where it comes from."""
        return f"{self.text}, which {VARIABLE} names" if self.is_from_environment else self.text

    @property
    def no_answer(self) -> LimitError:
        """The error for a cluster that does not answer."""
        if self.text == RUNNING:
            what = "no Ray cluster runs on this machine"
            return LimitError(what, advice="ray start --head starts one; or --ray local")
        advice = "see ray status there, and whether it needs a token"
        return LimitError(f"no Ray cluster answers at {self.shown}", advice=advice)


def require_address(address: str) -> None:
    """Raise UsageError for a text that is no address, before anything is done."""
    if not _is_address(address):
        what = f"--ray {address[:LONGEST_SHOWN]!r} is not the address of a cluster"
        raise UsageError(what, advice="such as --ray head:6379, --ray auto or --ray local")


def _is_address(text: str) -> bool:
    return text in (RUNNING, LOCAL) or ADDRESS.fullmatch(text) is not None


def require_reachable(address: str) -> ClusterAddress:
    """The address that is meant: that in the environment, if there is one, for `auto`.

    Raises LimitError if Ray is not installed or nothing answers, UsageError for what is no address.
    """
    require_address(address)
    if find_spec("ray") is None:
        what = "--ray needs ray, which is not installed"
        raise LimitError(what, advice="pip install 'soupctl[ray]'")
    found = _resolved(address)
    if named := ADDRESS.fullmatch(found.text):
        _require_answer(found, named[1].strip("[]"), int(named[2]))
    return found


def _resolved(address: str) -> ClusterAddress:
    text = os.environ.get(VARIABLE) if address == RUNNING else None
    if not text:
        return ClusterAddress(address)
    if not _is_address(text):
        what = f"{VARIABLE} {text[:LONGEST_SHOWN]!r} is not the address of a cluster"
        raise UsageError(what, advice=f"such as {VARIABLE}=head:6379, or unset it")
    return ClusterAddress(text, is_from_environment=True)


def _require_answer(address: ClusterAddress, host: str, port: int) -> None:
    """Raise LimitError unless something listens there: Ray itself would try for minutes."""
    try:
        with socket.create_connection((host, port), ANSWER):
            return
    except (OSError, OverflowError, UnicodeError):
        raise address.no_answer from None
