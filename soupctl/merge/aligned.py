"""Checkpoints under the names that a soup gives their tensors.

Rule 1: the soup has the names of its first ingredient, and keeps its names as long as an ingredient
has them; nothing else about a soup depends on the order.
Rule 2: a missing copy counts as present if it equals its original in all files that have both.
Rule 3: content digests are those of the files as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from ..checkpoints.checkpoint import Checkpoint
from ..format.header import Tensor
from ..format.values import first_difference
from ..frozen import frozen
from ..kinds.classify import classify
from ..kinds.copies import is_ema, originals
from ..kinds.facts import NO_FACTS
from ..kinds.kind import Role
from ..kinds.names import Renaming, closest_renaming, renaming
from ..workers import Scratch
from .adapter_reader import AdapterReader
from .delta.reader import DeltaReader
from .facts import facts_of_source
from .kept_sum.reader import AlignedCheckpoint, Source, SumReader
from .plan import Plan, make_plan
from .recipe import Recipe, first_match
from .scaled_codes import absorbed

Contents = Mapping[str, Tensor]


@frozen
class Alignment:
    """The sources of a soup under its names."""

    sources: tuple[Source, ...]
    renamed: tuple[str | None, ...]
    """The renaming that was undone in each source; None if it has the soup's names."""
    copies: frozenset[str]
    """Copies that count as present although some sources lack them."""
    donors: int = 0
    """The number of donors, which are the last of the sources."""

    @property
    def ingredients(self) -> tuple[Source, ...]:
        """The sources without the donors."""
        return self.sources[: len(self.sources) - self.donors]

    @property
    def is_plain(self) -> bool:
        """Whether all ingredients have the same names for the same tensors."""
        return not self.copies and not any(self.renamed[: len(self.ingredients)])


def align(
    sources: Sequence[Checkpoint | SumReader],
    selected: Callable[[str], bool],
    like: Collection[str] | None = None,
    *,
    is_partial: bool = False,
) -> Alignment:
    """The sources under the names of the first of them, or of the first named `like` a soup.

    With `is_partial`, names may be missing on either side. Reads copies, to compare them.
    """
    contents = {id(source.tensors): source.tensors for source in sources}
    if len(contents) < 2:
        return Alignment(tuple(sources), (None,) * len(sources), frozenset())
    found = _renamings(tuple(contents.values()), selected, like, is_partial)
    named = {
        id(content): content if each is None else renamed_by(content, each)
        for content, each in zip(contents.values(), found, strict=True)
    }
    copies = _copies([(source, named[id(source.tensors)]) for source in sources], selected)
    for key, content in named.items():
        missing = {copy: of for copy, of in copies.items() if copy not in content and of in content}
        if missing:
            named[key] = {**content, **{copy: content[of] for copy, of in missing.items()}}
    by_content = dict(zip(contents, found, strict=True))
    each_found = [by_content[id(source.tensors)] for source in sources]
    return Alignment(
        tuple(_aligned(source, named[id(source.tensors)]) for source in sources),
        tuple(None if each is None else each.what for each in each_found),
        frozenset(copies),
    )


def _aligned(source: Checkpoint | SumReader, tensors: Contents) -> Source:
    if isinstance(source, SumReader) or tensors is source.tensors:
        return source
    return AlignedCheckpoint(source, tensors)


def renamed_by(content: Contents, found: Renaming) -> Contents:
    """The tensors of a file under the names of a renaming."""
    return {found.names[name]: tensor for name, tensor in content.items()}


