"""A data shard: the images of a folder, with their captions or classes, and what identifies them.

Rule 1: every file is looked at before training begins, and all problems are told at once.
Rule 2: nothing is dropped silently: what is not an image is told of, what is bad is an error.
Rule 3: the digest covers path, bytes, captions and label of every image, and nothing else.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from blake3 import blake3
from PIL import Image, ImageOps

from ..checkpoints.digest import PREFIX, text_digest
from ..diffusion.base import Conditioning
from ..errors import InputError, Issue, OutputError, SoupError
from ..ledger.ledger_json import canonical
from ..storage.files import read_file
from ..storage.folder import other_files
from .labels import METADATA, Row, read_rows

IMAGES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"))
SIDECAR = ".txt"
WIDE_GREY = ("I", "I;16", "I;16B", "I;16L")
SHOWN = 3
REPLACED = "\ufffd"
"""What stands for bytes that are no UTF-8."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One image."""

    path: Path
    name: str
    """Path relative to the data shard, with `/`."""
    digest: str
    """Of the file's bytes."""
    size: tuple[int, int]
    """Width and height in pixels, as stored."""
    has_alpha: bool
    captions: tuple[str, ...] = ()
    """One of them is drawn for each visit."""
    label: str | None = None
    """Its class, as its folder or `metadata.jsonl` calls it."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """The images to train on, in the order of their names."""

    folder: Path
    samples: tuple[Sample, ...]
    digest: str
    notices: tuple[str, ...]
    """What a person should know of, and what need not stop anybody."""


@dataclass(frozen=True, slots=True)
class _Problem:
    """Something wrong with one file; those of one kind are told together."""

    kind: str
    name: str


def scan(
    folder: Path, conditioning: Conditioning, *, column: str = "text", skip_bad: bool = False
) -> Dataset:
    """The data shard in a folder, every image decoded once and every byte of it digested.

    Captions come from the `column` of `metadata.jsonl` or from `x.txt` beside `x.png`, classes from
    `label` there or from the folders that the images are in. Raises InputError with all problems;
    with `skip_bad`, images that have one are left out instead, and told of.
    """
    if not folder.is_dir():
        raise InputError("is no folder of images", path=folder)
    files = other_files(folder, lambda name: True)
    images = {name: path for name, path in files.items() if path.suffix.lower() in IMAGES}
    rows, problems = _rows(files, images, column)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        looks = list(pool.map(_look, images.items()))
    samples = []
    for look in looks:
        if isinstance(look, _Problem):
            problems.append(look)
            continue
        sample = _described(look, rows, files)
        if problem := _missing(sample, rows, conditioning, column):
            problems.append(problem)
        else:
            samples.append(sample)
    told = list(_told(problems))
    if problems and not skip_bad:
        raise InputError.collected(
            Issue(each, folder, advice="--skip-bad leaves such images out") for each in told
        )
    if not samples:
        raise InputError("holds no images to train on", path=folder, advice=_kinds())
    samples.sort(key=lambda sample: sample.name)
    notices = (*told, *_notices(samples, files, rows, conditioning))
    return Dataset(folder, tuple(samples), data_digest(samples), notices)


def _kinds() -> str:
    return f"images end in {', '.join(sorted(IMAGES))}"


def _rows(
    files: Mapping[str, Path], images: Mapping[str, Path], column: str
) -> tuple[dict[str, Row] | None, list[_Problem]]:
    """The rows of metadata.jsonl by the image they describe; None if there is no such file."""
    if METADATA not in files:
        return None, []
    rows, bad = read_rows(files[METADATA], column)
    problems = [_Problem(kind, name) for kind, name in bad]
    lost = [name for name in rows if name not in images]
    problems += [_Problem(f"in {METADATA}, but not there", name) for name in lost]
    return rows, problems


def _look(item: tuple[str, Path]) -> Sample | _Problem:
    """What an image's own bytes tell."""
    name, path = item
    if not _is_text(name):
        return _Problem("with a name that is not UTF-8", name)
    try:
        data = _read(path)
        with warnings.catch_warnings(), decoding(path):
            # a huge image is an error to Pillow as well, and a merely large one is none
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as image:
                size, has_alpha = image.size, image.has_transparency_data
                # all is decoded, since a header does not tell of an end that is cut off; of a
                # JPEG an eighth in each direction is enough for that
                image.draft(None, (1, 1))
                image.load()
                # how it is turned upright, and its kind of colours, can be bad as well
                plain(image, channels=3)
    except SoupError as error:
        is_bomb = isinstance(error.__cause__, Image.DecompressionBombError)
        return _Problem("too large to be decoded safely" if is_bomb else "unreadable", name)
    return Sample(path, name, _digest(data), size, has_alpha)


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Raise InputError for whatever goes wrong with the image `path` in the block."""
    try:
        yield
    except MemoryError:
        # this one does not lie in the file
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        what = f"cannot be decoded: {reason or type(error).__name__}"
        raise InputError(what, path=path) from error


def plain(image: Image.Image, channels: int) -> Image.Image:
    """The image as a person sees it, on white if it is transparent, with 1 or 3 channels."""
    return _opaque(ImageOps.exif_transpose(image)).convert("L" if channels == 1 else "RGB")


def _opaque(image: Image.Image) -> Image.Image:
    """The image on white, if it is transparent anywhere; 16-bit grey as 8-bit."""
    if image.mode in WIDE_GREY:
        values = np.asarray(image, np.float64) / 257
        return Image.fromarray(values.round().clip(0, 255).astype(np.uint8))
    if not image.has_transparency_data:
        return image
    coloured = image.convert("RGBA")
    white = Image.new("RGBA", coloured.size, "white")
    return Image.alpha_composite(white, coloured)


def _read(path: Path) -> bytes:
    return read_file(path, limit=None)


def _digest(data: bytes) -> str:
    return PREFIX + blake3(data).hexdigest()


def bytes_of(sample: Sample) -> bytes:
    """The bytes of an image; InputError if unreadable, OutputError if they are other ones now."""
    data = _read(sample.path)
    if _digest(data) != sample.digest:
        # what is trained on is what the record says
        advice = "with the old one back, the same command goes on"
        raise OutputError("changed while it was trained on", path=sample.path, advice=advice)
    return data


def _is_text(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _described(sample: Sample, rows: Mapping[str, Row] | None, files: Mapping[str, Path]) -> Sample:
    """The sample with its captions and its class, from wherever they are."""
    top, inside, _ = sample.name.partition("/")
    label = top if inside else None
    if rows is not None:
        row = rows.get(sample.name, Row())
        return replace(sample, captions=row.captions, label=row.label or label)
    sidecar = files.get(str(Path(sample.name).with_suffix(SIDECAR)))
    captions: tuple[str, ...] = ()
    if sidecar is not None:
        text = sidecar.read_text("utf-8-sig", "replace")
        captions = tuple(line.strip() for line in text.splitlines() if line.strip())
    return replace(sample, captions=captions, label=label)


def _missing(
    sample: Sample, rows: Mapping[str, Row] | None, conditioning: Conditioning, column: str
) -> _Problem | None:
    """What the base needs to be told of an image, and is not there or not legible."""
    if rows is not None and sample.name not in rows:
        return _Problem(f"not in {METADATA}", sample.name)
    if conditioning is Conditioning.TEXT and not sample.captions:
        where = f"no {column!r} in {METADATA}" if rows is not None else f"no {SIDECAR} beside it"
        return _Problem(f"without a caption ({where})", sample.name)
    if conditioning is Conditioning.TEXT and any(REPLACED in text for text in sample.captions):
        return _Problem("with a caption that is not UTF-8", sample.name)
    if conditioning is Conditioning.LABEL and sample.label is None:
        return _Problem("without a class (no folder of its own, no label)", sample.name)
    return None


def _told(problems: Sequence[_Problem]) -> Iterator[str]:
    """The problems, those of a kind together: `3 images unreadable: a.png, b.png, c.png`."""
    kinds = list(dict.fromkeys(problem.kind for problem in problems))
    for kind in kinds:
        names = [problem.name for problem in problems if problem.kind == kind]
        yield f"{counted(len(names), 'image')} {kind}: {listed(names)}"


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    rest = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def counted(number: int, noun: str) -> str:
    """So many things of a kind."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _notices(
    samples: Sequence[Sample],
    files: Mapping[str, Path],
    rows: Mapping[str, Row] | None,
    conditioning: Conditioning,
) -> Iterator[str]:
    stems = {str(Path(sample.name).with_suffix("")) for sample in samples}
    strangers = [
        name for name, path in files.items() if not _belongs(name, path, stems, rows is not None)
    ]
    if strangers:
        yield f"{counted(len(strangers), 'file')} ignored: {listed(sorted(strangers))}"
    if conditioning is Conditioning.NONE and any(each.captions or each.label for each in samples):
        yield "captions and classes are ignored: the base is unconditional"
    if alpha := sum(sample.has_alpha for sample in samples):
        yield f"{counted(alpha, 'image')} with transparency, put on white"


def _belongs(name: str, path: Path, stems: set[str], has_rows: bool) -> bool:
    if name == METADATA or path.suffix.lower() in IMAGES:
        return True
    return not has_rows and path.suffix == SIDECAR and str(Path(name).with_suffix("")) in stems


def data_digest(samples: Sequence[Sample]) -> str:
    """What identifies a data shard: BLAKE3 over `[[name,digest,captions,label],...]` as JSON."""
    rows = [[each.name, each.digest, list(each.captions), each.label] for each in samples]
    return text_digest(canonical(rows))
