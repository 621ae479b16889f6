"""The places of an adapter's modules in a base, in any naming of either.

Rule 1: names are derived from the base's, in both namings of its architecture, and an adapter's
names are looked up among them, because underscores for dots cannot be undone.
Rule 2: an ambiguous name is never matched.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from ..format.header import Tensor
from ..frozen import frozen
from .pairs import ARCHITECTURES, SWAPPED_IF_TWO, UNET, NamePair
from .unet_blocks import unet_names


@frozen
class RowRange:
    """Rows of a tensor of the base as a matrix."""

    tensor: str
    first: int
    count: int


Target = tuple[RowRange, ...]
"""The places of a module's rows, in their order."""

PARTS = (
    # prefix of one model's names in a file, and the model
    ("model.diffusion_model.", "denoiser"),
    ("diffusion_model.", "denoiser"),
    ("unet.", "denoiser"),
    ("cond_stage_model.transformer.", "te1"),
    ("cond_stage_model.model.", "te1"),
    ("conditioner.embedders.0.transformer.", "te1"),
    ("conditioner.embedders.0.model.", "te1"),
    ("conditioner.embedders.1.model.", "te2"),
    ("text_encoders.clip_l.transformer.", "te1"),
    ("text_encoders.clip_g.transformer.", "te2"),
    ("text_encoders.t5xxl.transformer.", "te3"),
    ("text_encoder.", "te1"),
    ("text_encoder_2.", "te2"),
    ("text_encoder_3.", "te3"),
    # written by trainers that save a whole module
    *((prefix, "denoiser") for prefix in ("model.", "module.", "net.", "_orig_mod.")),
)
COMPONENTS = {
    "unet": "denoiser",
    "transformer": "denoiser",
    "text_encoder": "te1",
    "text_encoder_2": "te2",
    "text_encoder_3": "te3",
}
"""The models of a pipeline by their folders."""

PREFIXES = (
    # prefix of an adapter's module names, and the models they belong to
    ("lora_unet_", ("denoiser",)),
    ("lora_transformer_", ("denoiser",)),
    ("lycoris_", ("denoiser",)),
    ("lora_te1_", ("te1",)),
    ("lora_te2_", ("te2", "te3")),
    ("lora_te3_", ("te3",)),
    ("lora_te_", ("te1",)),
    ("base_model.model.", ("denoiser", "te1")),
    ("model.diffusion_model.", ("denoiser",)),
    ("diffusion_model.", ("denoiser",)),
    ("transformer.", ("denoiser",)),
    ("unet.", ("denoiser",)),
    ("text_encoder_3.", ("te3",)),
    ("text_encoder_2.", ("te2", "te3")),
    ("text_encoder.", ("te1",)),
    *((prefix, ("denoiser",)) for prefix in ("model.", "module.", "net.", "_orig_mod.")),
    ("", ("denoiser", "te1")),
)
WHOLE = "the whole file"
"""The role in which modules have the base's own names."""

OLD_NAMES = (
    # older diffusers, in adapters only
    (r"\.processor(?=\.|$)", ""),
    (r"(?<=\.attn[12]\.to_out)$", ".0"),
    (r"\.self_attn\.to_(q|k|v)$", r".self_attn.\1_proj"),
    (r"\.self_attn\.to_out$", ".self_attn.out_proj"),
)


NAMED = tuple(
    (prefix, roles)
    for prefix, roles in PREFIXES
    if prefix.startswith(("lora_", "lycoris_", "text_encoder", "diffusion_", "model.d", "unet."))
)
"""The prefixes that tell which model is meant."""


class TargetIndex:
    """The modules of a base, by every name that an adapter may have for them."""

    def __init__(
        self, tensors: Mapping[str, Tensor], component: str = "", *, is_part: bool = False
    ) -> None:
        """The base's `tensors`, those of the folder `component` of a pipeline or of a file.

        With `is_part`, other components of the pipeline are indexed apart: an adapter means this
        one only by the names of its own model.
        """
        self._targets: dict[tuple[str, str], Target | None] = {}
        self._roles: frozenset[str] = frozenset()
        if is_part and component not in COMPONENTS:
            return
        by_role = _by_role(tensors, component)
        self._roles = frozenset(by_role)
        for role, modules in by_role.items():
            own = {name: _whole(tensor) for name, tensor in modules.items()}
            for name, target in (*own.items(), *_other_names(own, modules)):
                self._add(role, name, target)
        for name, tensor in _modules(tensors) if not is_part else ():
            self._add(WHOLE, name, _whole(tensor))

    def _add(self, role: str, name: str, target: Target) -> None:
        """Register a name, and its form without dots, for a target; ambiguous names are dropped."""
        for each in {name, name.replace(".", "_")}:
            known = self._targets.setdefault((role, each), target)
            if known != target:
                self._targets[role, each] = None

    def find(self, module: str) -> Target | None:
        """The place of a module of an adapter; None if it is not found, or ambiguous."""
        for role, name in _candidates(module):
            if found := self._targets.get((role, name)):
                return found
        return None

    def is_of_another(self, module: str) -> bool:
        """Whether the name of a module says that it belongs to a model that is not in the base."""
        roles = next((roles for prefix, roles in NAMED if module.startswith(prefix)), None)
        return roles is not None and not self._roles.intersection(roles)


