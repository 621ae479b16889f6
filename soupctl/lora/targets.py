"""The rows of a base that an adapter's modules change, in any naming of either.

Rule 1: names are derived from the base's, in both namings of its architecture, and an adapter's
names are looked up among them, because underscores for dots cannot be undone.
Rule 2: an ambiguous name is never matched.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from ..format.header import Tensor
from .modules import LayerTensor
from .other_names import Target, other_names, whole_target

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

PEFT = "base_model.model."
"""Before the names that a model has without its adapter, perhaps several times."""
PREFIXES = (
    # prefix of an adapter's module names, and the models they belong to
    ("lora_unet_", ("denoiser",)),
    ("lora_transformer_", ("denoiser",)),
    ("lycoris_", ("denoiser",)),
    ("lora_te1_", ("te1",)),
    ("lora_te2_", ("te2", "te3")),
    ("lora_te3_", ("te3",)),
    ("lora_te_", ("te1",)),
    (PEFT, ("denoiser", "te1")),
    ("model.diffusion_model.", ("denoiser",)),
    ("diffusion_model.", ("denoiser",)),
    ("transformer.", ("denoiser",)),
    ("unet.", ("denoiser",)),
    ("text_encoder_3.", ("te3",)),
    ("text_encoder_2.", ("te2", "te3")),
    ("text_encoder.", ("te1",)),
    # ComfyUI, and the names of a single file
    ("text_encoders.clip_l.transformer.", ("te1",)),
    ("text_encoders.clip_g.transformer.", ("te2",)),
    ("text_encoders.t5xxl.transformer.", ("te3",)),
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
        self, tensors: Mapping[str, Tensor], component: str = "", *, is_of_pipeline: bool = False
    ) -> None:
        """The base's `tensors`, those of the folder `component` of a pipeline or of a file.

        With `is_of_pipeline`, other components are indexed apart: an adapter means this one only
        by the names of its own model.
        """
        self._targets: dict[tuple[str, str], Target | None] = {}
        self._tensors = tensors
        self._roles: frozenset[str] = frozenset()
        if is_of_pipeline and component not in COMPONENTS:
            return
        by_role = _by_role(tensors, component)
        self._roles = frozenset(by_role)
        for role, modules in by_role.items():
            own = {name: whole_target(tensor) for name, tensor in modules.items()}
            for name, target in (*own.items(), *other_names(own, modules)):
                self._add(role, name, target)
        for name, tensor in _modules(tensors) if not is_of_pipeline else ():
            self._add(WHOLE, name, whole_target(tensor))

    def _add(self, role: str, name: str, target: Target) -> None:
        """Register a name, and its form without dots, for a target; ambiguous names are dropped."""
        for each in {name, name.replace(".", "_")}:
            known = self._targets.setdefault((role, each), target)
            if known != target:
                self._targets[role, each] = None

    def find(self, layer: str, parameter: LayerTensor = LayerTensor.WEIGHT) -> Target | None:
        """The rows that an update of a layer changes; None if it is not found, or ambiguous."""
        names = [layer]
        if parameter is LayerTensor.MODULATION:
            names = [f"{layer}.{each}" for each in MODULATIONS]
        for role, name in (each for asked in names for each in _candidates(asked)):
            if found := self._targets.get((role, name)):
                return self._biases(found) if parameter is LayerTensor.BIAS else found
        return None

    def _biases(self, weights: Target) -> Target | None:
        """The same rows of the biases of layers; None if one of them has no bias."""
        rows = [replace(each, tensor=_bias_of(each.tensor)) for each in weights]
        held = all(
            each.tensor != weight.tensor
            and each.tensor in self._tensors
            and self._tensors[each.tensor].shape == self._tensors[weight.tensor].shape[:1]
            for each, weight in zip(rows, weights, strict=True)
        )
        return tuple(rows) if held else None

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
            if prefix == PEFT:
                yield from _candidates(re.sub(f"^({re.escape(PEFT)})+", "", rest))


ENDS = (".weight", "_weight", ".scale")
"""What follows the name of a layer in that of its weight; `.scale` is that of Flux's norms."""
TRANSPOSED = ("text_projection",)
"""Tensors that are transposed in the other naming (open_clip)."""
MODULATIONS = ("modulation", "scale_shift_table")
"""Names of the tensors that `diff_m` is for, in either naming of Wan."""


def _modules(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The weights of a model by the names of their layers, and its other tensors but biases."""
    for name, tensor in tensors.items():
        if not tensor.shape or name.endswith((".bias", "_bias")):
            continue
        end = next((end for end in ENDS if name.endswith(end)), "")
        layer = name.removesuffix(end)
        is_scale = end == ".scale" and f"{layer}.weight" in tensors
        if not (is_scale or (not end and name.endswith(TRANSPOSED))):
            yield layer, tensor


def _bias_of(weight: str) -> str:
    return re.sub("weight$", "bias", weight)


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
