"""Images of models on disk: one picture with a grid for each model, or a folder of images.

Rule 1: like all output it appears whole or not at all, and replaces nothing unless asked to.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain, count
from pathlib import Path

from PIL import Image

from ..errors import SoupError, UsageError
from ..storage.atomic import publish_bytes, publish_folder
from ..storage.files import read_json, write_file
from ..storage.place import place_of
from .compare import ModelImages
from .grid import as_picture, grid, png, side_by_side

GRID = "grid.png"
OTHER_PICTURES = frozenset(
    f".{ending}"
    for ending in (
        *("avif", "bmp", "eps", "exr", "gif", "heic", "heif", "jp2", "jpe", "jpeg", "jpg", "jxl"),
        *("pbm", "pdf", "pgm", "pnm", "ppm", "ps", "svg", "tga", "tif", "tiff", "webp"),
    )
)
"""File endings of picture formats that are not written."""
LIST = "soupctl-sample.json"
"""The file that lists the images of a folder; a folder without it is never replaced."""


def require_place(target: Path, *, replace: bool) -> None:
    """Raise OutputError if images could not be written there; to be called before making them.

    Raises UsageError for the name of a picture of another format.
    """
    if target.suffix.lower() in OTHER_PICTURES:
        advice = "end it in .png for a picture, or name a folder"
        raise UsageError("is not a name for a PNG file", path=target, advice=advice)
    with place_of(target) as place:
        if _is_picture(target):
            place.require_free(target, replace)
        else:
            place.require_free_folder(target, replace, _is_own)


def save_images(
    models: Sequence[ModelImages], target: Path, *, with_grid: bool, replace: bool
) -> None:
    """Write a picture of all models if `target` ends in `.png`; else a folder of images.

    In the folder, each of several models has a folder of its own; `with_grid` adds the picture of
    all. With `replace`, a folder that holds only such images is replaced. Raises OutputError.
    """
    if _is_picture(target):
        publish_bytes(target, png(_all_grids(models)), replace=replace)
        return
    files = {GRID: png(_all_grids(models))} if with_grid else {}
    folders = _folders([each.name for each in models])
    for each, folder in zip(models, folders, strict=True):
        for number, image in enumerate(each.images):
            files[f"{folder}{number:04}.png"] = png(as_picture(image))
    files[LIST] = (json.dumps({"files": sorted(files)}, indent=2) + "\n").encode()
    with publish_folder(target, replace=replace, may_replace=_is_own) as staging:
        for name, data in files.items():
            write_file(staging, name, data)


def _folders(names: Sequence[str]) -> list[str]:
    """A folder for each name, with a slash at its end; an empty text if there is one name only."""
    if len(names) == 1:
        return [""]
    found: list[str] = []
    for name in names:
        plain = name.replace("/", "-")
        folders = chain([f"{plain}/"], (f"{plain}-{number}/" for number in count(2)))
        found.append(next(folder for folder in folders if folder not in found))
    return found


def _all_grids(models: Sequence[ModelImages]) -> Image.Image:
    """A grid of each model, side by side below their names if there are several."""
    grids = [(each.name, grid(each.images, each.labels)) for each in models]
    return grids[0][1] if len(grids) == 1 else side_by_side(grids)


def _is_picture(target: Path) -> bool:
    return target.suffix.lower() == ".png"


def _is_own(folder: Path) -> bool:
    """Whether a folder holds only files that `save_images` wrote there."""
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
