"""`soupctl doctor`: tells what the machine has, and tests every engine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import typer

from .. import __version__
from . import options
from .console import counted, put, put_json, size_text

if TYPE_CHECKING:
    from ..verbs import Checkup


def doctor(json: options.Json = False) -> None:
    """Show versions, processor, GPU and free space, and test every engine.

    Exit code 1 if an engine does not compute what the reference computes.

    Example: soupctl doctor
    """
    from .. import verbs

    found = verbs.check_up()
    if json:
        put_json(_json(found))
    else:
        for line in _lines(found):
            put(line)
    if not found.is_sound:
        raise typer.Exit(1)


def _lines(found: Checkup) -> Iterator[str]:
    yield f"soupctl   {__version__}, Python {found.python}, {found.system}"
    features = ", ".join(found.features) or "features unknown"
    yield f"processor {counted(found.cores, 'core')}; {features}"
    for name, version in found.packages:
        yield f"package   {name} {version or 'is not installed'}"
    for place, free in found.free:
        yield f"free      {'unknown' if free is None else size_text(free)} in the {place}"
    for each in found.engines:
        if each.why_absent:
            yield f"engine    {each.name}: not here: {each.why_absent}"
        elif each.failed:
            yield f"engine    {each.name}: WRONG in {', '.join(each.failed)}"
        else:
            yield f"engine    {each.name}: {each.tested} means as the reference computes them"


def _json(found: Checkup) -> dict[str, Any]:
    return {
        "soupctl": __version__,
        "python": found.python,
        "system": found.system,
        "packages": dict(found.packages),
        "cores": found.cores,
        "features": list(found.features),
        "free": dict(found.free),
        "engines": [
            {
                "name": each.name,
                "tested": each.tested,
                "failed": list(each.failed),
                "absent": each.why_absent or None,
            }
            for each in found.engines
        ],
        "sound": found.is_sound,
    }
