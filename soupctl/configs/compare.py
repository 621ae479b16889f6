"""Compares two config files of a model by their meaning for its weights.

Rule 1: a difference is reported with its field and both values; the tables of `fields.py` say
whether the weights depend on the field.
Rule 2: a text that is not JSON is compared as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from math import isnan
from pathlib import PurePath
from typing import Any

from ..frozen import frozen
from . import fields
from .effective import class_of, effective
from .fields import Effect, effect_of
from .schedule import noise_schedule

ABSENT = "absent"
CONTENTS = "contents"
LONGEST_VALUE = 60
CONVOLUTIONAL = ("UNet", "Autoencoder", "AsymmetricAutoencoder", "VQModel")


@frozen
class Difference:
    """A field in which two configs differ, and the two values as text."""

    field: str
    first: str
    other: str
    is_deciding: bool
    """Whether the weights depend on it; otherwise the user chooses a value."""


Form = Callable[[Any, str | None], Any]
"""Selects what is compared of a parsed config, given the class that other files name."""


def differences(
    name: str, first: bytes, other: bytes, classes: tuple[str | None, str | None] = (None, None)
) -> tuple[Difference, ...]:
    """The fields in which two files of one name differ in meaning; empty if they agree.

    `classes` are the classes that a pipeline names for them.
    """
    own = PurePath(name.lower()).name
    if first == other or _is_harmless_file(own):
        return ()
    if own == "merges.txt":
        return _lines(first, other)
    if not own.endswith(".json"):
        return (_whole(own),)
    try:
        one, two = json.loads(first), json.loads(other)
    except (ValueError, RecursionError):
        mine, theirs = _state(first), _state(other)
        is_one_sided = mine != theirs
        return (
            Difference(CONTENTS, mine, theirs, is_deciding=False) if is_one_sided else _whole(own),
        )
    form, harmless = _form(own, one, two)
    try:
        pair = form(one, classes[0]), form(two, classes[1])
    except RecursionError:
        return (_whole(own),)
    return tuple(_different("", *pair, harmless))


def _is_harmless_file(name: str) -> bool:
    """Whether a file only says how text is generated or chats are formatted."""
    return (
        name == "generation_config.json"
        or name.startswith("chat_template.")
        or name.endswith(".jinja")
    )


def _whole(name: str) -> Difference:
    is_vocabulary = not name.endswith(".json")
    return Difference(CONTENTS, "one text", "another", is_vocabulary)


def _state(text: bytes) -> str:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return "not valid JSON"
    return "valid JSON"


def _lines(first: bytes, other: bytes) -> tuple[Difference, ...]:
    """Compare the merges of a tokenizer, which may begin with a version."""
    one, two = (
        [line for line in text.split(b"\n") if line.strip() and not line.startswith(b"#version")]
        for text in (first, other)
    )
    return () if one == two else (_whole("merges.txt"),)


def _form(name: str, one: Any, two: Any) -> tuple[Form, tuple[str, ...]]:
    """How a file is parsed, and its harmless fields."""
    for pattern, form, harmless in FORMS:
        if fields.matches(name, (pattern,)):
            return form, harmless
    if any(
        "Scheduler" in str(each.get("_class_name")) for each in (one, two) if isinstance(each, dict)
    ):
        return _scheduler, ()
    return _model, fields.MODEL


def _model(config: Any, known: str | None) -> Any:
    if not isinstance(config, dict):
        return config
    found = effective(config, known)
    name = class_of(config, known)
    if name is not None and name.startswith(CONVOLUTIONAL):
        # the default image size, which does not affect convolutions
        found.pop("sample_size", None)
    stored = found.get("quantization_config")
    if isinstance(stored, dict) and stored.get("quant_method") in fields.DEQUANTISED:
        # how codes are stored; they are averaged by value
        del found["quantization_config"]
    return found


def _scheduler(config: Any, known: str | None) -> Any:
    return noise_schedule(config, known) if isinstance(config, dict) else config


def _pipeline(config: Any, _known: str | None) -> Any:
    if not isinstance(config, dict):
        return config
    return {
        key: _component_class(value)
        for key, value in effective(config).items()
        if value not in ([None, None], None)
    }


def _component_class(value: Any) -> Any:
    """The plain name of a component's class: libraries move classes, and have fast variants."""
    if not (isinstance(value, list) and len(value) == 2 and isinstance(value[1], str)):
        return value
    name = value[1].removesuffix("Fast")
    return fields.SAME_CLASSES.get(name, name)


