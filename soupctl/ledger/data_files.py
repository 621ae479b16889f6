"""The files of a data shard by kind: images, masks, other pictures, packed images, clutter.

Rule 1: a file's kind follows from its name, from those of other files and in tables, and from the
plug-ins of Pillow that are installed; the content of a file does not matter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from ..storage.folder import other_files
from .image_metadata import IMAGE_FOLDERS, caption_files, sidecar_of

IMAGES = frozenset(
    (
        *(
            ".apng",
            ".avif",
            ".bmp",
            ".gif",
            ".jfif",
            ".jpe",
            ".jpeg",
            ".jpg",
            ".png",
            ".tif",
            ".tiff",
        ),
        ".webp",
    )
)
"""Endings of image files, in lower case."""
PICTURES = frozenset(
    (
        *(".arw", ".cr2", ".cr3", ".dds", ".dng", ".eps", ".exr", ".hdr", ".heic"),
        *(".heif", ".ico", ".j2k", ".jp2", ".jxl", ".nef", ".orf", ".pbm", ".pgm", ".pnm"),
        *(".ppm", ".psd", ".qoi", ".raf", ".rw2", ".svg", ".tga", ".xcf"),
    )
)
"""Endings of picture files that are not read without a plug-in, in lower case."""
PLUG_INS: Mapping[str, str] = {
    ".heic": "pillow-heif",
    ".heif": "pillow-heif",
    ".jxl": "pillow-jxl-plugin",
}
"""Plug-ins of Pillow that read pictures, by ending in lower case."""
MODULES: Mapping[str, str] = {"pillow-heif": "pillow_heif", "pillow-jxl-plugin": "pillow_jxl"}
"""The module of each plug-in."""
WITH_PLUG_INS = IMAGES | PLUG_INS.keys()
"""Endings of image files if all plug-ins are installed."""
PACKED: Mapping[str, str] = {
    ".zip": "unpack it with unzip",
    ".7z": "unpack it",
    ".h5": "write each image to a file",
    ".hdf5": "write each image to a file",
    ".mdb": "write each image to a file",
    ".npy": "write each image to a file",
    ".npz": "write each image to a file",
    ".tfrecord": "write each image to a file",
    "-ubyte": "write each image to a file",
    "-ubyte.gz": "write each image to a file",
    ".bin": "write each image to a file",
    ".beton": "write each image to a file",
    ".mat": "write each image to a file",
    ".pickle": "write each image to a file",
    ".pkl": "write each image to a file",
    ".rec": "write each image to a file",
    ".rar": "unpack it",
    ".tar.bz2": "unpack it",
    ".tar.xz": "unpack it",
    ".tar.zst": "unpack it",
    ".mp4": "write its frames to image files",
    ".webm": "write its frames to image files",
}
"""Endings of files that may pack images and are not read, in lower case, and how to make a data
shard of them."""
MASKS = (".mask", "-masklabel")
"""Endings, before the file type, of names that only the mask of an image has."""
MASK_WORDS = ("_mask", "-mask")
"""Such endings that images have, too, such as that of a gas mask."""
MASK_FOLDERS = ("mask", "masks")
"""Lowercase names of folders of masks that are in the folder of the images, or beside it."""
CLUTTER = frozenset(
    (
        *("$recycle.bin", "@eadir", "__macosx", "desktop.ini", "ehthumbs.db", "lost+found"),
        *("thumbs.db", "icon\r"),
    )
)
"""Files and folders that operating systems leave among images, in lower case."""


def readable_endings() -> frozenset[str]:
    """Endings of image files that can be read with the plug-ins that are installed."""
    missing = {plug_in for plug_in, module in MODULES.items() if find_spec(module) is None}
    return IMAGES | {ending for ending, plug_in in PLUG_INS.items() if plug_in not in missing}


def is_image(path: Path) -> bool:
    """Whether a file's name ends like that of an image, which may need a plug-in."""
    return path.suffix.lower() in WITH_PLUG_INS


def files_of_data(folder: Path) -> dict[str, Path]:
    """The files of a data shard by their path in its folder, without those of the operating system.

    Raises InputError for links that lead in a circle.
    """
    found = other_files(folder, lambda name: True, of_data=True)
    return {
        name: path
        for name, path in found.items()
        if not CLUTTER.intersection(part.lower() for part in name.split("/"))
    }


def images_among(
    files: Mapping[str, Path],
    endings: Collection[str] | None = None,
    listed: Collection[str] = (),
) -> dict[str, Path]:
    """The images among files by name, without the masks of other images.

    They have one of the `endings`, by default of those that can be read; see `masks_among`.
    """
    known = readable_endings() if endings is None else endings
    images = {name: path for name, path in files.items() if _ending(name) in known}
    masks = _masks(images, files, listed)
    return {name: path for name, path in images.items() if name not in masks}


def masks_among(files: Mapping[str, Path], listed: Collection[str] = ()) -> dict[str, str]:
    """The masks of other images, by name, and the path of each such image without its ending.

    An image with a caption of its own, or `listed` in a table, is no mask, unless its name can be
    that of nothing else.
    """
    known = readable_endings()
    return _masks([name for name in files if _ending(name) in known], files, listed)


def can_be_image(mask: str) -> bool:
    """Whether the name of a mask could be that of an image."""
    return not _stem(mask).endswith(MASKS)


def _masks(
    names: Iterable[str], files: Mapping[str, Path], listed: Collection[str]
) -> dict[str, str]:
    """The masks among pictures of some names; see `masks_among`."""
    stems = {_stem(name) for name in files if _ending(name) in IMAGES or _ending(name) in PICTURES}
    found = {name: stem for name in names if (stem := _masked(name, stems)) is not None}
    texts = caption_files(files) if any(map(can_be_image, found)) else {}
    return {
        name: found[name]
        for name in sorted(found)
        if not (can_be_image(name) and (name in listed or sidecar_of(name, texts) is not None))
    }


def _masked(name: str, stems: Collection[str]) -> str | None:
    """The path without its ending, of those in `stems`, that a mask is of; None for no mask."""
    stem = _stem(name)
    cut = [stem.removesuffix(each) for each in (*MASKS, *MASK_WORDS) if stem.endswith(each)]
    for each in (stem, *cut):
        cut += _beside_masks(PurePosixPath(each))
    return next((each for each in cut if each in stems), None)


def _beside_masks(path: PurePosixPath) -> Iterator[str]:
    """The possible paths of the image whose mask is at `path`, in a folder of masks."""
    for place, part in enumerate(path.parts[:-1]):
        if part.lower() in MASK_FOLDERS:
            before, after = path.parts[:place], path.parts[place + 1 :]
            yield str(PurePosixPath(*before, *after))
            for folder in (*IMAGE_FOLDERS, *map(str.capitalize, IMAGE_FOLDERS)):
                yield str(PurePosixPath(*before, folder, *after))


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))


def pictures_among(files: Iterable[str]) -> list[str]:
    """The pictures that are not read, by name."""
    unread = PICTURES - readable_endings()
    return sorted(name for name in files if _ending(name) in unread)


def _ending(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def plug_ins_for(names: Iterable[str]) -> list[str]:
    """The plug-ins of Pillow that read such pictures, by name."""
    endings = set(map(_ending, names))
    return sorted({PLUG_INS[ending] for ending in endings & PLUG_INS.keys()})


def packed_among(files: Iterable[str]) -> dict[str, str]:
    """The files that may pack images, by name, and how to make a data shard of each."""
    return {
        name: advice
        for name in sorted(files)
        for ending, advice in PACKED.items()
        if name.lower().endswith(ending)
    }
