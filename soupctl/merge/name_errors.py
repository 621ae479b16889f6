"""Errors about ingredients with different tensors, with advice."""

from __future__ import annotations

from collections.abc import Collection, Container, Sequence

from ..checkpoints.architecture import difference_hint
from ..choices import OnMissing
from ..errors import Issue, MismatchError
from ..kinds.constants import DERIVED
from ..kinds.copies import is_ema, originals
from ..kinds.kind import FIXED
from ..kinds.names import closest_renaming, common_prefix
from .layouts import Contents, Layouts, Selected


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
