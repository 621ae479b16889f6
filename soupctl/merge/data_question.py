"""Answering whether a soup's ingredients were trained on a folder of images, or on one image.

Rule 1: a folder is a data shard if a ledger records its digest; the same holds for the list of a
data shard's images.
Rule 2: the answer is no only if the training data of every ingredient is recorded. The training
data of the bases is not considered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from ..checkpoints.layout import ModelFiles
from ..checkpoints.open import open_input
from ..errors import InputError, LedgerError, SoupError
from ..ledger.data_shard import (
    COLUMN,
    RECORD,
    DataFolder,
    ImageRecord,
    data_digest,
    file_digest,
    is_data_folder,
    read_data_folder,
    read_data_record,
)
from ..ledger.ledger import IngredientEntry, Ledger
from ..ledger.lookup import holding
from ..ledger.read import read_ledger
from ..ledger.training_record import TrainingRecord
from .answer import Answer, Known, TrainedOn, cannot_tell
from .opened_inputs import folder_of
from .unknown_history import placed, require_known

if TYPE_CHECKING:
    from .revision import Revision

COLUMN_OPTION = "caption_column"
"""The training option for the field of captions, by its name in a record."""
LEVELS_UP = 3
"""The number of levels above an ingredient's weights at which its run's folder may be."""
ADVICE = f"--search DIR looks for {RECORD}, the list that training leaves in a run's folder"


def trainings_of(ledger: Ledger) -> tuple[TrainingRecord, ...]:
    """The records of every training in a soup's ledger."""
    known = (ledger, *ledger.ancestors.values())
    return tuple(each.training for each in known if each.training is not None)


def ask_for_folder(folder: Path, soup: str, known: Known, search: Sequence[Path]) -> Answer:
    """Whether any ingredient was trained on the images of a folder; raises the errors of `ask`."""
    asked = read_data_folder(folder)
    trainings = _trainings(known)
    found = _trained_on(asked, trainings)
    if not found:
        lists = _lists(known, search, set(trainings))
        images = set(asked.digests.values())
        for digest, listed in lists.items():
            share = sum(each.digest in images for each in listed)
            if share == len(listed):
                found.append(trainings[digest])
            elif share:
                reason = f"{trainings[digest].data_name} has {share} of its images, not all"
                raise cannot_tell(folder, soup, reason, "ask for its images one by one")
    if found:
        return _answer(known, [(each, ()) for each in found])
    _require_recorded(folder, soup, known)
    return Answer(False, notes=tuple(_namesakes(folder, trainings)))


def ask_for_image(path: Path, soup: str, known: Known, search: Sequence[Path]) -> Answer:
    """Whether any ingredient was trained on an image; raises the errors of `ask`."""
    digest = file_digest(path)
    trainings = _trainings(known)
    lists = _lists(known, search, set(trainings))
    if missing := trainings.keys() - lists.keys():
        lists |= _lists_around(path, {each: trainings[each] for each in missing})
    found = []
    for data, listed in lists.items():
        if names := tuple(each.name for each in listed if each.digest == digest):
            found.append((trainings[data], names))
    if found:
        return _answer(known, found)
    if missing := trainings.keys() - lists.keys():
        shards = ", ".join(sorted(trainings[each].data_name for each in missing))
        raise cannot_tell(path, soup, f"no list of the images in {shards} is found", ADVICE)
    _require_recorded(path, soup, known)
    return Answer(False)


def data_digests(folder: DataFolder, column: str) -> dict[str, Sequence[ImageRecord]]:
    """The digests that training may have recorded for a folder, each with its images.

    With `--skip-bad`, images without a caption or a class are left out if the base needs one, and
    without plug-ins of Pillow, those that need them.
    """
    digests: dict[str, Sequence[ImageRecord]] = {}
    for whole, endings in product((False, True), folder.readings()):
        images = folder.images(column, whole=whole, endings=endings)
        captioned = [image for image in images if image.captions]
        labelled = [image for image in images if image.label is not None]
        digests |= {data_digest(each): each for each in (labelled, captioned, images) if each}
    return digests


def with_data_digests(revision: Revision, soup: ModelFiles) -> Revision:
    """The revision with folders of images to remove replaced by digests of data shards.

    Raises LedgerError for a folder on which nothing in the soup was trained.
    """
    if not any(is_data_folder(Path(each.what)) for each in revision.removals):
        return revision
    trainings: dict[str, TrainingRecord] = {}
    # a stream can be read only once
    for component in (each for each in soup.components if each.files):
        with open_input(component) as checkpoint:
            ledger = read_ledger(checkpoint)
        if ledger is not None:
            trainings |= {each.data: each for each in trainings_of(ledger)}
    return replace(
        revision,
        removed=[
            replace(each, what=_data_of(each.what, trainings, soup.label))
            if is_data_folder(Path(each.what))
            else each
            for each in revision.removals
        ],
    )


