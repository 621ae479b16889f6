"""Several data shards at once: which folders are meant, and where each of them goes."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError, UsageError
from ..ledger.names import unique_names

NAME = "{name}"


def expanded(patterns: Sequence[str]) -> tuple[Path, ...]:
    """The folders that patterns such as `shards/*` match, each once, in order.

    A folder of a literal name is meant where there is one. Raises InputError for a pattern that
    matches none.
    """
    found: list[Path] = []
    for pattern in patterns:
        matches = [pattern]
        if glob.has_magic(pattern) and not os.path.lexists(pattern):
            # Path.glob takes no absolute pattern
            found_here = glob.glob(pattern)  # noqa: PTH207
            matches = sorted(match for match in found_here if Path(match).is_dir())
        if not matches:
            raise InputError("matches no folder", path=pattern)
        found += map(Path, matches)
    once = {os.path.abspath(folder): folder for folder in reversed(found)}
    return tuple(once[place] for place in dict.fromkeys(map(os.path.abspath, found)))


def outputs_of(shards: Sequence[Path], output: str) -> tuple[Path, ...]:
    """The output of each data shard, whose name stands where `{name}` does.

    Raises UsageError if several would go to one place, or one into a shard, whose next run would
    take the pictures there for data.
    """
    if len(shards) > 1 and NAME not in output:
        what = f"{len(shards)} data shards cannot go to one output"
        raise UsageError(what, path=output, advice=f"such as -o 'runs/{NAME}'")
    names = unique_names([os.path.abspath(shard) for shard in shards])
    places = tuple(Path(output.replace(NAME, name.replace("/", "-"))) for name in names)
    if twice := [place for place in dict.fromkeys(places) if places.count(place) > 1]:
        what = "is where several data shards would go"
        raise UsageError(what, path=twice[0], advice="train those of like names apart")
    for place in places:
        for shard in shards:
            if Path(os.path.realpath(place)).is_relative_to(os.path.realpath(shard)):
                what = f"lies in data to train on, {shard}, and would become data itself"
                raise UsageError(what, path=place, advice="choose another")
    return places
