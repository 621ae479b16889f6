"""The files of a data shard by kind: images, masks, other pictures, packed images, clutter.

Rule 1: a file's kind follows from its name alone, so training and `has` agree about it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from ..storage.folder import other_files

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
"""Endings of picture files that are not read, in lower case."""
PLUG_INS: Mapping[str, str] = {
    ".heic": "pillow-heif",
    ".heif": "pillow-heif",
    ".jxl": "pillow-jxl-plugin",
}
"""Plug-ins of Pillow that can convert pictures which are not read, by ending in lower case."""
PACKED: Mapping[str, str] = {
    ".zip": "unpack it with unzip",
    ".7z": "unpack it",
    ".h5": "write each image to a file",
    ".hdf5": "write each image to a file",
    ".mdb": "write each image to a file",
    ".npy": "write each image to a file",
    ".npz": "write each image to a file",
    ".tfrecord": "write each image to a file",
}
"""Endings of files that may pack images and are not read, in lower case, and how to make a data
shard of them."""
MASKS = (".mask", "-masklabel")
"""Endings, before the file type, by which other programs mark the mask of an image."""
CLUTTER = frozenset(
    (
        *("$recycle.bin", "@eadir", "__macosx", "desktop.ini", "ehthumbs.db", "lost+found"),
        *("thumbs.db", "icon\r"),
    )
)
"""Files and folders that operating systems leave among images, in lower case."""


def is_image(path: Path) -> bool:
    """Whether a file's name ends like that of an image."""
    return path.suffix.lower() in IMAGES


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


def images_among(files: Mapping[str, Path]) -> dict[str, Path]:
    """The images among files by name, without the masks of other images."""
    images = {name: path for name, path in files.items() if is_image(path)}
    stems = {str(PurePosixPath(name).with_suffix("")) for name in images}
    return {name: path for name, path in images.items() if not _is_mask(name, stems)}


def masks_among(files: Mapping[str, Path]) -> dict[str, str]:
    """The masks of other images, by name, and the path of each such image without its ending."""
    images = images_among(files)
    masks = sorted(name for name, path in files.items() if is_image(path) and name not in images)
    stems = {str(PurePosixPath(name).with_suffix("")) for name in images}
    return {name: stem for name in masks for stem in [_masked(name, stems)] if stem is not None}


def _is_mask(name: str, stems: Iterable[str]) -> bool:
    return _masked(name, stems) is not None


def _masked(name: str, stems: Iterable[str]) -> str | None:
    """The path without its ending, of those in `stems`, that a mask is of; None for no mask."""
    stem = str(PurePosixPath(name).with_suffix(""))
    found = (stem.removesuffix(mask) for mask in MASKS if stem.endswith(mask))
    return next((each for each in found if each in stems), None)


def pictures_among(files: Iterable[str]) -> list[str]:
    """The pictures that are not read, by name."""
    return sorted(name for name in files if PurePosixPath(name).suffix.lower() in PICTURES)


def plug_ins_for(names: Iterable[str]) -> list[str]:
    """The plug-ins of Pillow that can convert these pictures, by name."""
    endings = {PurePosixPath(name).suffix.lower() for name in names}
    return sorted({PLUG_INS[ending] for ending in endings & PLUG_INS.keys()})


def packed_among(files: Iterable[str]) -> dict[str, str]:
    """The files that may pack images, by name, and how to make a data shard of each."""
    return {
        name: advice
        for name in sorted(files)
        for ending, advice in PACKED.items()
        if name.lower().endswith(ending)
    }