def _data_of(folder: str, trainings: Mapping[str, TrainingRecord], soup: str) -> str:
    """The digest of the data shard in a folder, computed as a training recorded it."""
    asked = read_data_folder(Path(folder))
    found = _trained_on(asked, trainings)
    if not found:
        advice = f"has {soup} {folder} says more"
        raise LedgerError(f"is not training data of anything in {soup}", path=folder, advice=advice)
    return found[0].data


def _trained_on(
    folder: DataFolder, trainings: Mapping[str, TrainingRecord]
) -> list[TrainingRecord]:
    """The trainings that recorded the digest of a folder."""
    columns = {each.options.get(COLUMN_OPTION, COLUMN) for each in trainings.values()} | {COLUMN}
    digests = {digest for column in sorted(columns) for digest in data_digests(folder, column)}
    return [each for digest, each in trainings.items() if digest in digests]


def _trainings(known: Known) -> dict[str, TrainingRecord]:
    """One of the trainings on each data shard, by its digest."""
    return {each.data: each for _, ledger in known for each in trainings_of(ledger)}


def _answer(known: Known, found: Sequence[tuple[TrainingRecord, tuple[str, ...]]]) -> Answer:
    """A yes: the ingredients that were trained on these data shards, or contain such."""
    wanted = {training.data for training, _ in found}
    entries: list[IngredientEntry] = []
    for _, ledger in known:
        trained = [
            root
            for root, each in ledger.ancestors.items()
            if each.training is not None and each.training.data in wanted
        ]
        entries += holding(trained, ledger)
    data = [TrainedOn(each.data_name, each.data, each.samples, images) for each, images in found]
    return Answer(True, tuple(entries), tuple(data))


def _require_recorded(what: Path, soup: str, known: Known) -> None:
    """Raise UsageError unless the training data of every ingredient is recorded."""
    require_known(what, soup, known)
    recorded = any(map(trainings_of, (ledger for _, ledger in known)))
    for _, ledger in known:
        # components of a pipeline that training leaves unchanged have no record
        if recorded and not trainings_of(ledger):
            continue
        for each in placed(None, ledger):
            if each.known is None:
                reason = f"the training data of {each.entry.name} is not recorded"
                raise cannot_tell(what, soup, reason, "ask those who trained it")


def _namesakes(folder: Path, trainings: Mapping[str, TrainingRecord]) -> Iterator[str]:
    name = folder.resolve().name
    for each in trainings.values():
        if each.data_name == name:
            yield f"it was trained on a data shard of the same name with other content, {each.data}"


def _lists(
    known: Known, search: Sequence[Path], wanted: set[str]
) -> dict[str, tuple[ImageRecord, ...]]:
    """The images of the wanted data shards by digest, from the records beside the ingredients."""
    found: dict[str, tuple[ImageRecord, ...]] = {}
    for path in _records(known, search):
        if wanted <= found.keys():
            break
        try:
            listed = read_data_record(path)
        except SoupError:
            continue
        digest = data_digest(listed)
        if digest in wanted:
            found[digest] = listed
    return found


def _records(known: Known, search: Sequence[Path]) -> Iterator[Path]:
    """The possible paths of the record of a data shard."""
    for checkpoint, ledger in known:
        folder = folder_of(checkpoint)
        paths = [each.path for each in placed(folder, ledger) if each.path is not None]
        if ledger.training is not None and folder is not None:
            paths.append(folder / "model")
        for path in paths:
            yield from (parent / RECORD for parent in path.parents[:LEVELS_UP])
    for place in search:
        if not place.is_dir():
            raise InputError("is not a folder to search", path=place)
        yield from sorted(place.rglob(RECORD))


def _lists_around(
    image: Path, trainings: Mapping[str, TrainingRecord]
) -> dict[str, tuple[ImageRecord, ...]]:
    """The images of data shards that are the folders around an image, by their digests."""
    found = {}
    for folder in image.absolute().parents[:2]:
        try:
            asked = read_data_folder(folder)
        except SoupError:
            continue
        for digest, training in trainings.items():
            digests = data_digests(asked, training.options.get(COLUMN_OPTION, COLUMN))
            if digest in digests:
                found[digest] = tuple(digests[digest])
    return found
