"""The layouts of ingredients, compared: which of them hold a tensor, and of what dtype and kind.

Rule 1: ingredients of equal layout share one table, so thousands of them cost no more than one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cache, cached_property
from operator import attrgetter

from ..format.dtypes import FLOATS, DType, narrowest
from ..format.header import Tensor
from ..format.scales import CodeScale
from ..kinds.classify import Kinds, classify
from ..kinds.facts import TensorFacts
from ..kinds.kind import FIXED, WEIGHT, TensorKind
from .recipe import Recipe, any_match, first_match
from .scaled_codes import absorbed, code_scale, width_of

Contents = Mapping[str, Tensor]
"""The tensors of one ingredient by name."""
COUNTS = frozenset({DType.I64, DType.I32})
"""Dtypes of integers that other files may hold in another dtype."""
Selected = Callable[[str], bool]


class Layouts:
    """The distinct layouts among many ingredients, each with the name of the first that has it."""

    def __init__(
        self,
        names: Sequence[str],
        contents: Sequence[Contents],
        facts: Sequence[TensorFacts],
        recipe: Recipe,
    ) -> None:
        """Contents beyond the weights of the recipe are those of donors."""
        count = len(recipe.weights)
        positions: dict[tuple[int, TensorFacts, bool], int] = {}
        self.distinct: list[tuple[str, Contents]] = []
        self.kinds: list[Kinds] = []
        """The kinds of the tensors of each distinct content."""
        self.absent: list[tuple[str, ...]] = []
        """For each distinct content, tensors that its index lists and no shard has."""
        keys = [
            (id(content), said, index < count)
            for index, (content, said) in enumerate(zip(contents, facts, strict=True))
        ]
        for name, content, key in zip(names, contents, keys, strict=True):
            if positions.setdefault(key, len(self.distinct)) == len(self.distinct):
                self.distinct.append((name, content))
                self.kinds.append(classify(content, key[1]))
                self.absent.append(key[1].absent)
        self._averaged = range(len({*keys[:count]}))
        """The positions of the contents of ingredients, which come first."""
        self.absorbed = [absorbed(kinds) for kinds in self.kinds]
        """The names of tensors that say how codes of each are read, and are not kept."""
        self._all_absorbed = frozenset().union(*self.absorbed)
        self.which = tuple(positions[key] for key in keys)
        self._taken_from = first_match(recipe.takes) if recipe.takes else None
        self.is_padded = any_match(recipe.pads)
        """Whether a tensor is padded where it is narrower."""
        # one tuple for all tensors that are alike; otherwise n ingredients would take n words per
        # tensor
        self.sources = cache(self._sources)
        self._spread = cache(self._spread_out)

    @cached_property
    def plain(self) -> frozenset[str]:
        """The names of plain weights that all layouts hold alike, but for the dtype.

        Nothing but their dtypes decides about them, so few of them need a closer look.
        """
        if self._taken_from is not None or len(self.distinct) > len(self._averaged):
            return frozenset()
        (_, first), *others = self.distinct
        names = {*first}.difference(*self.kinds)
        for _, content in others:
            names = {
                name
                for name in names
                if name in content and content[name].shape == first[name].shape
            }
        return frozenset(names)

    def is_taken(self, tensor: str) -> bool:
        """Whether a tensor is copied from one source."""
        return self._taken_from is not None and self._taken_from(tensor) is not None

    def counted(self, tensor: str) -> Sequence[int]:
        """The indices of the distinct layouts that count for a tensor, even without it."""
        source = None if self._taken_from is None else self._taken_from(tensor)
        return self._averaged if source is None else (self.which[source],)

    def positions(self, tensor: str) -> tuple[int, ...]:
        """The indices of the distinct layouts that count for a tensor and hold it."""
        return tuple(n for n in self.counted(tensor) if tensor in self.distinct[n][1])

    def _sources(self, positions: tuple[int, ...]) -> tuple[int, ...]:
        """The indices of the ingredients with these layouts."""
        held = frozenset(positions)
        return tuple(index for index, position in enumerate(self.which) if position in held)

    def counting(self, tensor: str) -> tuple[tuple[int, ...], tuple[DType, ...]]:
        """The ingredients that count for a tensor and hold it, and its dtype in each."""
        positions = self.positions(tensor)
        if self._taken_from is not None and (source := self._taken_from(tensor)) is not None:
            return (source,), (self._dtype(tensor, positions[0]),)
        positions = self.most_precise(tensor, positions)
        return self.sources(positions), self._dtypes(tensor, positions)

    def most_precise(self, tensor: str, positions: tuple[int, ...]) -> tuple[int, ...]:
        """For a constant in several dtypes, the layouts with integers, or the widest floats."""
        dtypes = {self.distinct[position][1][tensor].dtype for position in positions}
        integers = [dtype for dtype in dtypes if dtype in COUNTS]
        known = dtypes <= {*FLOATS, *integers}
        if len(dtypes) < 2 or self.kind(tensor).role not in FIXED or not known:
            return positions
        # position ids, say, were cast with the weights in some files
        widest = max(integers, key=attrgetter("bits")) if integers else narrowest(frozenset(dtypes))
        precise = [n for n in positions if self.distinct[n][1][tensor].dtype is widest]
        return tuple(precise) or positions

    def not_counting(
        self, tensor: str, counting: tuple[int, ...]
    ) -> tuple[tuple[int, ...], tuple[DType, ...], tuple[int, ...]]:
        """The other ingredients that hold a tensor, its dtype in each, and its shape in the first.

        All are empty if there are no such ingredients.
        """
        held = tuple(n for n, (_, content) in enumerate(self.distinct) if tensor in content)
        sources, dtypes = self.sources(held), self._dtypes(tensor, held)
        if sources == counting:
            return (), (), ()
        if counting:
            without = frozenset(counting)
            places = [n for n, source in enumerate(sources) if source not in without]
            sources = tuple(sources[place] for place in places)
            dtypes = tuple(dtypes[place] for place in places)
        if not sources:
            return (), (), ()
        return sources, dtypes, self.distinct[self.which[sources[0]]][1][tensor].shape

    def _dtypes(self, tensor: str, positions: tuple[int, ...]) -> tuple[DType, ...]:
        return self._spread(positions, tuple(self._dtype(tensor, each) for each in positions))

    def _dtype(self, tensor: str, position: int) -> DType:
        """The dtype of a tensor in one of the layouts; for codes, the dtype that they count as."""
        if code_scale(self.kinds[position], tensor) is None:
            return self.distinct[position][1][tensor].dtype
        return self._widths[position]

    @cached_property
    def _widths(self) -> list[DType]:
        """The dtype that codes count as, for each distinct layout."""
        pairs = zip(self.distinct, self.kinds, strict=True)
        return [width_of(content, kinds) for (_, content), kinds in pairs]

    def scales(self, tensor: str, sources: Sequence[int]) -> tuple[CodeScale | None, ...]:
        """The scale of a tensor in each of these ingredients; empty if none has it as a code."""
        by_content = [code_scale(kinds, tensor) for kinds in self.kinds]
        # there are few distinct contents, but possibly thousands of ingredients
        if not any(by_content):
            return ()
        return tuple(by_content[self.which[source]] for source in sources)

    def _spread_out(
        self, positions: tuple[int, ...], values: tuple[DType, ...]
    ) -> tuple[DType, ...]:
        by_position = dict(zip(positions, values, strict=True))
        return tuple(by_position[each] for each in self.which if each in by_position)

    def distinct_dtypes(self, tensor: str, deciding: Collection[int] | None) -> frozenset[DType]:
        """The dtypes of a tensor in the `deciding` ingredients that hold it, or in all of them."""
        held = self.positions(tensor)
        if deciding is not None:
            held = tuple({self.which[index] for index in deciding} & {*held}) or held
        return frozenset(self._dtype(tensor, position) for position in held)

    def kind(self, tensor: str) -> TensorKind:
        """The kind of a tensor in its first holder; codes that can be read count as weights."""
        held = self.positions(tensor) or range(len(self.distinct))
        found = next((self.kinds[n][tensor] for n in held if tensor in self.kinds[n]), WEIGHT)
        return WEIGHT if found.scale is not None else found

    @property
    def ingredients(self) -> Sequence[tuple[str, Contents]]:
        """The distinct layouts of ingredients, each with the name of the first that has it."""
        return self.distinct[: len(self._averaged)]

    @property
    def all_names(self) -> dict[str, None]:
        """The names of all layouts: those of the first one first."""
        return dict.fromkeys(name for _, content in self.distinct for name in content)

    def names(self, selected: Selected) -> list[str]:
        """The selected names of tensors that count, without companions of codes."""
        return [
            name
            for name in self.all_names
            if selected(name)
            and (name in self.plain or (not self.is_absorbed(name) and self._counts(name)))
        ]

    def _counts(self, tensor: str) -> bool:
        """Whether a tensor is in an ingredient, or copied."""
        return self.is_taken(tensor) or bool(self.positions(tensor))

    def is_absorbed(self, tensor: str) -> bool:
        """Whether a tensor is a companion of codes in any layout, and is not kept."""
        return tensor in self._all_absorbed

    def missing(self, tensors: Iterable[str]) -> set[str]:
        """The tensors that some ingredients lack and no library recomputes."""
        return {
            tensor
            for tensor in tensors
            if tensor not in self.plain
            and len(self.positions(tensor)) < len(self.counted(tensor))
            and not self.kind(tensor).is_derived
        }

    def shape(self, tensor: str) -> tuple[int, ...]:
        """The shape of a tensor in the soup; if padded, that of the widest."""
        return max(self.distinct[n][1][tensor].shape for n in self.positions(tensor))