def _renamings(
    contents: Sequence[Contents],
    selected: Callable[[str], bool],
    like: Collection[str] | None,
    is_partial: bool,
) -> list[Renaming | None]:
    """The renaming of each of several contents; None if it needs or has none."""
    optional = {name for content in contents for name in _optional(content)}

    def may_lack(name: str) -> bool:
        return name in optional or not selected(name)

    base: Collection[str] = contents[0]
    if like is not None:
        wanted = frozenset(like)
        fits = [each for each in contents if all(n in each or n in optional for n in wanted)]
        # if tensors are missing in some ingredients, it is possible that no ingredient has all of
        # them
        shares = is_partial and any(not wanted.isdisjoint(each) for each in contents)
        otherwise = wanted if shares else base
        # names of tensors that may be missing count only if there are no others
        base = min(fits, key=lambda each: len(wanted.difference(each)), default=otherwise)
    found: list[Renaming | None] = []
    for content in contents:
        if content is base or all(map(may_lack, content.keys() ^ frozenset(base))):
            found.append(None)
            continue
        each = renaming(base, content, may_lack)
        found.append(closest_renaming(base, content) if each is None and is_partial else each)
    return found


def _optional(content: Contents) -> set[str]:
    """The names of tensors that another file of the same model may lack."""
    kinds = classify(content, NO_FACTS)
    return {
        *(name for name, kind in kinds.items() if kind.is_derived or kind.role is Role.COPY),
        *(name for name in content if is_ema(name)),
        *absorbed(kinds),
    }


def _copies(
    sources: Sequence[tuple[Checkpoint | SumReader, Contents]], selected: Callable[[str], bool]
) -> dict[str, str]:
    """The original of each copy that some source lacks and that equals it in the others."""
    contents = {id(content): content for _, content in sources}
    every = {name for content in contents.values() for name in content if selected(name)}
    originals_of = {
        name: of
        for content in contents.values()
        if not every <= content.keys()
        for name, of in originals(content).items()
        if name in every and name not in content
    }
    known = set()
    differing = set()
    for source, content in sources:
        for copy, of in originals_of.items():
            if copy in content and of in content:
                known.add(copy)
                if not _are_equal(source, content[copy], content[of]):
                    differing.add(copy)
    return {copy: of for copy, of in originals_of.items() if copy in known - differing}


def _are_equal(source: Checkpoint | SumReader, one: Tensor, other: Tensor) -> bool:
    """Whether two tensors of a source are equal; False for a kept sum, which cannot tell."""
    if isinstance(source, SumReader) or (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    pieces = zip(
        source.stored(one.name).pieces(Scratch()),
        source.stored(other.name).pieces(Scratch()),
        strict=True,
    )
    return all(first_difference(mine, theirs) is None for (_, mine), (_, theirs) in pieces)


def plan_aligned(
    recipe: Recipe, alignment: Alignment, deciding: Collection[int] | None = None
) -> Plan:
    """The plan of `make_plan` for these sources, by their headers, metadata and configs."""
    sources = alignment.sources
    return make_plan(
        recipe,
        [source.label for source in sources],
        [source.tensors for source in sources],
        deciding,
        [facts_of_source(source) for source in sources],
    )


def lacking(
    plan: Plan, sources: Sequence[Source], takes: Sequence[tuple[str, int]]
) -> list[tuple[str, ...]]:
    """The tensors of the soup that each source lacks, or has only as a copy under another name.

    Tensors that `takes` takes from one source may be in others. A delta or an adapter lacks
    nothing: it leaves other tensors unchanged.
    """
    lacks: list[list[str]] = [[] for _ in sources]
    taken_from = first_match(takes)
    added = DeltaReader | AdapterReader
    deltas = {index for index, each in enumerate(sources) if isinstance(each, added)}
    for step in plan.kept:
        if len(step.sources) < len(sources) or step.sources[-1] >= len(sources):
            is_taken = taken_from(step.name) is not None
            for index in {*range(len(sources))} - {*step.sources} - deltas:
                if not (is_taken and step.name in sources[index].tensors):
                    lacks[index].append(step.name)
    for index, source in enumerate(sources):
        if isinstance(source, AlignedCheckpoint):
            held = (name for name in source.copies if name not in lacks[index])
            lacks[index] = sorted([*lacks[index], *held])
    return [tuple(names) for names in lacks]
