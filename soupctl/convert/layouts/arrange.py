"""The tensors of a whole checkpoint in the other layout, as ranges of those that it has.

Rule 1: every tensor has a place in the other layout, or is one that a family leaves out, or is an
error; all errors at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from ...choices import Layout
from ...errors import Issue, MismatchError
from ...format.header import Tensor
from ...frozen import frozen
from ..pieces import ArrangedComponent, ArrangedTensor, Contents, TensorRange
from .families import (
    FamilyModel,
    ModelFamily,
    family_of_file,
    family_of_pipeline,
    model_alone,
)
from .pairs import LayoutChange, TensorPair
from .texts import wrapped

FLUX_SHARES = 7
"""Parts of a block's fused matrix in Flux: three of an attention, and four of an MLP."""
WIDE = frozenset({1024, 1280})
"""Widths of the token embeddings of OpenCLIP's text encoders (SD 2, SDXL)."""
EMBEDDING = "token_embedding.weight"


@frozen
class ArrangedCheckpoint:
    """A checkpoint in the other layout."""

    components: tuple[ArrangedComponent, ...]
    family: ModelFamily | None
    """None for a model alone."""
    left_out: tuple[tuple[str, str], ...]
    """Tensors that have no use there, and why."""


def to_diffusers(label: str, contents: Contents) -> ArrangedCheckpoint:
    """A single file in the layout of diffusers; MismatchError for tensors without a name there."""
    family = family_of_file(contents)
    if family is None:
        model = model_alone(contents)
        if model is None:
            raise MismatchError(
                "is not a model whose original layout is known",
                path=label,
                advice="Stable Diffusion 1, 2, XL and Flux are converted",
            )
        arranged = _translated(label, model, contents, 0, Layout.DIFFUSERS, "")
        return ArrangedCheckpoint((arranged,), None, ())
    left_out = [(name, why) for name in contents if (why := _why_left_out(name, family))]
    used = {name for name, _ in left_out}
    made: list[ArrangedComponent] = []
    issues: list[Issue] = []
    for model in family.models:
        own = {name: t for name, t in contents.items() if name.startswith(model.prefix)}
        own = {name: tensor for name, tensor in own.items() if name not in used}
        if own:
            used |= own.keys()
            try:
                made.append(_translated(label, model, own, 0, Layout.DIFFUSERS, model.component))
            except MismatchError as error:
                issues += error.issues
    issues += [_homeless(label, name, Layout.DIFFUSERS) for name in contents if name not in used]
    if issues:
        raise MismatchError.collected(issues)
    return ArrangedCheckpoint(tuple(made), family, tuple(left_out))


def to_original(
    labels: Sequence[str],
    components: Sequence[tuple[str, Contents]],
    activations: Mapping[str, str],
) -> ArrangedCheckpoint:
    """The components of a pipeline as one file in the original layout, or a model alone.

    `activations` are those of text encoders, by component, as far as configs tell them. Raises
    MismatchError for tensors without a name there.
    """
    if len(components) == 1:
        (_, contents), (label,) = components[0], labels
        model = model_alone(contents) or _text_encoder(components[0], activations)
        if model is None:
            raise _unknown(label)
        arranged = _translated(label, model, contents, 0, Layout.LDM, "")
        return ArrangedCheckpoint((arranged,), None, ())
    names = [name for name, _ in components]
    encoder = dict(components).get("text_encoder", {})
    is_open = _is_open_clip(encoder, activations.get("text_encoder"))
    family = family_of_pipeline(names, is_open_clip=is_open)
    if family is None:
        raise _unknown(labels[0])
    tensors: list[ArrangedTensor] = []
    issues: list[Issue] = []
    for number, (label, (name, contents)) in enumerate(zip(labels, components, strict=True)):
        known = next((model for model in family.models if model.component == name), None)
        if known is None:
            what = f"{name} is no part of a single file of {family.name}"
            issues.append(Issue(what, label, advice="--component picks one of the others"))
            continue
        try:
            tensors += _translated(label, known, contents, number, Layout.LDM, "").tensors
        except MismatchError as error:
            issues += error.issues
    if issues:
        raise MismatchError.collected(issues)
    return ArrangedCheckpoint((ArrangedComponent("", tuple(tensors)),), family, ())


