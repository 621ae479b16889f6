"""What a run is: what tells it from another, and what it leaves written of itself.

Rule 1: the identity of a run holds what changes a trained weight, and nothing else; equal ones make
equal weights on one machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..errors import InputError, Issue, OutputError
from ..storage.atomic import publish_bytes
from ..storage.files import read_json

FILE = "soupctl.json"
RUN_RECORD_FORMAT = 1
LIBRARIES = ("accelerate", "diffusers", "torch", "transformers")


@dataclass(frozen=True, slots=True)
class RunRecord:
    """The record of a run in its folder, as it is written to `soupctl.json`."""

    identity: Mapping[str, str]
    """Base, data and options that change numbers, as texts by name."""
    finished: bool
    facts: Mapping[str, Any]
    """What else there is to tell."""


def versions() -> dict[str, str]:
    """The versions of soupctl and of the libraries that train."""
    return {name: version(name) for name in ("soupctl", *LIBRARIES)}


def read_record(out: Path) -> RunRecord | None:
    """The record of the run in a folder; None if there is none.

    Raises InputError for a record that is not sound, or that a newer version wrote.
    """
    path = out / FILE
    if not path.exists():
        return None
    content = read_json(path, "record of a run")
    try:
        if content["format"] != RUN_RECORD_FORMAT:
            raise InputError("was written by another version of soupctl", path=path)
        if content["finished"] is True and not _tells_its_end(content):
            raise ValueError("it does not say what the run ended with")
        return RunRecord(
            identity={str(key): str(value) for key, value in content["identity"].items()},
            finished=content["finished"] is True,
            facts=content,
        )
    except (ValueError, KeyError, AttributeError) as error:
        raise InputError(f"is no record of a run: {error}", path=path) from None


def _tells_its_end(content: Mapping[str, Any]) -> bool:
    return type(content.get("steps")) is int and isinstance(content.get("weights"), str)


def write_record(out: Path, record: RunRecord) -> None:
    """Write the record of a run to its folder, in place of an earlier one; OutputError."""
    content = {
        **record.facts,
        "format": RUN_RECORD_FORMAT,
        "identity": dict(record.identity),
        "finished": record.finished,
    }
    data = (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()
    publish_bytes(out / FILE, data, replace=True)


def require_same_run(out: Path, found: Mapping[str, str], asked: Mapping[str, str]) -> None:
    """Raise OutputError, naming all differences, if a folder holds another run than is asked."""
    issues = [
        Issue(
            f"holds another run: {name} is {found.get(name, 'not set')} there"
            f" and {asked.get(name, 'not set')} here",
            out,
            advice="-o names another folder",
        )
        for name in sorted({*found, *asked})
        if found.get(name) != asked.get(name)
    ]
    if issues:
        raise OutputError.collected(issues)
