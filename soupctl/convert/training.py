"""The training record of a checkpoint that another trainer made.

Rule 1: the tensors are copied bit for bit, and the input is never changed.
Rule 2: of a pipeline, only those components get a record whose tensors differ from the base's.
Rule 3: the record says what `finetune` says of its own runs: digests of the base and of the data
shard, its name, images and steps. That they are those of this training is the user's word.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.digest import text_digest
from ..checkpoints.hashing import checkpoint_digest, content_digests
from ..checkpoints.open import STREAM, find_input
from ..errors import InputError, Issue, LedgerError, MismatchError, OutputError, UsageError
from ..frozen import frozen
from ..ledger.data_shard import COLUMN, data_digest, is_data_folder, read_data_folder
from ..ledger.json_values import parse_digest
from ..ledger.ledger import Ledger, runs
from ..ledger.ledger_json import encode_ledger
from ..ledger.names import printable
from ..ledger.read import ledger_text
from ..ledger.training_record import TrainingRecord
from .conversion import Conversion, open_conversion
from .request import ConvertRequest

RAW, EMA = "raw", "ema"
TRAINER, CAPTION_COLUMN = "trainer", "caption_column"
"""The names of options in the record."""


@frozen
class RecordRequest:
    """A checkpoint to give a training record, and what that says."""

    source: str | Path
    output: str | Path
    data: Path
    """The folder of the images that it was trained on."""
    base: str
    """What the training started from: a path, or a content digest."""
    steps: int
    """Optimizer steps."""
    trainer: str | None = None
    """The program that trained it, with its version."""
    is_average: bool = False
    """Whether it has the moving average of the weights."""
    column: str = COLUMN
    """The field of metadata.jsonl that has the captions."""
    variant: str | None = None
    ignore_ledger: bool = False
    """Whether a ledger that it has already is replaced."""

    def __post_init__(self) -> None:
        """Raise UsageError for a training without steps, and for standard input."""
        if type(self.steps) is not int or self.steps < 1:
            raise UsageError("a training needs at least one step", advice="--steps N")
        if str(self.output).lower().endswith(".gguf"):
            what = "a GGUF file holds no training record"
            raise UsageError(what, path=self.output, advice="name a .safetensors file, or a folder")
        if self.source == STREAM:
            raise UsageError("a checkpoint is read twice to record its training", advice="name it")


@contextmanager
def open_record(asked: RecordRequest) -> Iterator[Conversion]:
    """The copy of a checkpoint with its training record, planned and not yet written.

    Digests the data, the checkpoint and its base. Raises InputError for a folder without images,
    LedgerError for a checkpoint with a ledger, MismatchError for one that equals its base, and what
    `open_conversion` raises.
    """
    request = ConvertRequest(
        source=asked.source,
        output=asked.output,
        variant=asked.variant,
        ignore_ledger=asked.ignore_ledger,
    )
    with open_conversion(request) as job:
        _require_other_place(job, asked)
        _require_no_ledger(job.checkpoints, asked)
        names = [component.name for component in job.inputs.components]
        bases = _base_digests(asked, names)
        roots = [checkpoint_digest(each) for each in job.checkpoints]
        trained = [root != base for root, base in zip(roots, bases, strict=True)]
        if not any(trained):
            what = "has the tensors of its base, so nothing was trained"
            raise MismatchError(
                what, path=asked.source, advice="give --base the model that training began with"
            )
        samples, digest = _data(asked)
        trainings = [
            _training(asked, base, samples, digest) if is_trained else None
            for base, is_trained in zip(bases, trained, strict=True)
        ]
        ledgers = tuple(
            None if training is None else _ledger(checkpoint, root, training)
            for checkpoint, root, training in zip(job.checkpoints, roots, trainings, strict=True)
        )
        yield replace(job, ledgers=ledgers, trainings=tuple(trainings))


def _require_other_place(job: Conversion, asked: RecordRequest) -> None:
    """Raise OutputError for an output that would replace the base, or change the data."""
    path = job.destination.path
    if path is None:
        return
    place = Path(os.path.realpath(path))
    within = Path(os.path.realpath(asked.data)) in (place, *place.parents)
    if within and is_data_folder(asked.data):
        raise OutputError("is within the data", path=path, advice="choose another output")
    if path.exists() and Path(asked.base).exists():
        files = [Path(asked.base), *(each.path for each in find_input(asked.base).components)]
        if any(each.exists() and each.samefile(path) for each in files):
            raise OutputError("is the base", path=path, advice="choose another output")


def _require_no_ledger(checkpoints: Sequence[Checkpoint], asked: RecordRequest) -> None:
    if asked.ignore_ledger:
        return
    issues = [
        Issue("has a ledger already", each.label, advice="--ignore-ledger replaces it")
        for each in checkpoints
        if ledger_text(each) is not None
    ]
    if issues:
        raise LedgerError.collected(issues)


def _base_digests(asked: RecordRequest, names: Sequence[str]) -> list[str]:
    """The content digest of what each component of the checkpoint was trained from."""
    try:
        digest = parse_digest(asked.base)
    except ValueError:
        return _digests_at(asked, names)
    if len(names) > 1:
        what = "is a pipeline, of which each component has a base of its own"
        raise UsageError(what, path=asked.source, advice="give the path of its base to --base")
    return [digest]


def _digests_at(asked: RecordRequest, names: Sequence[str]) -> list[str]:
    known = [each.name for each in find_input(asked.base, variant=asked.variant).components]
    if len(names) == 1 and len(known) == 1:
        wanted: Sequence[str | None] = [None]
    else:
        own = names if len(names) > 1 else [names[0] or Path(os.path.abspath(asked.source)).name]
        if lacking := [name for name in own if name not in known]:
            what = f"has no component {lacking[0]}, only {', '.join(known)}"
            advice = "--base names the folder of the component that was trained, such as BASE/unet"
            raise UsageError(what, path=asked.base, advice=advice)
        wanted = own if known != [""] else [None]
    found: dict[str | None, str] = {
        name: content_digests(asked.base, component=name, variant=asked.variant)[0].digest
        for name in wanted
    }
    return [found[name] for name in wanted]


def _data(asked: RecordRequest) -> tuple[int, str]:
    """The number of images of the data shard, and its digest."""
    if asked.data.is_dir() and not is_data_folder(asked.data):
        what = "is not a folder of images: it has none, or also holds weights"
        raise InputError(what, path=asked.data, advice="--data names the images of the training")
    folder = read_data_folder(asked.data)
    if problems := folder.problems(asked.column):
        raise InputError.collected(Issue(problem, asked.data) for problem in problems)
    images = folder.images(asked.column)
    return len(images), data_digest(images)


def _training(asked: RecordRequest, base: str, samples: int, data: str) -> TrainingRecord:
    options: Mapping[str, str | None] = {
        TRAINER: asked.trainer,
        CAPTION_COLUMN: asked.column if asked.column != COLUMN else None,
    }
    return TrainingRecord(
        base=base,
        data=data,
        data_name=printable(Path(os.path.abspath(asked.data)).name),
        samples=samples,
        steps=asked.steps,
        weights=EMA if asked.is_average else RAW,
        options={name: printable(value) for name, value in options.items() if value is not None},
        versions={},
    )


def _ledger(checkpoint: Checkpoint, root: str, training: TrainingRecord) -> str:
    dtypes = runs(tensor.dtype for _, tensor in sorted(checkpoint.tensors.items()))
    return encode_ledger(Ledger("trained", root, (), dtypes, training=training), text_digest)
