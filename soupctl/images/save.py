"""What was drawn, put on disk: one picture of all models, or a folder with every image.

Rule 1: like all output it appears whole or not at all, and replaces nothing unless that was asked.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain, count
from math import ceil, sqrt
from pathlib import Path

from PIL import Image

from ..errors import SoupError
from ..storage.atomic import publish_bytes, publish_folder
from ..storage.files import read_json, write_file
from ..storage.place import place_of
from .compare import Drawn
from .grid import grid, png, side_by_side, single

GRID = "grid.png"
LIST = "soupctl-sample.json"
"""Names the pictures of a folder; a folder without one is somebody else's."""


def require_place(target: Path, *, replace: bool) -> None:
    """Raise OutputError if what is drawn could not go there, before it is drawn."""
    with place_of(target) as place:
        if _is_picture(target):
            place.require_free(target, replace)
        else:
            place.require_free_folder(target, replace, _is_own)


def save_images(drawn: Sequence[Drawn], target: Path, *, with_grid: bool, replace: bool) -> None:
    """Write a picture of all models if `target` ends in `.png`; else a folder of images.

    In the folder, with several models, each has its own; `with_grid` puts the picture of all there.
    With `replace`, a folder goes that holds such images alone. Raises OutputError.
    """
    if _is_picture(target):
        publish_bytes(target, png(_together(drawn)), replace=replace)
        return
    files = {GRID: png(_together(drawn))} if with_grid else {}
    folders = _folders([each.name for each in drawn])
    for each, folder in zip(drawn, folders, strict=True):
        files |= {f"{folder}{i:04}.png": png(single(image)) for i, image in enumerate(each.images)}
    files[LIST] = (json.dumps({"files": sorted(files)}, indent=2) + "\n").encode()
    with publish_folder(target, replace=replace, may_replace=_is_own) as staging:
        for name, data in files.items():
            write_file(staging, name, data)


def _folders(names: Sequence[str]) -> list[str]:
    """A folder for each name, with a slash at its end; none for an only one."""
    if len(names) == 1:
        return [""]
    found: list[str] = []
    for name in names:
        plain = name.replace("/", "-")
        ways = chain([f"{plain}/"], (f"{plain}-{number}/" for number in count(2)))
        found.append(next(way for way in ways if way not in found))
    return found


def _together(drawn: Sequence[Drawn]) -> Image.Image:
    """A grid of each model, as square as may be, with titles if there are several."""
    grids = [(each.name, grid(each.images, ceil(sqrt(len(each.images))))) for each in drawn]
    return grids[0][1] if len(grids) == 1 else side_by_side(grids)


def _is_picture(target: Path) -> bool:
    return target.suffix.lower() == ".png"


def _is_own(folder: Path) -> bool:
    """Whether a folder holds what `hang` put there, and nothing else."""
    path = folder / LIST
    try:
        listed = read_json(path).get("files")
    except SoupError:
        return False
    found = {
        each.relative_to(folder).as_posix()
        for each in folder.rglob("*")
        if each.is_symlink() or not each.is_dir()
    }
    return isinstance(listed, list) and found <= {LIST, *map(str, listed)}
