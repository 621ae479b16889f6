"""Facts about a checkpoint's tensors from its metadata and configs.

Rule 1: all of it may come from an attacker; malformed values are ignored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..frozen import frozen

PLAIN_SETTINGS = frozenset(
    {"format", "full_precision_matrix_mult", "group_size", "orig_dtype", "orig_shape"}
)
"""Settings of a quantised layer, besides its format, that do not change its values."""


@frozen
class TensorFacts:
    """Facts that decide the kind of a tensor, besides names, dtypes and shapes."""

    quantisation: str | None = None
    """The `quant_method` of a config."""
    block: tuple[int, int] | None = None
    """The `weight_block_size` of a config."""
    layers: tuple[tuple[str, str], ...] = ()
    """Name and format of each quantised layer, as ComfyUI writes it into metadata and tensors."""
    adapter: str | None = None
    """The `peft_type` of an adapter's config."""
    absent: tuple[str, ...] = ()
    """Tensors that an index lists and no shard has."""


NO_FACTS = TensorFacts()


def facts_of(
    metadata: Mapping[str, str], config: bytes | None = None, adapter_config: bytes | None = None
) -> TensorFacts:
    """The facts in a file's metadata, its `config.json` and its `adapter_config.json`."""
    model, adapter = _object(config), _object(adapter_config)
    quantisation = model.get("quantization_config")
    if not isinstance(quantisation, dict):
        quantisation = {}
    method, kind = quantisation.get("quant_method"), adapter.get("peft_type")
    return TensorFacts(
        quantisation=method if isinstance(method, str) else None,
        block=_block(quantisation.get("weight_block_size")),
        layers=_layers(metadata.get("_quantization_metadata")),
        adapter=kind if isinstance(kind, str) else None,
    )


def _object(text: bytes | str | None) -> dict[str, Any]:
    try:
        value = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _block(value: Any) -> tuple[int, int] | None:
    if isinstance(value, list) and len(value) == 2 and all(type(size) is int for size in value):
        rows, columns = value
        return (rows, columns) if rows > 0 and columns > 0 else None
    return None


def _layers(text: str | None) -> tuple[tuple[str, str], ...]:
    layers = _object(text).get("layers")
    if not isinstance(layers, dict):
        return ()
    return tuple((name, _format(each)) for name, each in layers.items() if isinstance(each, dict))


def layer_format(text: bytes) -> str | None:
    """The format of a layer from the JSON of its `comfy_quant` tensor, with the other settings.

    None if it has no format.
    """
    settings = _object(text)
    return _format(settings) if settings else None


def _format(settings: Mapping[str, Any]) -> str:
    said = settings.get("format")
    more = sorted(key for key, value in settings.items() if value and key not in PLAIN_SETTINGS)
    return " with ".join([said if isinstance(said, str) else "unknown format", *more])
