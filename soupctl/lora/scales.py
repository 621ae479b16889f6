"""The scale of each module's update: alpha over rank, from the file or its config.

Rule 1: alphas in the file take precedence; the config of PEFT or diffusers is used without them.
Rule 2: without either, the scale is 1, as in kohya, diffusers and ComfyUI.
"""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Mapping
from dataclasses import field
from fractions import Fraction
from math import isfinite, sqrt
from typing import Any

from ..errors import InputError, shortened
from ..frozen import frozen
from .metadata import changed_base, require_linear
from .modules import AdapterModule, Family

METADATA = "lora_adapter_metadata"
"""The metadata key under which diffusers stores the configs of PEFT."""
COMPONENTS = ("unet", "transformer", "text_encoder_3", "text_encoder_2", "text_encoder")
"""The components with which diffusers prefixes config fields and module names."""


@frozen
class AdapterConfig:
    """The settings of a PEFT config that decide the scales of modules."""

    alpha: Fraction | None = None
    rank: int | None = None
    alphas: Mapping[str, Fraction] = field(default_factory=dict)
    """Alphas of single modules, by the end of a module's name."""
    ranks: Mapping[str, int] = field(default_factory=dict)
    is_rank_stabilised: bool = False
    """Whether alpha is divided by the root of the rank (rsLoRA)."""


Configs = Mapping[str, AdapterConfig]
"""By component; the empty name stands for all."""


def read_configs(metadata: Mapping[str, str], config: bytes | None, path: str) -> Configs:
    """The configs in a file's metadata and its `adapter_config.json`.

    Raises InputError for a malformed config, and for settings other than scales.
    """
    require_linear(metadata, path)
    found: dict[str, dict[str, Any]] = {}
    for name, value in _object(metadata.get(METADATA), path).items():
        component = next((each for each in COMPONENTS if name.startswith(f"{each}.")), "")
        found.setdefault(component, {})[name.removeprefix(f"{component}.")] = value
    if config is not None:
        found[""] = _object(config, path)
    return {component: _config(fields, path) for component, fields in found.items()}


def scale_of(module: AdapterModule, alpha: Fraction | None, configs: Configs) -> Fraction:
    """The scale of a module's update; `alpha` is the file's own."""
    if module.family is Family.FULL and module.rank is None:
        return Fraction(1)
    if alpha is not None:
        # LyCORIS: a LoKr of two full matrices has no rank, and its alpha is ignored
        return Fraction(1) if module.rank is None else alpha / module.rank
    component = next((each for each in COMPONENTS if module.layer.startswith(f"{each}.")), "")
    config = configs.get(component, configs.get("", AdapterConfig()))
    asked = _of_module(config.alphas, module.layer)
    asked = config.alpha if asked is None else asked
    rank = module.rank or _of_module(config.ranks, module.layer) or config.rank
    if asked is None or rank is None:
        return Fraction(1)
    if config.is_rank_stabilised:
        return Fraction(float(asked) / sqrt(rank))
    return asked / rank


def _object(text: str | bytes | None, path: str) -> dict[str, Any]:
    try:
        value = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InputError("its config of adapters is not a JSON object", path=path)
    return value


def _config(fields: Mapping[str, Any], path: str) -> AdapterConfig:
    for name, what in REFUSED.items():
        if fields.get(name):
            raise InputError(f"is an adapter with {what}, which is not linear here", path=path)
    if initial := changed_base(fields.get("init_lora_weights")):
        what = f"is an adapter for a base that its initialisation changed ({initial})"
        raise InputError(what, path=path, advice="save it again converted to a plain LoRA")
    alpha = fields.get("lora_alpha", fields.get("alpha"))
    return AdapterConfig(
        alpha=None if alpha is None else _number(alpha, path),
        rank=_rank(fields["r"], path) if fields.get("r") is not None else None,
        alphas={key: _number(value, path) for key, value in _pattern(fields, "alpha", path)},
        ranks={key: _rank(value, path) for key, value in _pattern(fields, "rank", path)},
        is_rank_stabilised=bool(fields.get("use_rslora")),
    )


REFUSED = {
    "use_dora": "magnitudes of its own (DoRA)",
    "fan_in_fan_out": "transposed weights (fan_in_fan_out)",
    "layer_replication": "layers of its base repeated (layer_replication)",
    "alora_invocation_tokens": "an invocation of its own (aLoRA)",
}
"""Fields of a config that make an update non-linear, and their meaning."""


def _pattern(fields: Mapping[str, Any], kind: str, path: str) -> list[tuple[str, Any]]:
    found = fields.get(f"{kind}_pattern") or {}
    if not isinstance(found, dict):
        raise InputError(f"its {kind}_pattern is not a JSON object", path=path)
    for key in found:
        if re.search(r"[\\^$*+?\[\](){}|]", key):
            what = f"its {kind}_pattern has the regular expression {shortened(key)!r}"
            raise InputError(what, path=path, advice="write the names of modules out")
    return list(found.items())


def _of_module(pattern: Mapping[str, Any], name: str) -> Any:
    """The value that a pattern gives a module: its keys are suffixes of names, at a dot."""
    return next((v for key, v in pattern.items() if f".{name}".endswith(f".{key}")), None)


def _is_finite(value: float) -> bool:
    try:
        return isfinite(value)
    except OverflowError:
        # a whole number beyond the range of floats
        return False


def _number(value: object, path: str) -> Fraction:
    if isinstance(value, int | float) and value is not True and _is_finite(value):
        return Fraction(value)
    raise InputError(f"its alpha is {reprlib.repr(value)}, not a number", path=path)


def _rank(value: object, path: str) -> int:
    if isinstance(value, int) and value is not True and value > 0 and _is_finite(value):
        return value
    raise InputError(f"its rank is {reprlib.repr(value)}, not a whole number above zero", path=path)
