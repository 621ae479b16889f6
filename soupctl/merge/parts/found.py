"""The parts that were made of a soup: found, and refused if they do not belong together.

Rule 1: everything that names and records tell is checked before anything is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ... import __version__
from ...checkpoints.safetensors import SafetensorsFile, StoredTensor, open_safetensors
from ...errors import InputError, Issue, MismatchError, OutputError
from ...format.header import Tensor
from ...frozen import frozen
from ...pattern import pattern
from .divide import PartOfPlan
from .make import folder_beside, name_of
from .record import PartRecord, Stamps, read_record

NAME = pattern(r"([1-9][0-9]{0,5})-of-([1-9][0-9]{0,5})\.safetensors")
SHOWN = 5


@frozen
class FoundPart:
    """The file of a part, open, with its record."""

    file: SafetensorsFile
    record: PartRecord
    tensors: Mapping[str, Tensor]
    """The tensors in its file by name."""

    def stored(self, name: str) -> StoredTensor:
        """One of them, open for reading."""
        return self.file.stored(self.tensors[name])


@contextmanager
def open_parts(output: str | Path) -> Iterator[tuple[FoundPart, ...]]:
    """All parts of a soup, by number; they are of one plan, and made by this version.

    Raises InputError for missing and damaged parts, MismatchError for parts that do not belong
    together.
    """
    folder = folder_beside(output)
    count, numbers = _numbers(folder, Path(output))
    missing = sorted({*range(1, count + 1)} - numbers)
    if missing:
        what = f"lacks {_runs(missing)} of {count}"
        them = "it" if len(missing) == 1 else "them"
        raise InputError(
            what, path=folder, advice=f"make {them} with avg --part {missing[0]}/{count}"
        )
    with ExitStack() as stack:
        found: list[FoundPart] = []
        for number in range(1, count + 1):
            part = PartOfPlan(number, count)
            found.append(stack.enter_context(found_part(folder / name_of(part), part, found)))
        yield tuple(found)


@contextmanager
def found_part(path: Path, part: PartOfPlan, others: Sequence[FoundPart]) -> Iterator[FoundPart]:
    """The file of a part, which belongs to `others`; raises what `open_parts` raises."""
    with open_safetensors(path) as file:
        record = read_record(file.header.metadata, path)
        _require_fitting(path, part, record, others)
        yield FoundPart(file, record, {tensor.name: tensor for tensor in file.header.tensors})


def require_current(parts: Sequence[FoundPart], plan: str, stamps: Stamps) -> None:
    """Raise OutputError unless the inputs are as they were when the parts were made."""
    now = {path: (size, time) for path, size, time in stamps}
    issues = []
    for each in parts:
        for path, size, time in each.record.inputs:
            if now.get(path) != (size, time):
                part = each.record.part
                what = f"changed after part {part} was made"
                advice = f"make it again with avg --part {part}"
                issues.append(Issue(what, path, advice=advice))
                break
    if issues:
        raise OutputError.collected(issues)
    first = parts[0]
    if first.record.plan != plan:
        what = "the plan that its parts were made by is not that of the inputs now"
        raise OutputError(what, path=first.file.path.parent, advice="make all parts again")


def _numbers(folder: Path, output: Path) -> tuple[int, set[int]]:
    """How many parts the soup has, and the numbers of those that are there."""
    try:
        names = sorted(path.name for path in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        names = []
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", path=folder) from error
    numbers: dict[int, set[int]] = {}
    for name in names:
        if name.startswith("."):
            # a part that is being made, or was killed, where files cannot be without a name
            continue
        found = NAME.fullmatch(name)
        if found is None:
            raise MismatchError(
                "is not a part of a soup", path=folder / name, advice="move it away"
            )
        numbers.setdefault(int(found[2]), set()).add(int(found[1]))
    if not numbers:
        advice = "name the output of avg --part"
        raise InputError("has no parts", path=output, advice=advice)
    if len(numbers) > 1:
        counts = " and of ".join(map(str, sorted(numbers)[:SHOWN]))
        what = f"holds parts of {counts}"
        raise MismatchError(what, path=folder, advice="remove those that are not wanted")
    ((count, present),) = numbers.items()
    return count, {number for number in present if number <= count}


def _require_fitting(
    path: Path, part: PartOfPlan, record: PartRecord, others: Sequence[FoundPart]
) -> None:
    """Raise MismatchError for a part that does not belong to those before it."""
    again = f"make it again with avg --part {part}"
    if record.version != __version__:
        what = f"was made by soupctl {record.version}, and this is {__version__}"
        raise MismatchError(what, path=path, advice=again)
    if record.part != part:
        what = f"holds part {record.part} under another name"
        raise MismatchError(what, path=path, advice=f"remove it, and {again}")
    if others and record.plan != others[0].record.plan:
        what = f"is of another plan than part {others[0].record.part}: inputs or options differ"
        raise MismatchError(what, path=path, advice="make all parts with the same command")


def _runs(numbers: Sequence[int]) -> str:
    """The numbers in words, such as `parts 2, 5-7`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    shown = [str(a) if a == b else f"{a}-{b}" for a, b in runs[:SHOWN]]
    more = " and more" if len(runs) > SHOWN else ""
    return f"{'part' if len(numbers) == 1 else 'parts'} {', '.join(shown)}{more}"
