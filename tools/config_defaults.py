"""Writes soupctl/configs/defaults.json: what diffusers and transformers take for absent fields.

Rule 1: the table says what the installed libraries do, so that it is changed by running this again.
Rule 2: it has the classes of models that are merged, and of a class only what differs from null and
false, and matters to the weights.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import logging
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import transformers
from diffusers.configuration_utils import ConfigMixin
from transformers import PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from soupctl.configs.fields import MODEL, PIPELINE, SCHEDULE, Effect, effect_of, matches

TABLE = Path(__file__).parents[1] / "soupctl" / "configs" / "defaults.json"

MODEL_TYPES = (
    # text encoders of diffusion models
    *("clip", "clip_text_model", "clip_vision_model", "t5", "mt5", "umt5", "bert", "xlm-roberta"),
    *("siglip", "siglip_text_model", "siglip_vision_model", "qwen2_5_vl", "qwen2_5_vl_text"),
    *("qwen3_vl", "qwen3_vl_text"),
    # language models
    *("llama", "mistral", "mixtral", "ministral", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe"),
    *(
        "gemma",
        "gemma2",
        "gemma3",
        "gemma3_text",
        "phi",
        "phi3",
        "gpt2",
        "gpt_neox",
        "gpt_neo",
        "gptj",
    ),
    *("opt", "bloom", "falcon", "mpt", "olmo", "olmo2", "granite", "cohere", "cohere2", "stablelm"),
    *("starcoder2", "deepseek_v2", "deepseek_v3", "glm", "glm4", "smollm3", "ernie4_5", "gpt_oss"),
    *("mamba", "llama4", "llama4_text", "mistral3", "llava", "llava_next", "mllama", "qwen2_vl"),
    # encoders and others
    *("roberta", "distilbert", "albert", "electra", "mpnet", "deberta-v2", "modernbert", "bart"),
    *(
        "mbart",
        "pegasus",
        "marian",
        "m2m_100",
        "vit",
        "dinov2",
        "dinov2_with_registers",
        "beit",
        "deit",
    ),
    *(
        "swin",
        "convnext",
        "segformer",
        "whisper",
        "wav2vec2",
        "hubert",
        "blip",
        "blip-2",
        "nomic_bert",
    ),
)
UNCOMMON = re.compile(
    r"Audio|Music|Speech|Guider|RFD4|MiniMax|Kandinsky6|SanaWM|XSModel|XSAdapter|KVAE|Oobleck|SAME$|Vocoder"
    r"|AceStep|Cosmos3|Ideogram|Helios|Embedder|DiffusionDecoder|SparseControl|AnyFlow|JoyImage|Nucleus"
    r"|PiFlow|T5Film|VidTok|UVit|UniDiffuser|DreamLite|ConsisID|ChronoEdit|EasyAnimate|Flux3|Ernie|Glm"
    r"|LongCat|Motif|Ovis|Condition(Encoder|er)|Animate|RAE$|QwenImage21|Fibo|Magvit"
)
"""Classes of diffusers that are left out, because such models are rarely merged."""
LONGEST = 64
"""Elements of the longest list that is kept."""


def diffusers_defaults() -> tuple[dict[str, dict[str, Any]], dict[str, list[str]]]:
    """Defaults by class and field, and the fields of each class that may be null besides."""
    defaults, nullable = {}, {}
    for name, kind in sorted(_diffusers_classes()):
        fields = inspect.signature(kind.__init__).parameters
        is_scheduler = ".schedulers." in kind.__module__
        is_pipeline = ".pipelines." in kind.__module__
        found = {
            field: _plain(each.default)
            for field, each in fields.items()
            if _is_kept(field, each.default, is_scheduler)
            and not (is_pipeline and matches(field, PIPELINE))
        }
        if found:
            defaults[name] = found
        nulls = [field for field in found if _admits_none(fields[field].annotation)]
        if nulls and not is_scheduler and not is_pipeline:
            nullable[name] = nulls
    return defaults, nullable


def _diffusers_classes() -> Iterator[tuple[str, Any]]:
    for name in dir(diffusers):
        try:
            kind = getattr(diffusers, name)
        except (ImportError, AttributeError, RuntimeError):
            # needs a library that is not installed
            continue
        if not isinstance(kind, type) or not issubclass(kind, ConfigMixin) or UNCOMMON.search(name):
            continue
        rooms = ("models", "schedulers", *(("pipelines",) if name.endswith("Pipeline") else ()))
        if kind.__module__.startswith(tuple(f"diffusers.{room}." for room in rooms)):
            yield name, kind


def transformers_defaults() -> tuple[
    dict[str, dict[str, Any]], dict[str, list[str]], dict[str, dict[str, str]]
]:
    """The same by `model_type`, and the type of each config within another."""
    shared = {each.name for each in dataclasses.fields(PretrainedConfig)}
    defaults, nullable, parts = {}, {}, {}
    for model_type in sorted(set(MODEL_TYPES) & set(CONFIG_MAPPING.keys())):
        kind = CONFIG_MAPPING[model_type]
        hints = {each.name: each.type for each in dataclasses.fields(kind)}
        found = {
            each.name: _plain(each.default)
            for each in dataclasses.fields(kind)
            if each.name not in shared and _is_kept(each.name, each.default, is_scheduler=False)
        }
        if "rope_parameters" in hints and (rope := kind().rope_parameters):
            found["rope_parameters"] = rope
        defaults[model_type] = dict(sorted(found.items()))
        nulls = [name for name in found if _admits_none(hints[name]) and name != "rope_parameters"]
        if nulls:
            nullable[model_type] = sorted(nulls)
        inner = {
            name: part.model_type
            for name, part in kind.sub_configs.items()
            if getattr(part, "model_type", "")
        }
        if inner:
            parts[model_type] = inner
    return defaults, nullable, parts


def _is_kept(field: str, default: Any, is_scheduler: bool) -> bool:
    if field == "self" or default in (inspect.Parameter.empty, dataclasses.MISSING):
        return False
    if default is None or default is False or _plain(default) is None:
        return False
    if is_scheduler:
        return field in SCHEDULE or field in ("flow_shift", "sigma_max", "sigma_min")
    return effect_of(field, MODEL) is not Effect.HARMLESS


def _admits_none(annotation: Any) -> bool:
    if isinstance(annotation, str):
        return "None" in annotation or "Optional" in annotation
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return is_union and type(None) in typing.get_args(annotation)


def _plain(value: Any) -> Any:
    """The value as JSON has it; None for what a config does not hold."""
    try:
        plain = json.loads(json.dumps(value))
    except TypeError:
        return None
    return None if isinstance(plain, list) and len(plain) > LONGEST else plain


def table() -> str:
    """The table as text: a class a line."""
    logging.disable(logging.CRITICAL)
    first, first_null = diffusers_defaults()
    second, second_null, parts = transformers_defaults()
    content = {
        "libraries": {
            "diffusers": diffusers.__version__,
            "transformers": transformers.__version__,
        },
        "defaults": first | second,
        "nullable": first_null | second_null,
        "parts": parts,
    }
    sections = [f"{json.dumps(name)}: {_lines(section)}" for name, section in content.items()]
    return "{\n" + ",\n".join(sections) + "\n}\n"


def _lines(section: dict[str, Any]) -> str:
    rows = (
        f"{json.dumps(name)}:{json.dumps(value, separators=(',', ':'), sort_keys=True)}"
        for name, value in section.items()
    )
    return "{\n" + ",\n".join(rows) + "\n}"


if __name__ == "__main__":
    TABLE.write_text(table(), encoding="utf-8")
