"""Errors about ingredients whose tensors differ in name, kind, shape or dtype, with advice."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Sequence

from ..checkpoints.architecture import difference_hint, shape_hint
from ..choices import OnMissing
from ..errors import Issue, MismatchError
from ..format.dtypes import DType, Kind
from ..format.header import Tensor
from ..kinds.constants import DERIVED
from ..kinds.copies import is_ema, originals
from ..kinds.kind import AVERAGED, FIXED, WEIGHT, TensorKind
from ..kinds.names import closest_renaming, common_prefix
from .kind_errors import fixed_advice, not_averaged
from .layouts import Contents, Layouts, Selected
from .padding import differ_in_channels

ONE_TENSOR = "--take takes it from one input, --exclude leaves it out"
"""Advice for a tensor that does not fit."""


def require_same_names(layouts: Layouts, missing: Collection[str]) -> None:
    """Raise MismatchError, with advice, if any tensors are `missing`."""
    (name, content), *others = layouts.ingredients
    issues = []
    for other_name, other in others:
        lacks = sorted(each for each in missing if each in content and each not in other)
        more = sorted(each for each in missing if each in other and each not in content)
        parts = [
            f"{verb} {_some(tensors)}, which {name} {opposite}"
            for verb, tensors, opposite in (("lacks", lacks, "has"), ("has", more, "lacks"))
            if tensors
        ]
        if parts:
            hint = difference_hint(name, content, other_name, other)
            advice = hint or _advice(layouts, content, other, [*lacks, *more])
            issues.append(Issue(", and ".join(parts), other_name, advice=advice))
    if issues:
        raise MismatchError.collected(issues)


def require_indexed(layouts: Layouts, selected: Selected) -> None:
    """Raise MismatchError for tensors that the index of an ingredient lists and its shards lack.

    Copies of other tensors, and constants that a library recomputes, may be missing.
    """
    issues = []
    for (name, content), absent in zip(layouts.ingredients, layouts.absent, strict=False):
        if absent:
            copies = originals(content)
            lacks = [each for each in absent if selected(each) and not _is_spare(each, copies)]
            if lacks:
                what = f"lacks {_some(lacks)}, which its index lists"
                advice = f"download it again, or {OnMissing.KEEP.option} takes it as it is"
                issues.append(Issue(what, name, advice=advice))
    if issues:
        raise MismatchError.collected(issues)


def _is_spare(name: str, copies: Container[str]) -> bool:
    """Whether a library fills in a tensor that a file lacks, by its name."""
    return name in copies or is_ema(name) or name.rpartition(".")[2] in DERIVED


def _advice(layouts: Layouts, content: Contents, other: Contents, missing: Sequence[str]) -> str:
    """Advice for tensors that only one of two contents has."""
    ways = f"{OnMissing.KEEP.option} takes the mean of those that have a tensor"
    left = f"{OnMissing.DROP.option} or --exclude leaves it out"
    if all(map(is_ema, missing)):
        what = "they are moving averages of the weights (EMA)"
        return f"{what}: --exclude 'model_ema.*' leaves them out, {ways}"
    if all(layouts.kind(each).role in FIXED for each in missing):
        kind = layouts.kind(missing[0])
        return (
            f"a {kind.text}: {OnMissing.KEEP.option} keeps it if it applies to all inputs,"
            f" {OnMissing.DROP.option} or --exclude '{missing[0]}' leaves it out if not"
        )
    if (prefix := common_prefix(content, other)) is not None:
        return f"the names differ by the prefix {prefix!r}, so rename those of one file"
    if (found := closest_renaming(content, other)) is not None:
        return f"fewer names differ without {found.what}; {ways}, {left}"
    if content and other and content.keys().isdisjoint(other):
        return (
            "no tensor has the same name in both: rename the tensors of one if they are the same"
            f" model; {OnMissing.KEEP.option} would only put both into one file"
        )
    if any(each in content for each in missing) and any(each in other for each in missing):
        # keeping both sides would be wrong if they are two layouts of one tensor
        return f"rename tensors that are the same under other names first; {ways}, {left}"
    return f"{ways}, {left}"


def _some(tensors: Sequence[str], limit: int = 2) -> str:
    rest = len(tensors) - limit
    listed = ", ".join(tensor or repr(tensor) for tensor in tensors[:limit])
    return f"{listed} and {rest} more" if rest > 0 else listed


def require_same_kinds(layouts: Layouts, selected: Selected) -> None:
    """Raise MismatchError for codes and factors that are not in all ingredients alike.

    Those in all of them may be equal, which only reading the data shows.
    """
    issues = []
    each_content = zip(layouts.distinct, layouts.kinds, layouts.absorbed, strict=True)
    for position, ((name, _), kinds, read) in enumerate(each_content):
        for tensor, kind in kinds.items():
            counted = layouts.counted(tensor)
            if kind.scale is not None or tensor in read or position not in counted:
                continue
            alike = not kind.is_part or all(layouts.kinds[n].get(tensor) == kind for n in counted)
            if not alike and selected(tensor):
                issues.append(not_averaged(name, tensor, kind))
                break
    if issues:
        raise MismatchError.collected(issues)


def require_taken(layouts: Layouts, tensors: Iterable[str]) -> None:
    """Raise MismatchError for tensors that are to be copied from an ingredient without them."""
    issues = [
        Issue(
            "is not in the file that --take takes it from",
            layouts.distinct[layouts.counted(tensor)[0]][0],
            tensor,
            "a narrower glob leaves it alone, --exclude leaves it out",
        )
        for tensor in tensors
        if layouts.is_taken(tensor) and not layouts.positions(tensor)
    ]
    if issues:
        raise MismatchError.collected(issues)


def mismatch(layouts: Layouts, tensor: str) -> Issue | None:
    """The issue that prevents the tensors of this name from being combined, if there is one."""
    positions, kind = layouts.positions(tensor), layouts.kind(tensor)
    held = [(layouts.distinct[n][0], layouts.distinct[n][1][tensor]) for n in positions]
    against, first = held[0]
    may_mix = kind.role in AVERAGED
    # a constant in several dtypes is taken from the most precise ones
    is_rounded = len(layouts.most_precise(tensor, positions)) < len(positions)
    for name, other in held:
        if kind.is_part and (other.dtype, other.shape) != (first.dtype, first.shape):
            return not_averaged(against, tensor, kind)
        if other.shape != first.shape:
            may_pad = _may_pad(layouts, tensor, first, other)
            if not (may_pad and layouts.is_padded(tensor)):
                return _other_shape(tensor, (against, first), (name, other), may_pad=may_pad)
        are_floats = first.dtype.kind is other.dtype.kind is Kind.FLOAT
        if other.dtype != first.dtype and not (is_rounded or (are_floats and may_mix)):
            return _other_dtype(tensor, kind, (against, first), (name, other))
    return None


def _may_pad(layouts: Layouts, tensor: str, one: Tensor, other: Tensor) -> bool:
    """Whether two tensors differ only in their input channels, and may be padded."""
    are_floats = one.dtype.kind is other.dtype.kind is Kind.FLOAT
    is_weight = are_floats and layouts.kind(tensor) is WEIGHT
    is_code = any(tensor in kinds for kinds in layouts.kinds)
    return is_weight and not is_code and differ_in_channels(one.shape, other.shape)


def _other_shape(
    tensor: str, first: tuple[str, Tensor], other: tuple[str, Tensor], *, may_pad: bool
) -> Issue:
    """The issue of a tensor of another shape; each is given with the name of its ingredient."""
    (against, one), (name, two) = first, other
    hint = shape_hint(one.shape, two.shape)
    pad = f"--pad '{tensor}' pads the narrower with zeros" if may_pad else None
    what = f"has shape {list(two.shape)} where {against} has {list(one.shape)}"
    return Issue(what, name, tensor, "; ".join(filter(None, (hint, pad, ONE_TENSOR))))


def _other_dtype(
    tensor: str, kind: TensorKind, first: tuple[str, Tensor], other: tuple[str, Tensor]
) -> Issue:
    """The issue of a tensor of a dtype that cannot be mixed with the first one's."""
    (against, one), (name, two) = first, other
    what = f"is {two.dtype.value} where {against} has {one.dtype.value}"
    fixed = fixed_advice(tensor, kind, DType.F32) if kind.role in FIXED else None
    return Issue(what, name, tensor, fixed or f"only float dtypes may be mixed; {ONE_TENSOR}")