def _tokenizer(config: Any, _known: str | None) -> Any:
    """The config of a tokenizer with its tokens by their texts."""
    if not isinstance(config, dict):
        return config
    return {key: _token(value) for key, value in config.items()}


def _token(value: Any) -> Any:
    """A token's text: a special token may be written as text, or as an object with settings."""
    if isinstance(value, dict) and "content" in value and value.keys() <= TOKEN_FIELDS:
        return value["content"]
    if isinstance(value, dict):
        return {key: _token(item) for key, item in value.items()}
    return value


TOKEN_FIELDS = {
    *("content", "lstrip", "rstrip", "normalized", "single_word", "special", "__type", "id"),
}


def _modules(config: Any, _known: str | None) -> Any:
    """The modules of a sentence encoder by path and class; their package has moved."""
    if not isinstance(config, list):
        return config
    return {
        str(index): {
            "path": module.get("path"),
            "_class_name": str(module.get("type")).rpartition(".")[2],
        }
        if isinstance(module, dict)
        else module
        for index, module in enumerate(config)
    }


def _adapter(config: Any, _known: str | None) -> Any:
    """The config of an adapter, with its list of modules sorted."""
    if not isinstance(config, dict):
        return config
    return {
        key: sorted(value)
        if isinstance(value, list) and all(isinstance(x, str) for x in value)
        else value
        for key, value in config.items()
    }


def _plain(config: Any, _known: str | None) -> Any:
    return config


FORMS: tuple[tuple[str, Form, tuple[str, ...]], ...] = (
    ("model_index.json", _pipeline, fields.PIPELINE),
    ("modules.json", _modules, ()),
    ("scheduler_config.json", _scheduler, ()),
    ("adapter_config.json", _adapter, fields.ADAPTER),
    ("tokenizer.json", _tokenizer, fields.TOKENIZER),
    ("tokenizer_config.json", _tokenizer, fields.TOKENIZER),
    ("special_tokens_map.json", _tokenizer, fields.TOKENIZER),
    ("added_tokens.json", _tokenizer, ()),
    ("vocab*.json", _plain, ()),
    ("*processor_config.json", _plain, fields.PROCESSOR),
    ("sentence_bert_config.json", _plain, ("max_seq_length",)),
)
"""By name of the file: the part that is compared, and its harmless fields."""


def _different(path: str, one: Any, two: Any, harmless: tuple[str, ...]) -> Iterator[Difference]:
    if not (isinstance(one, dict) and isinstance(two, dict)):
        if not _same(one, two):
            yield _difference(path, one, two, harmless)
        return
    for key in sorted(one.keys() | two.keys()):
        if effect_of(key, harmless) is Effect.HARMLESS:
            continue
        inside = f"{path}.{key}" if path else key
        first, other = one.get(key), two.get(key)
        if key in fields.DERIVED and (first is None or other is None):
            continue
        if isinstance(first, dict) and isinstance(other, dict):
            yield from _different(inside, first, other, harmless)
        elif not _same(_without(first, harmless), _without(other, harmless)):
            yield _difference(inside, first, other, harmless)


def _difference(path: str, one: Any, two: Any, harmless: tuple[str, ...]) -> Difference:
    keys = path.split(".")
    is_deciding = any(effect_of(key, harmless) is Effect.DECIDING for key in keys)
    is_vocabulary = keys[0] in ("model", "added_tokens", "vocab")
    return Difference(path or CONTENTS, _text(one), _text(two), is_deciding or is_vocabulary)


def _text(value: Any) -> str:
    if value is None:
        return ABSENT
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 3]}..."


def _without(value: Any, harmless: tuple[str, ...]) -> Any:
    """A value without its harmless fields, at every depth."""
    if isinstance(value, dict):
        return {
            key: _without(item, harmless)
            for key, item in value.items()
            if effect_of(key, harmless) is not Effect.HARMLESS
        }
    return [_without(item, harmless) for item in value] if isinstance(value, list) else value


def _same(one: Any, two: Any) -> bool:
    """Whether two values are equal: numbers by value; null and false both mean absent."""
    if isinstance(one, bool) or isinstance(two, bool):
        return _or_false(one) is _or_false(two)
    if isinstance(one, dict) and isinstance(two, dict):
        return all(_same(one.get(key), two.get(key)) for key in one.keys() | two.keys())
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(map(_same, one, two))
    if isinstance(one, float) and isinstance(two, float) and isnan(one):
        return isnan(two)
    return bool(one == two)


def _or_false(value: Any) -> Any:
    return False if value is None else value