def _unknown(label: str) -> MismatchError:
    return MismatchError(
        "is not a model whose original layout is known",
        path=label,
        advice="Stable Diffusion 1, 2, XL and Flux are converted",
    )


def _text_encoder(
    component: tuple[str, Contents], activations: Mapping[str, str]
) -> FamilyModel | None:
    """The model for an OpenCLIP text encoder alone; that of others has no other names."""
    from .texts import open_clip_pairs

    name, contents = component
    if _is_open_clip(contents, activations.get(name)):
        return FamilyModel(name, "", open_clip_pairs)
    return None


def _is_open_clip(contents: Contents, activation: str | None) -> bool:
    """Whether a text encoder is from OpenCLIP, by its activation or its width."""
    found = next((t for name, t in contents.items() if name.endswith(EMBEDDING)), None)
    if found is None:
        return False
    if activation is not None:
        return activation == "gelu"
    return found.shape[-1] in WIDE


def _why_left_out(name: str, family: ModelFamily) -> str | None:
    """Why a tensor has no use in diffusers; None if it has, or is not known."""
    return next(
        (why for pattern, why in family.left_out.items() if fnmatchcase(name, pattern)), None
    )


SAYING = ("v_pred", "ztsnr", "edm_mean", "edm_std", "edm_vpred.sigma_max", "edm_vpred.sigma_min")
"""Tensors that say how a model was trained, as ComfyUI reads them."""


def _homeless(label: str, name: str, layout: Layout) -> Issue:
    other = "of diffusers" if layout is Layout.DIFFUSERS else "of single files"
    advice = f"--exclude '{name}' leaves it out"
    if name.startswith("model_ema."):
        advice = "--exclude 'model_ema.*' leaves out all of its kind"
    if name in SAYING:
        advice += "; it says how the model was trained, which the configs must say instead"
    return Issue(f"has no place in the layout {other}", label, name, advice)


def _translated(
    label: str,
    model: FamilyModel,
    contents: Contents,
    number: int,
    layout: Layout,
    component: str,
) -> ArrangedComponent:
    """The tensors of one model in a layout; MismatchError for those that have no place in it."""
    inside = model.prefix if layout is Layout.DIFFUSERS else ""
    own = {name.removeprefix(inside): tensor for name, tensor in contents.items()}
    if layout is Layout.LDM:
        names = wrapped(own)
        own = {names[name]: tensor for name, tensor in own.items()}
    prefix = "" if layout is Layout.DIFFUSERS else model.prefix
    made: list[ArrangedTensor] = []
    used: set[str] = set()
    issues: list[Issue] = []
    for pair in model.pairs(own):
        names_in = (pair.original,) if layout is Layout.DIFFUSERS else pair.parts
        if not all(name in own for name in names_in):
            continue
        used.update(names_in)
        tensors = [own[name] for name in names_in]
        arranged = (
            _parts(pair, tensors[0], own, number)
            if layout is Layout.DIFFUSERS
            else _original(pair, tensors, number, prefix)
        )
        if arranged is None:
            what = f"has shape {list(tensors[0].shape)}, which cannot be {pair.change.value}"
            issues.append(Issue(what, label, tensors[0].name))
        else:
            made += arranged
    issues += [_homeless(label, own[name].name, layout) for name in own if name not in used]
    if issues:
        raise MismatchError.collected(issues)
    return ArrangedComponent(component, tuple(made))


