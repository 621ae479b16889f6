"""The data shards of one command: the folders that --data matches, and the output of each run."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError, UsageError
from ..ledger.names import unique_names

NAME = "{name}"


def find_data_folders(patterns: Sequence[str]) -> tuple[Path, ...]:
    """The folders that patterns such as `shards/*` match, in order and without repetitions.

    A pattern that is the name of an existing folder means that folder. Raises InputError for a
    pattern that matches no folder.
    """
    found: list[Path] = []
    for pattern in patterns:
        matches = [pattern]
        if glob.has_magic(pattern) and not os.path.lexists(pattern):
            # Path.glob does not accept absolute patterns
            found_here = glob.glob(pattern)  # noqa: PTH207
            matches = sorted(match for match in found_here if Path(match).is_dir())
        if not matches:
            raise InputError("matches no folder", path=pattern)
        found += map(Path, matches)
    once = {os.path.abspath(folder): folder for folder in reversed(found)}
    return tuple(once[place] for place in dict.fromkeys(map(os.path.abspath, found)))


def output_folders(shards: Sequence[Path], output: str) -> tuple[Path, ...]:
    """The output folder of each data shard: `output` with `{name}` replaced by the shard's name.

    Raises UsageError if two shards would share an output, or if an output is inside a data shard,
    because the next run would train on the sample grids there.
    """
    if len(shards) > 1 and NAME not in output:
        what = f"{len(shards)} data shards cannot share one output"
        raise UsageError(what, path=output, advice=f"put {NAME} in it: -o 'runs/{NAME}'")
    names = unique_names([os.path.abspath(shard) for shard in shards])
    places = tuple(Path(output.replace(NAME, name.replace("/", "-"))) for name in names)
    if twice := [place for place in dict.fromkeys(places) if places.count(place) > 1]:
        what = "would be the output of two data shards"
        raise UsageError(what, path=twice[0], advice="train shards of equal names separately")
    for place in places:
        for shard in shards:
            if Path(os.path.realpath(place)).is_relative_to(os.path.realpath(shard)):
                what = f"is inside the data shard {shard}, and would become training data"
                raise UsageError(what, path=place, advice="choose another output with -o")
    return places
