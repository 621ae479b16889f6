"""Differences of checkpoints, as lines and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..choices import Grouping
from ..merge.blocks.grouping import FEW, block_of, in_order
from .console import counted, put, put_json

if TYPE_CHECKING:
    from ..merge.diff.differences import GroupDifference, ReshapedTensor
    from ..verbs import CheckpointDifference, DeltaMatrix, TensorDifference
    from .options import PrintOptions

UNRELATED = 0.5
"""A change, relative to the norm of the base, that fine-tuning hardly makes."""
LONGEST_LIST = 5
"""Names that are listed without -v."""


def print_differences(
    found: Sequence[CheckpointDifference], by: Grouping | None, printing: PrintOptions
) -> None:
    """Print the differences of each component, as text or JSON; nothing with -q."""
    if printing.json:
        components = [_difference_json(each) for each in found]
        put_json({"equal": all(each.is_equal for each in found), "components": components})
    elif not printing.quiet:
        for each in found:
            for line in _difference_lines(each, by, verbose=printing.verbose):
                put(line)


def _difference_lines(
    found: CheckpointDifference, by: Grouping | None, *, verbose: bool
) -> Iterator[str]:
    pair = " and ".join(found.labels)
    if found.is_equal:
        yield f"{pair}: equal, {counted(len(found.tensors), 'tensor')}"
        return
    differing = found.differing
    share = f"{len(differing)} of {counted(len(found.tensors), 'tensor')}"
    yield f"{pair}: {share} {'differs' if len(differing) == 1 else 'differ'}"
    if found.renamed is not None:
        yield f"  names     {found.renamed} (undone to compare)"
    for label, names in zip(found.labels, found.only, strict=True):
        if names:
            yield f"  only in   {label}: {_listed(names, verbose=verbose)}"
    for reshaped in found.reshaped:
        yield f"  shapes    {_reshaped_text(reshaped)}"
    if not differing:
        return
    yield f"  together  {_moments_text(found.total)}"
    if (most := found.most_changed) is not None:
        yield f"  largest   {most.moments.largest:.3g} in {most.name}"
    for each in differing:
        for text in _suspicions(each, found.labels):
            yield f"  suspect   {each.name} {text}"
    by_tensor = len(differing) <= FEW if by is None else by is Grouping.TENSOR
    yield from _tensor_lines(differing) if by_tensor else _block_lines(found)


def _listed(names: Sequence[str], *, verbose: bool) -> str:
    shown = names if verbose else names[:LONGEST_LIST]
    more = f" and {len(names) - len(shown)} more" if len(shown) < len(names) else ""
    return f"{counted(len(names), 'tensor')}: {', '.join(shown)}{more}"


def _reshaped_text(tensor: ReshapedTensor) -> str:
    one, other = (str(list(shape)) for shape in tensor.shapes)
    suffix = ", one the transpose of the other" if tensor.is_transposed else ""
    return f"{tensor.name}: {one} and {other}{suffix}"


def _suspicions(tensor: TensorDifference, labels: Sequence[str]) -> Iterator[str]:
    if tensor.zeros_in is not None:
        yield f"holds only zeros in {labels[tensor.zeros_in]}"
    if tensor.is_transposed:
        yield "is transposed"
    if tensor.moments.nonfinite:
        yield f"has {counted(tensor.moments.nonfinite, 'element')} with NaN or infinity"


def _moments_text(group: GroupDifference | TensorDifference) -> str:
    """The relative change and the cosine, as far as there are any."""
    change, cosine = group.moments.relative_change, group.moments.cosine
    parts = [] if change is None else [f"changed by {change:.3%} of its norm"]
    parts += [] if cosine is None else [f"cosine {cosine:.6f}"]
    return ", ".join(parts) or f"{counted(group.moments.differing, 'element')} changed"


def _tensor_lines(tensors: Sequence[TensorDifference]) -> Iterator[str]:
    width = max(len(each.name) for each in tensors)
    for each in tensors:
        one, other = each.dtypes
        dtypes = "" if one is other else f", {one.value} and {other.value}"
        text = _moments_text(each) if each.moments.differing else "same values"
        yield f"  {each.name:{width}}  {text}{dtypes}"


def blocks_of(found: CheckpointDifference) -> list[GroupDifference]:
    """The differences by block, in the order of their names."""
    group_of = block_of([each.name for each in found.tensors])
    return sorted(found.grouped(group_of), key=lambda each: in_order(each.name))


def _block_lines(found: CheckpointDifference) -> Iterator[str]:
    groups = blocks_of(found)
    width = max(len(each.name) for each in groups)
    for each in groups:
        share = f"{each.differing} of {counted(each.tensors, 'tensor')}"
        text = _moments_text(each) if each.moments.differing else "same values"
        yield f"  {each.name:{width}}  {share:17}  {text if each.differing else 'equal'}"


def _difference_json(found: CheckpointDifference) -> dict[str, Any]:
    most = found.most_changed
    return {
        "name": found.name,
        "files": list(found.labels),
        "equal": found.is_equal,
        "renamed": found.renamed,
        "only_in": [list(names) for names in found.only],
        "reshaped": [
            {
                "tensor": each.name,
                "shapes": [list(shape) for shape in each.shapes],
                "transposed": each.is_transposed,
            }
            for each in found.reshaped
        ],
        **_group_json(found.total),
        "largest_in": None if most is None else most.name,
        "blocks": [{"block": each.name, **_group_json(each)} for each in blocks_of(found)],
        "differences": [
            {
                "tensor": each.name,
                "dtypes": [dtype.value for dtype in each.dtypes],
                **_moments_json(each),
                "zeros_in": None if each.zeros_in is None else found.labels[each.zeros_in],
                "transposed": each.is_transposed,
            }
            for each in found.differing
        ],
    }


def _group_json(group: GroupDifference) -> dict[str, Any]:
    return {"tensors": group.tensors, "differing": group.differing, **_moments_json(group)}


def _moments_json(each: GroupDifference | TensorDifference) -> dict[str, Any]:
    moments = each.moments
    return {
        "elements": moments.elements,
        "elements_differing": moments.differing,
        "nonfinite": moments.nonfinite,
        "relative_change": moments.relative_change,
        "cosine": moments.cosine,
        "largest": moments.largest,
    }


def print_matrix(found: Sequence[DeltaMatrix], printing: PrintOptions) -> None:
    """Print the matrix of each component, as text or JSON; nothing with -q."""
    if printing.json:
        put_json({"components": [_matrix_json(each) for each in found]})
    elif not printing.quiet:
        for each in found:
            for line in _matrix_lines(each, verbose=printing.verbose):
                put(line)


def _matrix_lines(found: DeltaMatrix, *, verbose: bool) -> Iterator[str]:
    """A numbered line for each checkpoint, the cosines, and what to think of them."""
    yield f"{found.base}: {counted(found.tensors, 'tensor')} compared"
    for number, (label, change) in enumerate(zip(found.labels, found.changes, strict=True), 1):
        text = "" if change is None else f"  changed by {change:.3%} of the base's norm"
        yield f"  {number:2}  {label}{text}"
    yield "      " + "".join(f"{number:8}" for number in range(1, len(found.labels) + 1))
    for number, row in enumerate(found.cosines, 1):
        cells = ("       -" if each is None else f"{each:8.4f}" for each in row)
        yield f"  {number:2}  {''.join(cells)}"
    if found.conflict_ratio is not None:
        yield f"  signs differ in {found.conflict_ratio:.1%} of the elements that several change"
    if found.left_out:
        yield f"  not compared: {_listed(found.left_out, verbose=verbose)}"
    if found.nonfinite:
        yield f"  {counted(found.nonfinite, 'element')} with NaN or infinity left out"
    if unrelated := _unrelated(found):
        yield f"  warning: hardly fine-tuned from this base: {', '.join(unrelated)}"


def _unrelated(found: DeltaMatrix) -> list[str]:
    """The checkpoints that changed more than fine-tuning does."""
    pairs = zip(found.labels, found.changes, strict=True)
    return [label for label, change in pairs if change is not None and change > UNRELATED]


def _matrix_json(found: DeltaMatrix) -> dict[str, Any]:
    return {
        "name": found.name,
        "base": found.base,
        "files": list(found.labels),
        "tensors": found.tensors,
        "not_compared": list(found.left_out),
        "relative_changes": list(found.changes),
        "cosines": [list(row) for row in found.cosines],
        "conflict_ratio": found.conflict_ratio,
        "nonfinite": found.nonfinite,
        "unrelated": _unrelated(found),
    }
