"""A config as the libraries read it: defaults filled in, and equal spellings made one.

Rule 1: an absent field, a null and the default are the same; so are one value and a list of it,
and the names that several versions of a library have for one field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .defaults import defaults_of

Config = Mapping[str, Any]

NOTHING: tuple[Any, ...] = (None, False, [], {})
"""Values that mean the same as an absent field, unless the class has another default."""

THETAS = ("rope_theta", "global_rope_theta", "rotary_emb_base")
SHARES = ("partial_rotary_factor", "rotary_pct")
ROPE = ("rope_parameters", "rope_scaling", *THETAS, *SHARES)
ROPE_TYPES = {"su": "longrope"}
"""Kinds of rotary embeddings by their older names (Phi-3)."""
LOCAL_THETAS = ("rope_local_base_freq", "local_rope_theta")
SLIDING, FULL = "sliding_attention", "full_attention"
THETA = 10000.0
"""The default base of rotary frequencies."""
IDS = "_token_id"
SPLIT: Mapping[tuple[str, Any], str] = {
    ("Transformer2DModel", "ada_norm_single"): "PixArtTransformer2DModel",
    ("Transformer2DModel", "ada_norm_zero"): "DiTTransformer2DModel",
}
WINDOW = ("sliding_window", "max_window_layers")
LABELS = ("id2label", "label2id", "num_labels")


def class_of(config: Config, known: str | None = None) -> str | None:
    """The class or `model_type` of a config; `known` is the class that files around it give."""
    for key in ("_class_name", "model_type"):
        name = config.get(key)
        if isinstance(name, str) and name:
            # diffusers now uses another class for these configs
            return SPLIT.get((name, config.get("norm_type")), name)
    return known


def effective(config: Config, known: str | None = None) -> dict[str, Any]:
    """The config with defaults and in one spelling, without fields that have no meaning.

    `known` is its class, for a config that does not name it.
    """
    name = class_of(config, known)
    defaults = defaults_of(name)
    filled = {
        **defaults.values,
        **{
            key: value
            for key, value in config.items()
            if value is not None or key not in defaults.values or key in defaults.nullable
        },
    }
    rope = _rope(config, defaults.values)
    for key in (*ROPE, *LOCAL_THETAS):
        filled.pop(key, None)
    if rope:
        filled["rope_parameters"] = rope
    _derive(filled, name)
    for part in defaults.parts:
        filled.setdefault(part, {})
    found: dict[str, Any] = {}
    for key, value in filled.items():
        if isinstance(value, dict) and key in defaults.parts:
            found[key] = effective(value, defaults.parts[key])
        elif not _is_nothing(value) or key in defaults.values:
            found[key] = value[0] if key.endswith(IDS) and _is_single(value) else value
    if name is not None:
        found.pop("model_type", None)
        found["_class_name"] = name
    return found


def _is_nothing(value: object) -> bool:
    return any(value is each or (each in ([], {}) and value == each) for each in NOTHING)


def _is_single(value: object) -> bool:
    return isinstance(value, list) and len(value) == 1


def _derive(config: dict[str, Any], name: str | None) -> None:
    """Fill in, or remove, fields that follow from others."""
    heads, width = config.get("num_attention_heads"), config.get("hidden_size")
    if type(heads) is int and heads > 0:
        if config.get("num_key_value_heads") is None:
            config["num_key_value_heads"] = heads
        if config.get("head_dim") is None and type(width) is int:
            config["head_dim"] = width // heads
    if "feed_forward_proj" in config:
        config.pop("dense_act_fn", None)
        config.pop("is_gated_act", None)
        _untie_t5(config, name)
    if config.get("num_decoder_layers") == config.get("num_layers"):
        config.pop("num_decoder_layers", None)
    if name is not None and name.startswith("qwen") and not config.get("use_sliding_window"):
        for key in WINDOW:
            config.pop(key, None)
    labels = config.get("id2label")
    if isinstance(labels, dict) and labels == {str(n): f"LABEL_{n}" for n in range(len(labels))}:
        for key in LABELS:
            config.pop(key, None)


def _untie_t5(config: dict[str, Any], name: str | None) -> None:
    """Add transformers 5's field for whether a T5 scales its output, which tying used to decide.

    Embeddings of the T5 family are tied whatever its config says.
    """
    tied = config.pop("tie_word_embeddings", None)
    if name == "t5" and "scale_decoder_outputs" not in config:
        config["scale_decoder_outputs"] = tied is not False


def _rope(config: Config, defaults: Config) -> Any:
    """The rotary embedding as transformers 5 spells it; empty for a config without one."""
    usual = defaults.get("rope_parameters") or {}
    if not any(config.get(key) is not None for key in (*ROPE, *LOCAL_THETAS)):
        return dict(usual)
    given = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(given, dict):
        return {"rope_parameters": given}
    local = _first(config, LOCAL_THETAS, None)
    if SLIDING in given or FULL in given:
        return {key: _spelled(value, config, usual.get(key)) for key, value in given.items()}
    if SLIDING in usual or local is not None:
        theta = local if local is not None else (usual.get(SLIDING) or {}).get("rope_theta", THETA)
        sliding = {"rope_theta": theta, "rope_type": "default"}
        return {FULL: _spelled(given, config, usual.get(FULL)), SLIDING: sliding}
    return _spelled(given, config, usual)


def _spelled(given: Any, config: Config, usual: Config | None) -> Any:
    """One rotary embedding in that spelling: base, type and the fields of the type."""
    if not isinstance(given, dict):
        return given
    usual = usual or {}
    found = {key: value for key, value in given.items() if key != "type" and value is not None}
    found.setdefault("rope_theta", _first(config, THETAS, usual.get("rope_theta", THETA)))
    said = found.setdefault("rope_type", given.get("type", "default"))
    found["rope_type"] = ROPE_TYPES.get(said, said) if isinstance(said, str) else said
    share = _first(config, SHARES, usual.get("partial_rotary_factor"))
    if share is not None:
        found.setdefault("partial_rotary_factor", share)
    longest = config.get("original_max_position_embeddings", config.get("max_position_embeddings"))
    if found["rope_type"] in ("llama3", "yarn", "longrope") and longest is not None:
        found.setdefault("original_max_position_embeddings", longest)
    return found


def _first(config: Config, keys: tuple[str, ...], otherwise: Any) -> Any:
    """The first of these fields that is set."""
    return next((config[key] for key in keys if config.get(key) is not None), otherwise)
