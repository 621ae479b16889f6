"""What becomes of the values of each tensor: copied, cast, read from codes, or quantised.

Rule 1: constants, integers and settings are copied; `--dtype` is about weights.
Rule 2: codes are copied with their companions, unless a dtype is asked for; then they are read as
the values that they stand for, and what cannot be read exactly is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..choices import ConvertQuantization, Quantization
from ..errors import Issue, MismatchError, UsageError
from ..format.dtypes import FLOATS, DType, Kind, narrowest
from ..format.gguf import BLOCK
from ..format.header import Tensor
from ..format.scales import CodeScale
from ..frozen import frozen
from ..kinds.classify import Kinds, classify, kind_of
from ..kinds.facts import TensorFacts
from ..kinds.kind import AVERAGED, QUANTISED, Role
from ..kinds.linear import is_quantisable, quantised_prefix
from ..merge.plan import Plan
from ..merge.quantised_steps import with_quantised
from ..merge.recipe import Recipe, any_match, first_match
from ..merge.scaled_codes import absorbed, code_scale, width_of
from ..merge.step import Rule, Step
from ..merge.step_weights import ALONE
from .pieces import ArrangedComponent, ArrangedTensor, Contents, TensorRange
from .request import ConvertRequest


@frozen
class ConvertedTensor:
    """An output tensor with its dtype."""

    arranged: ArrangedTensor
    dtype: DType
    is_copied: bool
    """Whether its bytes are those of the input."""
    is_quantised: bool = False
    """Whether it becomes codes with a scale."""
    is_blocks: bool = False
    """Whether it becomes Q8_0 blocks, made of its values in F32."""

    @property
    def name(self) -> str:
        """Its name in the output."""
        return self.arranged.name


@frozen
class OutputComponent:
    """One component of the output."""

    name: str
    tensors: tuple[ConvertedTensor, ...]
    plan: Plan
    """A plan with a step for each tensor, which decides the files of the output."""
    is_unchanged: bool
    """Whether it has the names, dtypes and bytes of an input component, in the same format."""
    is_dequantised: bool
    """Whether codes of the input became plain values, or other codes."""


class SourceKinds:
    """The kinds of the tensors of all components of an input."""

    def __init__(self, labels: Sequence[str], contents: Sequence[Contents]) -> None:
        self.labels = labels
        self.contents = contents
        self.kinds: list[Kinds] = []

    @classmethod
    def of(
        cls, labels: Sequence[str], contents: Sequence[Contents], facts: Sequence[TensorFacts]
    ) -> SourceKinds:
        """The kinds of components with these facts."""
        found = cls(labels, contents)
        found.kinds = list(map(classify, contents, facts))
        return found

    def scale(self, component: int, tensor: str) -> CodeScale | None:
        """The scale of a tensor; None if it is no code, or one that cannot be read exactly."""
        return code_scale(self.kinds[component], tensor)

    def dtype(self, each: TensorRange) -> DType:
        """The dtype of a range; for codes that are read, the one that they count as."""
        if self.scale(each.component, each.tensor) is None:
            return self.contents[each.component][each.tensor].dtype
        return width_of(self.contents[each.component], self.kinds[each.component])


def convert_component(
    request: ConvertRequest, arranged: ArrangedComponent, sources: SourceKinds
) -> OutputComponent:
    """The tensors of a component with their dtypes, sorted by name.

    Raises UsageError where there is nothing to quantise, and MismatchError for codes that cannot be
    read.
    """
    recipe = Recipe(
        (),
        dtype=request.dtype,
        keys=request.keys,
        excludes=request.excludes,
        dtype_for=request.dtype_for,
    )
    made = [_converted(request, each, sources) for each in arranged.tensors]
    made.sort(key=lambda each: each.name)
    steps, marker = [_step(each, sources) for each in made], None
    if request.quantize is ConvertQuantization.Q8_0:
        made = _with_blocks(request, made, steps)
    elif request.quantize is not None:
        recipe = replace(recipe, quantize=Quantization.FP8_SCALED)
        steps, marker = with_quantised(steps, recipe)
        made = [
            _quantised(each) if step.is_quantised else each
            for each, step in zip(made, steps, strict=True)
        ]
    plan = Plan(ALONE, tuple(steps), request.allow_nonfinite, marker)
    is_read = any(not each.is_copied and _has_codes(each, sources) for each in made)
    is_same = _is_unchanged(made, sources) and not request.makes_gguf
    return OutputComponent(arranged.name, tuple(made), plan, is_same, is_read)


def chosen(request: ConvertRequest, sources: SourceKinds) -> tuple[dict[str, Tensor], ...]:
    """The tensors of each component that are chosen, without companions of codes that are read."""
    is_included, is_excluded = any_match(request.keys), any_match(request.excludes)
    read = [absorbed(kinds) if request.changes_values else frozenset() for kinds in sources.kinds]
    return tuple(
        {
            name: tensor
            for name, tensor in content.items()
            if (not request.keys or is_included(name))
            and not is_excluded(name)
            and name not in companions
        }
        for content, companions in zip(sources.contents, read, strict=True)
    )


def _converted(
    request: ConvertRequest, tensor: ArrangedTensor, sources: SourceKinds
) -> ConvertedTensor:
    stored = frozenset(
        sources.contents[each.component][each.tensor].dtype for each in tensor.ranges
    )
    kinds = [kind_of(sources.kinds[each.component], each.tensor) for each in tensor.ranges]
    is_code = any(kind.role in QUANTISED for kind in kinds)
    if is_code and request.changes_values:
        _require_readable(tensor, sources)
    casts = is_code or all(kind.role in AVERAGED | {Role.FACTOR} for kind in kinds)
    if not stored or not casts or (is_code and not request.changes_values) or not _floats(stored):
        (dtype,) = stored or {DType.F32}
        return ConvertedTensor(tensor, dtype, is_copied=True)
    own = narrowest(frozenset(map(sources.dtype, tensor.ranges)))
    dtype = first_match(request.dtype_for)(tensor.name) or request.dtype or own
    return ConvertedTensor(tensor, dtype, is_copied=not is_code and stored == {dtype})


def _floats(dtypes: frozenset[DType]) -> bool:
    return all(dtype.kind is Kind.FLOAT for dtype in dtypes)


def _require_readable(tensor: ArrangedTensor, sources: SourceKinds) -> None:
    """Raise MismatchError for codes that cannot be read exactly."""
    for each in tensor.ranges:
        kind = kind_of(sources.kinds[each.component], each.tensor)
        if kind.role in QUANTISED and kind.scale is None:
            what = f"is a {kind.text}, whose values soupctl cannot read exactly"
            issue = Issue(
                what,
                sources.labels[each.component],
                each.tensor,
                "without --dtype, --dtype-for and --quantize, codes are copied",
            )
            raise MismatchError.collected([issue])


def _step(made: ConvertedTensor, sources: SourceKinds) -> Step:
    """The tensor as a step of a plan."""
    ranges = made.arranged.ranges
    dtypes = tuple(sources.dtype(each) for each in ranges[:1])
    kind = kind_of(sources.kinds[ranges[0].component], ranges[0].tensor) if ranges else None
    rule = Rule.TAKEN if made.is_copied else Rule.AVERAGE
    step = Step(made.name, made.arranged.shape, rule, (0,), dtypes, made.dtype, ALONE)
    if kind is None or kind.role in QUANTISED:
        return step
    return Step(made.name, made.arranged.shape, rule, (0,), dtypes, made.dtype, ALONE, kind)


def _quantised(made: ConvertedTensor) -> ConvertedTensor:
    return ConvertedTensor(made.arranged, DType.F8_E4M3, is_copied=False, is_quantised=True)


def _with_blocks(
    request: ConvertRequest, made: Sequence[ConvertedTensor], steps: Sequence[Step]
) -> list[ConvertedTensor]:
    """The tensors with linear layers as blocks; UsageError if there are none."""
    prefix = quantised_prefix({each.name for each in made})
    dtype_of = first_match(request.dtype_for)

    def becomes_blocks(each: ConvertedTensor, step: Step) -> bool:
        shape = each.arranged.shape
        is_weight = each.dtype in FLOATS and step.kind.role in AVERAGED
        return (
            is_weight
            and dtype_of(each.name) is None
            and is_quantisable(each.name, shape, prefix)
            and shape[-1] % BLOCK == 0
            and not any(one.is_transposed for one in each.arranged.ranges)
        )

    found = [
        ConvertedTensor(each.arranged, DType.F32, is_copied=False, is_blocks=True)
        if becomes_blocks(each, step)
        else each
        for each, step in zip(made, steps, strict=True)
    ]
    if not any(each.is_blocks for each in found):
        what = f"--quantize q8_0 finds no weight of a linear layer with rows of {BLOCK} elements"
        raise UsageError(what, advice="leave out --quantize")
    return found


def _has_codes(made: ConvertedTensor, sources: SourceKinds) -> bool:
    return any(
        sources.scale(each.component, each.tensor) is not None for each in made.arranged.ranges
    )


def _is_unchanged(made: Sequence[ConvertedTensor], sources: SourceKinds) -> bool:
    """Whether the tensors are exactly those of one component."""
    components = {each.component for tensor in made for each in tensor.arranged.ranges}
    if len(components) > 1:
        return False
    content = sources.contents[components.pop() if components else 0]
    return len(made) == len(content) and all(_is_as_it_was(each, content) for each in made)


def _is_as_it_was(made: ConvertedTensor, content: Contents) -> bool:
    own = content.get(made.name)
    ranges = made.arranged.ranges
    return (
        own is not None
        and made.is_copied
        and not made.is_quantised
        and made.arranged.shape == own.shape
        and len(ranges) == 1
        and (ranges[0].tensor, ranges[0].first, ranges[0].count) == (own.name, 0, own.count)
        and not ranges[0].is_transposed
    )