def _parts(
    pair: TensorPair, tensor: Tensor, own: Contents, number: int
) -> list[ArrangedTensor] | None:
    """The tensors of diffusers that an original becomes; None if its shape does not allow it."""
    shape = tensor.shape
    whole = TensorRange(number, tensor.name, 0, tensor.count)
    if pair.change is LayoutChange.FUSED:
        if not shape:
            return None
        sizes = _rows(shape[0], len(pair.parts), pair, own)
        return None if sizes is None else list(_split(pair, tensor, sizes, number))
    (name,) = pair.parts
    if pair.change is LayoutChange.SWAPPED:
        return _swapped(name, tensor, number)
    if pair.change is LayoutChange.TRANSPOSED:
        return _transposed(name, tensor, number)
    if pair.change is LayoutChange.POINTWISE and len(shape) > 2 and set(shape[2:]) == {1}:
        shape = shape[:2]
    return [ArrangedTensor(name, shape, (whole,))]


def _original(
    pair: TensorPair, tensors: Sequence[Tensor], number: int, prefix: str
) -> list[ArrangedTensor] | None:
    """The original that tensors of diffusers become; None if their shapes do not allow it."""
    name, (first, *rest) = f"{prefix}{pair.original}", tensors
    shape = first.shape
    if pair.change is LayoutChange.FUSED:
        if not shape or any(each.shape[1:] != shape[1:] or not each.shape for each in rest):
            return None
        ranges = tuple(TensorRange(number, each.name, 0, each.count) for each in tensors)
        rows = sum(each.shape[0] for each in tensors)
        return [ArrangedTensor(name, (rows, *shape[1:]), ranges)]
    if pair.change is LayoutChange.SWAPPED:
        return _swapped(name, first, number)
    if pair.change is LayoutChange.TRANSPOSED:
        return _transposed(name, first, number)
    if pair.change is LayoutChange.POINTWISE and len(shape) == 2:
        shape = (*shape, 1, 1)
    return [ArrangedTensor(name, shape, (TensorRange(number, first.name, 0, first.count),))]


def _rows(rows: int, parts: int, pair: TensorPair, own: Contents) -> tuple[int, ...] | None:
    """The rows of each part of a fused matrix or bias; None if they cannot be divided so."""
    if parts == 3:
        return (rows // 3,) * 3 if rows % 3 == 0 else None
    if rows % FLUX_SHARES == 0:
        width = rows // FLUX_SHARES
    else:
        # an MLP of another width: that of the attention is the number of columns
        weight = own.get(f"{pair.original.rpartition('.')[0]}.weight")
        width = weight.shape[-1] if weight is not None and weight.shape else rows
    rest = rows - 3 * width
    return (width, width, width, rest) if rest > 0 else None


def _split(
    pair: TensorPair, tensor: Tensor, sizes: Sequence[int], number: int
) -> Iterator[ArrangedTensor]:
    across = tensor.count // tensor.shape[0] if tensor.shape[0] else 0
    first = 0
    for name, rows in zip(pair.parts, sizes, strict=True):
        piece = TensorRange(number, tensor.name, first * across, rows * across)
        yield ArrangedTensor(name, (rows, *tensor.shape[1:]), (piece,))
        first += rows


def _swapped(name: str, tensor: Tensor, number: int) -> list[ArrangedTensor] | None:
    if not tensor.shape or tensor.shape[0] % 2:
        return None
    half = tensor.count // 2
    ranges = tuple(TensorRange(number, tensor.name, first, half) for first in (half, 0))
    return [ArrangedTensor(name, tensor.shape, ranges)]


def _transposed(name: str, tensor: Tensor, number: int) -> list[ArrangedTensor] | None:
    if len(tensor.shape) != 2:
        return None
    ranges = (TensorRange(number, tensor.name, 0, tensor.count, is_transposed=True),)
    return [ArrangedTensor(name, tensor.shape[::-1], ranges)]


def require_whole_bytes(label: str, contents: Collection[Tensor]) -> None:
    """Raise MismatchError for tensors whose elements share bytes: they cannot be divided."""
    issues = [
        Issue(f"is {each.dtype.value}, which is not laid out anew", label, each.name)
        for each in contents
        if each.dtype.bits % 8
    ]
    if issues:
        raise MismatchError.collected(issues)
