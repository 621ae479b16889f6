"""The record of a run in its folder: its identity, whether it is finished, and facts about it.

Rule 1: the identity holds everything that changes a trained weight, and nothing else; runs of equal
identity give equal weights on one machine.
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
    """Base, dataset and the options that change the trained weights, as texts by name."""
    finished: bool
    facts: Mapping[str, Any]
    """Everything else in the record, for the reader."""


def versions() -> dict[str, str]:
    """The versions of soupctl and of the libraries that train."""
    return {name: version(name) for name in ("soupctl", *LIBRARIES)}


def read_record(out: Path) -> RunRecord | None:
    """The record of the run in a folder; None if there is none.

    Raises InputError for a malformed record, or one of another version of soupctl.
    """
    path = out / FILE
    if not path.exists():
        return None
    content = read_json(path, "record of a run")
    try:
        if content["format"] != RUN_RECORD_FORMAT:
            raise InputError("was written by another version of soupctl", path=path)
        if content["finished"] is True and not _has_result(content):
            raise ValueError("a finished run needs steps and weights")
        return RunRecord(
            identity={str(key): str(value) for key, value in content["identity"].items()},
            finished=content["finished"] is True,
            facts=content,
        )
    except (ValueError, KeyError, AttributeError) as error:
        raise InputError(f"is not a valid record of a run: {error}", path=path) from None


def _has_result(content: Mapping[str, Any]) -> bool:
    return type(content.get("steps")) is int and isinstance(content.get("weights"), str)


def write_record(out: Path, record: RunRecord) -> None:
    """Write the record of a run to its folder, replacing an earlier one; raises OutputError."""
    content = {
        **record.facts,
        "format": RUN_RECORD_FORMAT,
        "identity": dict(record.identity),
        "finished": record.finished,
    }
    data = (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()
    publish_bytes(out / FILE, data, replace=True)


def require_same_run(
    out: Path, found: Mapping[str, str], asked: Mapping[str, str], images: str = ""
) -> None:
    """Raise OutputError with all differences if the run in a folder is not the requested one.

    `images` says how the images differ, if the data does.
    """
    details = {"data": f" ({images})"} if images else {}
    issues = [
        Issue(
            f"contains another run: {name} is {found.get(name, 'not set')} there"
            f" and {asked.get(name, 'not set')} here{details.get(name, '')}",
            out,
            advice="choose another folder with -o",
        )
        for name in sorted({*found, *asked})
        if found.get(name) != asked.get(name)
    ]
    if issues:
        raise OutputError.collected(issues)
