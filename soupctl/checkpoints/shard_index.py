"""Finding the index of a shard that was given without it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from ..errors import InputError
from ..format.index import parse_index
from ..storage.files import read_file
from .preference import INDEX


def index_of_shard(file: Path) -> Path | None:
    """The index beside a file that lists it as one of several shards; None if there is none."""
    for place in sorted(file.parent.iterdir()):
        if INDEX.search(place.name):
            with suppress(InputError):
                shards = set(parse_index(read_file(place), str(place)).weight_map.values())
                if file.name in shards and len(shards) > 1:
                    return place
    return None
