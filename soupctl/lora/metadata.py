"""What the metadata of trainers says about an adapter that its tensors do not show.

Rule 1: an adapter whose metadata says that its update is not linear is refused, also without the
tensors that such an update needs.
Rule 2: metadata that is not JSON, or not of these keys, says nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import InputError
from ..pattern import pattern
from .modules import OTHER_TOOL

ARGUMENTS = "ss_network_args"
"""kohya: the options of `--network_args`, as JSON whose values may be strings."""
MODULE = "ss_network_module"
"""kohya: the module that trained, such as `networks.lora` or `lycoris.kohya`."""
ONETRAINER = "ot_config"

DORA = pattern(r"(.*[_.])?(dora(_wd)?|weight_decompose)")
"""Options that turn DoRA on (LyCORIS, sd-scripts and its forks)."""
RANK_STABILISED = pattern(r"(.*_)?(rs_?lora)")
INITIAL = pattern(r"(.*_)?(pissa(_init)?|initialize|init_lora_weights|lora_init)")
CHANGED_BASES = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Initialisations that subtract the factors from the base (PEFT's LoraConfig)."""
TRUE = frozenset({"true", "1", "yes", "on"})


def require_linear(metadata: Mapping[str, str], path: str) -> None:
    """Raise InputError for an adapter that is not a sum of products by its metadata alone."""
    for key, what in _findings(metadata):
        text = f"is an adapter with {what} by its metadata ({key}), not a plain one"
        raise InputError(text, path=path, advice=OTHER_TOOL)


def changed_base(value: object) -> str | None:
    """The initialisation that changed the base of an adapter; None for any other."""
    name = str(value).lower()
    return name if name.startswith(CHANGED_BASES) else None


def _findings(metadata: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The keys that tell of another update, and the name of that update."""
    module = metadata.get(MODULE, "").lower()
    if "dora" in re.split(r"[._]", module):
        yield MODULE, "DoRA"
    options = {(ARGUMENTS, key): value for key, value in _object(metadata.get(ARGUMENTS)).items()}
    options |= {("", key): value for key, value in metadata.items()}
    for (parent, key), value in options.items():
        where = ": ".join(filter(None, (parent, key)))
        is_algorithm = key == "algo" and str(value).lower() == "dora"
        if is_algorithm or (DORA.fullmatch(key.lower()) and _is_true(value)):
            yield where, "DoRA"
        # LyCORIS writes alphas that are already multiplied by the root of the rank
        is_other = "lycoris" not in module and _is_true(value)
        if is_other and RANK_STABILISED.fullmatch(key.lower()):
            yield where, "rank-stabilised scales (rsLoRA)"
        if INITIAL.fullmatch(key.lower()):
            initial = "pissa" if "pissa" in key.lower() and _is_true(value) else changed_base(value)
            if initial is not None:
                yield where, f"a base changed by its initialisation ({initial})"
    config = _object(metadata.get(ONETRAINER))
    if config.get("lora_decompose") is True and config.get("peft_type") == "LORA":
        yield f"{ONETRAINER}: lora_decompose", "DoRA"


def _object(text: str | None) -> dict[str, Any]:
    """A JSON object; empty for anything else."""
    try:
        value = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _is_true(value: object) -> bool:
    return str(value).strip().lower() in TRUE
