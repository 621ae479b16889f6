"""The names of a model's layers in the naming that it does not use, and the rows they mean.

Rule 1: derived from the names that it has; a fused matrix is the rows of its parts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from ..format.header import Tensor
from ..frozen import frozen
from .name_pair import NamePair
from .pairs import ARCHITECTURES, FUSED, SWAPPED_IF_TWO, UNET
from .unet_blocks import unet_names


@frozen
class RowRange:
    """Rows of a tensor of the base as a matrix."""

    tensor: str
    first: int
    count: int


Target = tuple[RowRange, ...]
"""The rows of a base that a module changes, in their order."""


def whole_target(tensor: Tensor) -> Target:
    """All rows of a tensor."""
    return (RowRange(tensor.name, 0, tensor.shape[0]),)


def other_names(
    own: Mapping[str, Target], modules: Mapping[str, Tensor]
) -> Iterator[tuple[str, Target]]:
    """The names of modules, whole, fused or split, in the naming that the base does not use."""
    bare = {name.removeprefix("text_model."): target for name, target in own.items()}
    for name, target in bare.items():
        if name.startswith(IN_TEXT_MODEL):
            yield from ((f"text_model.{name}", target), (name, target))
    columns = {
        name.removeprefix("text_model."): t.shape[1] if len(t.shape) > 1 else 1
        for name, t in modules.items()
    }
    pairs = next(
        (pairs for starts, pairs in ARCHITECTURES if any(name.startswith(starts) for name in bare)),
        (),
    )
    numbers = _numbers(bare)
    for pair in pairs:
        for numbered in _numbered(pair, numbers):
            for name, target in _paired(numbered, bare, columns):
                yield name, target
                if name.startswith(IN_TEXT_MODEL):
                    yield f"text_model.{name}", target
    yield from _generic(bare, columns)
    if pairs is UNET:
        yield from ((other, bare[name]) for name, other in unet_names(bare.keys()))


IN_TEXT_MODEL = ("encoder.", "final_layer_norm", "embeddings.")
"""Beginnings of names after `text_model.`, which some files leave out."""


def _generic(own: Mapping[str, Target], columns: Mapping[str, int]) -> Iterator[tuple[str, Target]]:
    """The names of projections that any model has fused or split."""
    lasts = {last for whole, parts in FUSED for last in (whole, *parts)}
    parents = {name.rpartition(".")[0] for name in own if name.rpartition(".")[2] in lasts}
    for parent in sorted(filter(None, parents)):
        for whole, parts in FUSED:
            pair = NamePair(f"{parent}.{whole}", tuple(f"{parent}.{part}" for part in parts))
            if pair.original in own and own[pair.original][0].count != (
                len(parts) * columns[pair.original]
            ):
                # not as many rows for each part as columns
                continue
            yield from _paired(pair, own, columns)


def _numbers(names: Iterable[str]) -> Mapping[str, set[str]]:
    """The first numbers of names, by the names with `{}` for them."""
    found: dict[str, set[str]] = {}
    for name in names:
        if match := re.search(r"(?<=\.)\d+(?=\.)", name):
            form = f"{name[: match.start()]}{{}}{name[match.end() :]}"
            found.setdefault(form, set()).add(match[0])
    return found


def _numbered(pair: NamePair, numbers: Mapping[str, set[str]]) -> Iterator[NamePair]:
    """The pair for each number of a block that the names have."""
    if "{}" not in pair.original:
        yield pair
        return
    forms = (pair.original, *pair.parts)
    for number in sorted({each for form in forms for each in numbers.get(form, ())}):
        parts = tuple(part.replace("{}", number) for part in pair.parts)
        yield replace(pair, original=pair.original.replace("{}", number), parts=parts)


def _paired(
    pair: NamePair, own: Mapping[str, Target], columns: Mapping[str, int]
) -> Iterator[tuple[str, Target]]:
    """The names of the other naming, and the rows that each means."""
    if pair.original in own:
        (whole,) = own[pair.original]
        sizes = _sizes(whole.count, pair, columns[pair.original])
        for part, rows in zip(pair.parts, _split(whole, sizes), strict=False):
            yield part, _ordered(pair, (rows,), columns[pair.original])
    elif all(part in own for part in pair.parts):
        target = tuple(rows for part in pair.parts for rows in own[part])
        yield pair.original, _ordered(pair, target, columns[pair.parts[0]])


def _sizes(rows: int, pair: NamePair, columns: int) -> Sequence[int]:
    """The number of rows of each part of a fused matrix."""
    parts = len(pair.parts)
    if parts == 4:
        return (columns, columns, columns, rows - 3 * columns)
    if pair.is_grouped:
        return (columns, *((rows - columns) // 2 for _ in range(2)))
    return (rows // parts,) * parts


def _split(whole: RowRange, sizes: Sequence[int]) -> Iterator[RowRange]:
    if sum(sizes) != whole.count or min(sizes) <= 0:
        return
    first = whole.first
    for size in sizes:
        yield RowRange(whole.tensor, first, size)
        first += size


def _ordered(pair: NamePair, target: Target, columns: int) -> Target:
    """The target, its halves swapped if the two namings have them in different orders."""
    count = sum(rows.count for rows in target)
    last = re.sub(r"\d+", "{}", pair.original, count=1) == SWAPPED_IF_TWO and count == 2 * columns
    if len(target) > 1 or not (pair.is_swapped or last):
        return target
    ((tensor, first, _),) = ((rows.tensor, rows.first, 0) for rows in target)
    half = count // 2
    return RowRange(tensor, first + half, count - half), RowRange(tensor, first, half)
