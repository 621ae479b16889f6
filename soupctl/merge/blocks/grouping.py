"""Grouping the tensors of a checkpoint for a listing: by named or by numbered blocks."""

from __future__ import annotations

from collections.abc import Callable, Collection

from .families import named_blocks

FEW = 20
"""The most tensors listed one by one, and the most blocks listed."""


def block_of(names: Collection[str]) -> Callable[[str], str]:
    """The block of each of the tensors called `names`: a named one if the model is known.

    Tensors in no named block, and those of other models, are grouped as in `numbered_grouping`.
    """
    known = named_blocks(names)
    other = numbered_grouping(names)
    if known is None:
        return other
    blocks = {glob: name for name, globs in known.globs.items() for glob in globs}

    def named(name: str) -> str:
        end = len(name)
        if name in blocks:
            return blocks[name]
        while (end := name.rfind(".", 0, end)) >= 0:
            if (glob := f"{name[: end + 1]}*") in blocks:
                return blocks[glob]
        return other(name)

    return named


def numbered_grouping(names: Collection[str]) -> Callable[[str], str]:
    """The finest grouping of names that makes few groups, or else the coarsest."""
    ways = (_numbered_block, _kind_of_block, _first_part)
    fits = (way for way in ways if len({*map(way, names)}) <= FEW)
    return next(fits, _first_part)


def _numbered_block(name: str) -> str:
    """`down_blocks.0` of `down_blocks.0.resnets.1.weight`; the first part if there is no number."""
    parts = name.split(".")
    number = next((place for place, part in enumerate(parts) if part.isdecimal()), 0)
    return ".".join(parts[: number + 1])


def _kind_of_block(name: str) -> str:
    """`down_blocks.*` of `down_blocks.0.resnets.1.weight`."""
    block, dot, number = _numbered_block(name).rpartition(".")
    return f"{block}.*" if dot and number.isdecimal() else number


def _first_part(name: str) -> str:
    return name.partition(".")[0]


def in_order(name: str) -> list[tuple[int, str]]:
    """A key that sorts `blocks.2` before `blocks.10`."""
    # by the number of digits first, because a name may have more digits than Python parses
    return [(len(part) if part.isdecimal() else 0, part) for part in name.split(".")]