def _candidates(module: str) -> Iterator[tuple[str, str]]:
    """The roles and names under which a module may be registered."""
    yield WHOLE, module
    for prefix, roles in PREFIXES:
        if module.startswith(prefix):
            rest = module.removeprefix(prefix)
            renamed = rest
            for pattern, replacement in OLD_NAMES:
                renamed = re.sub(pattern, replacement, renamed)
            for role in roles:
                yield from ((role, name) for name in dict.fromkeys((rest, renamed)))
            if prefix == "base_model.model.":
                yield from _candidates(rest)


def _modules(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The matrices of a model by the names of their modules."""
    for name, tensor in tensors.items():
        if len(tensor.shape) >= 2:
            for end in (".weight", "_weight"):
                if name.endswith(end):
                    yield name.removesuffix(end), tensor
                    break


def _by_role(tensors: Mapping[str, Tensor], component: str) -> dict[str, dict[str, Tensor]]:
    """The modules of each model in a base, by their names within it."""
    found: dict[str, dict[str, Tensor]] = {}
    alone = COMPONENTS.get(component)
    for name, tensor in _modules(tensors):
        prefix, role = next(
            ((start, each) for start, each in PARTS if alone is None and name.startswith(start)),
            ("", alone or "denoiser"),
        )
        found.setdefault(role, {})[name.removeprefix(prefix)] = tensor
    if alone is None and "denoiser" in found and is_text_encoder(found["denoiser"]):
        found.setdefault("te1", found.pop("denoiser"))
    return found


def is_text_encoder(modules: Iterable[str]) -> bool:
    """Whether names, without a prefix, are those of a text encoder alone."""
    starts = ("text_model.", "encoder.layers.", "encoder.block.", "transformer.resblocks.")
    return any(name.startswith(starts) for name in modules)


def _whole(tensor: Tensor) -> Target:
    return (RowRange(tensor.name, 0, tensor.shape[0]),)


def _other_names(
    own: Mapping[str, Target], modules: Mapping[str, Tensor]
) -> Iterator[tuple[str, Target]]:
    """The names of modules, whole, fused or split, in the naming that the base does not use."""
    bare = {name.removeprefix("text_model."): target for name, target in own.items()}
    for name, target in bare.items():
        if name.startswith("encoder."):
            yield from ((f"text_model.{name}", target), (name, target))
    columns = {name.removeprefix("text_model."): t.shape[1] for name, t in modules.items()}
    pairs = next(
        (pairs for starts, pairs in ARCHITECTURES if any(name.startswith(starts) for name in bare)),
        (),
    )
    for pair in pairs:
        for numbered in _numbered(pair, bare):
            for name, target in _paired(numbered, bare, columns):
                yield name, target
                if name.startswith("encoder."):
                    yield f"text_model.{name}", target
    if pairs is UNET:
        yield from ((other, bare[name]) for name, other in unet_names(bare.keys()))


def _numbered(pair: NamePair, names: Iterable[str]) -> Iterator[NamePair]:
    """The pair for each number of a block that the names have."""
    if "{}" not in pair.original:
        yield pair
        return
    patterns = [
        re.compile(re.escape(form).replace(r"\{\}", r"(\d+)"))
        for form in (pair.original, *pair.parts)
    ]
    found = {match[1] for name in names for each in patterns if (match := each.fullmatch(name))}
    for number in sorted(found):
        parts = tuple(part.replace("{}", number) for part in pair.parts)
        yield replace(pair, original=pair.original.replace("{}", number), parts=parts)


def _paired(
    pair: NamePair, own: Mapping[str, Target], columns: Mapping[str, int]
) -> Iterator[tuple[str, Target]]:
    """The names of the other naming, and their places."""
    if pair.original in own:
        (whole,) = own[pair.original]
        sizes = _sizes(whole.count, len(pair.parts), columns[pair.original])
        for part, rows in zip(pair.parts, _split(whole, sizes), strict=False):
            yield part, _ordered(pair, (rows,), columns[pair.original])
    elif all(part in own for part in pair.parts):
        target = tuple(rows for part in pair.parts for rows in own[part])
        yield pair.original, _ordered(pair, target, columns[pair.parts[0]])


def _sizes(rows: int, parts: int, columns: int) -> Sequence[int]:
    """The rows of the parts of a fused matrix; an attention and an MLP differ."""
    if parts == 4:
        return (columns, columns, columns, rows - 3 * columns)
    return (rows // parts,) * parts


def _split(whole: RowRange, sizes: Sequence[int]) -> Iterator[RowRange]:
    if sum(sizes) != whole.count or min(sizes) <= 0:
        return
    first = whole.first
    for size in sizes:
        yield RowRange(whole.tensor, first, size)
        first += size


def _ordered(pair: NamePair, target: Target, columns: int) -> Target:
    """The target, its halves swapped if the two namings have them in different orders."""
    count = sum(rows.count for rows in target)
    last = re.sub(r"\d+", "{}", pair.original, count=1) == SWAPPED_IF_TWO and count == 2 * columns
    if len(target) > 1 or not (pair.is_swapped or last):
        return target
    ((tensor, first, _),) = ((rows.tensor, rows.first, 0) for rows in target)
    half = count // 2
    return RowRange(tensor, first + half, count - half), RowRange(tensor, first, half)
