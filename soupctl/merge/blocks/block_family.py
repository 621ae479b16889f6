"""A family of models whose blocks have the same names, and how its table is written."""

from __future__ import annotations

from collections.abc import Mapping

from ...frozen import frozen

Blocks = Mapping[str, tuple[str, ...]]
"""The globs of each block by its name."""

MOST_NUMBERED = 64
"""Most blocks of one kind."""


def numbered(letter: str, glob: str, count: int = MOST_NUMBERED) -> dict[str, tuple[str, ...]]:
    """Blocks of a letter and a number, each with the glob that has its number."""
    return {f"{letter}{number:02}": (glob.format(number),) for number in range(count)}


def joined(*tables: Blocks) -> Blocks:
    """One table; a block in several of them gets the globs of all."""
    every: dict[str, tuple[str, ...]] = {}
    for name, globs in (item for table in tables for item in table.items()):
        every[name] = (*every.get(name, ()), *globs)
    return every


@frozen
class BlockFamily:
    """Models whose blocks have the same names."""

    name: str
    marks: tuple[tuple[str, ...], ...]
    """Groups of name prefixes; a tensor must match one of each group."""
    absent: tuple[str, ...]
    """Prefixes that no tensor may have."""
    blocks: Blocks
    others: Blocks
    """Blocks outside the denoiser, by whole names: text encoders and the VAE."""


VAE: Blocks = {"VAE": ("first_stage_model.*", "vae.*")}


def block_family(
    name: str,
    *marks: tuple[str, ...],
    blocks: Blocks,
    absent: tuple[str, ...] = (),
    others: Blocks = VAE,
) -> BlockFamily:
    """The family of models that have a tensor of each group of `marks`, and none of `absent`."""
    return BlockFamily(name, marks, absent, blocks, others)
