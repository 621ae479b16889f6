"""Resolving requested weights by block into globs of tensors with a weight for each ingredient.

Rule 1: a glob that matches no tensor is refused; one that earlier globs cover is left out.
Rule 2: an ingredient with weight zero in every tensor is refused.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from fnmatch import translate
from fractions import Fraction

from ...errors import Issue, UsageError, shortened
from ...frozen import frozen
from ...ledger.block_weights import WeightTuple
from ..recipe import meant_by
from .families import SDXL, NamedBlocks, named_blocks
from .request import BlockWeights, ClassicBlocks

_IN, _OUT = [f"IN{n:02}" for n in range(12)], [f"OUT{n:02}" for n in range(12)]
CLASSIC = {
    26: ("BASE", *_IN, "M00", *_OUT),
    20: ("BASE", *_IN[:9], "M00", *_OUT[:9]),
    61: (
        *("CLIP", "T5", "IN"),
        *(f"D{n:02}" for n in range(19)),
        *(f"S{n:02}" for n in range(38)),
        "OUT",
    ),
}
"""The blocks of a classic string by its length (SuperMerger, mergers.py)."""
EMBEDDING = "EMB"
FIRSTS = {EMBEDDING, "GUIDE", "VAE"}
"""Blocks that no classic string has: embeddings of time and labels are the first ingredient's, the
others have the share of BASE, or none if that is not a number."""


@frozen
class ResolvedBlocks:
    """Weights of ingredients by block, in the form of a recipe."""

    default: WeightTuple
    blocks: tuple[tuple[str, WeightTuple], ...]


def resolve(
    asked: BlockWeights | ClassicBlocks,
    labels: Sequence[str],
    weights: WeightTuple,
    names: Collection[str],
) -> ResolvedBlocks:
    """The weights for ingredients called `labels`, whose tensors have these `names`.

    `weights` are the ingredients' own. Raises UsageError for weights that do not fit the
    ingredients, and for blocks that the tensors do not have.
    """
    known = named_blocks(names)
    given = _classic(asked, known, labels) if isinstance(asked, ClassicBlocks) else asked
    if given.default is not None and any(weight != 1 for weight in weights):
        what = "--blocks has default weights, and the ingredients have weights of their own"
        raise UsageError(what, advice="use one of them")
    default = weights if given.default is None else given.default
    _require_one_each(len(labels), default, given.blocks)
    blocks = tuple(_as_globs(given.blocks, known, names))
    used = _used(blocks, names)
    _require_counted(labels, default, blocks, used)
    return ResolvedBlocks(default, tuple(blocks[place] for place in sorted(used - {-1})))


def resolve_scales(
    asked: BlockWeights | ClassicBlocks,
    base: str,
    deltas: Sequence[str],
    scales: WeightTuple,
    names: Collection[str],
) -> ResolvedBlocks:
    """The scales of deltas by block, on a base called `base` whose tensors have these `names`.

    A classic string has the scales of one delta, each times the delta's own. Raises what `resolve`
    raises.
    """
    if not isinstance(asked, ClassicBlocks):
        return resolve(asked, deltas, scales, names)
    if len(deltas) != 1:
        what = f"--blocks has the scales of one delta, and there are {len(deltas)}"
        raise UsageError(what, advice="a file has scales for any number of them")
    (scale,) = scales
    given = _classic(asked, named_blocks(names), (base, *deltas))
    blocks = tuple((name, (share * scale,)) for name, (_, share) in given.blocks)
    _, usual = given.default or (0, Fraction(0))
    return resolve(BlockWeights(blocks, (usual * scale,)), deltas, (Fraction(1),), names)


def _require_one_each(
    count: int, default: WeightTuple, blocks: Sequence[tuple[str, WeightTuple]]
) -> None:
    """Raise UsageError for lists of more or fewer weights than there are ingredients."""
    issues = [
        Issue(
            f"--blocks {shortened(key)} has {len(weights)} weight{'s' * (len(weights) != 1)}"
            f" for {count} ingredients"
        )
        for key, weights in (("default", default), *blocks)
        if len(weights) != count
    ]
    if issues:
        raise UsageError.collected(issues)


def _as_globs(
    blocks: Sequence[tuple[str, WeightTuple]], known: NamedBlocks | None, names: Collection[str]
) -> Iterator[tuple[str, WeightTuple]]:
    """Each block as globs; UsageError, with similar names, for those that match nothing."""
    named = {} if known is None else known.globs
    issues = []
    for key, weights in blocks:
        globs = named.get(key, (key,))
        if not any(any(map(re.compile(translate(glob)).match, names)) for glob in globs):
            what = f"--blocks {shortened(key)!r} matches no tensor"
            issues.append(Issue(what, advice=meant_by(key, names, named)))
        yield from ((glob, weights) for glob in globs)
    if issues:
        raise UsageError.collected(issues)


def _used(blocks: Sequence[tuple[str, WeightTuple]], names: Collection[str]) -> set[int]:
    """The indices of globs that are the first to match a tensor; with -1 if some match none."""
    matches = [re.compile(translate(glob)).match for glob, _ in blocks]
    return {
        next((place for place, match in enumerate(matches) if match(name)), -1) for name in names
    }


def _require_counted(
    labels: Sequence[str],
    default: WeightTuple,
    blocks: Sequence[tuple[str, WeightTuple]],
    used: Collection[int],
) -> None:
    """Raise UsageError for ingredients whose weight is zero in every tensor."""
    columns = [default if place < 0 else blocks[place][1] for place in used]
    issues = [
        Issue("has weight 0 in every tensor", label, advice="leave it out")
        for label, weights in zip(labels, zip(*columns, strict=True), strict=True)
        if not any(weights)
    ]
    if issues:
        raise UsageError.collected(issues)


def _classic(
    asked: ClassicBlocks, known: NamedBlocks | None, labels: Sequence[str]
) -> BlockWeights:
    """The weights of two ingredients; UsageError for a model that has other blocks."""
    count = len(asked.shares)
    if len(labels) != 2:
        what = f"--blocks has shares of a second ingredient, and there are {len(labels)}"
        raise UsageError(what, advice="a file has weights for any number of ingredients")
    if known is None:
        what = f"is not of a kind of model that has {count} blocks"
        raise UsageError(what, path=labels[0], advice="a file has weights by glob")
    shares = dict(zip(CLASSIC[count], asked.shares, strict=True))
    if count == len(CLASSIC[26]) and known.family == SDXL:
        # as in SuperMerger: SDXL lacks the last three blocks on each side
        shares = {name: shares[name] for name in CLASSIC[20]}
    fits = shares.keys() | FIRSTS
    if other := [name for name in known.globs if name not in fits]:
        what = f"looks like {known.family}, with {other[0]}, which {count} numbers do not have"
        raise UsageError(what, path=labels[0], advice="a file has weights by name of block")
    base = shares.get("BASE", Fraction(0))
    blocks = [
        (name, _pair(shares.get(name, Fraction(0))))
        for name in known.globs
        if name in shares or name == EMBEDDING
    ]
    return BlockWeights(tuple(blocks), _pair(base))


def _pair(share: Fraction) -> WeightTuple:
    return Fraction(1) - share, Fraction(share)
