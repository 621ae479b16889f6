"""The text of a bank's `adapter_config.json`.

Rule 1: the text may come from an attacker: every field is checked, missing and unknown ones are
refused, and all issues are reported in one InputError that names the file.
Rule 2: the file's name and `peft_type` follow PEFT's custom; PEFT itself cannot load a bank.

The fields are checked by hand, with one table. msgspec was tried: it stops at the first wrong
field, and `inspect` needs this file, so its compiled code would become a dependency of every
install.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Mapping
from typing import Any

from .. import __version__
from ..errors import InputError, Issue, UsageError
from ..format.strict_json import decode, parse_object
from .config import BankConfig, BaseDescription, GateInput, GateKind, Site

BANK_FORMAT = 1
"""Version of the file's own layout."""
PEFT_TYPE = "SOUPCTL_DMP"
MOST_BLOCKS = 10_000


def _is_whole(value: Any) -> bool:
    # by exact type, since True is an int
    return type(value) is int


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _optional(accepts: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or accepts(value)


def _list_of(accepts: Callable[[Any], bool], most: int = MOST_BLOCKS) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and len(value) <= most and all(map(accepts, value))


def _one_of(*values: str) -> tuple[Callable[[Any], bool], str]:
    return lambda value: _is_text(value) and value in values, "one of " + ", ".join(values)


TEXT = (_is_text, "text")
TEXT_OR_NULL = (_optional(_is_text), "text or null")
WHOLE = (_is_whole, "a whole number")
WHOLE_OR_NULL = (_optional(_is_whole), "a whole number or null")

FIELDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "format": (lambda value: _is_whole(value) and value == BANK_FORMAT, str(BANK_FORMAT)),
    "peft_type": _one_of(PEFT_TYPE),
    "base_class": TEXT,
    "base_config": TEXT_OR_NULL,
    "base_digest": TEXT_OR_NULL,
    "base_model_name_or_path": TEXT,
    "blocks": (_list_of(_is_text), f"a list of at most {MOST_BLOCKS} names"),
    "depths": (_list_of(_is_whole), f"a list of at most {MOST_BLOCKS} whole numbers"),
    "gate": _one_of(*GateKind),
    "gate_grid": WHOLE_OR_NULL,
    "gate_input": _one_of(*GateInput),
    "inference_mode": (lambda value: value is True, "true"),
    "noisy": (_is_flag, "true or false"),
    "num_prompts": WHOLE,
    "num_train_timesteps": WHOLE_OR_NULL,
    "prediction_type": TEXT_OR_NULL,
    "prepended": WHOLE,
    "sample_size": (
        lambda value: _list_of(_is_whole, 2)(value) and len(value) == 2,
        "a height and a width",
    ),
    "shapes": (_list_of(_list_of(_is_whole)), f"a list of at most {MOST_BLOCKS} shapes"),
    "soupctl_version": TEXT,
    "temb_dim": WHOLE,
    "topk": (_is_number, "a number"),
}
"""A check for the value of each field, and its description."""


def config_fields(config: BankConfig) -> dict[str, Any]:
    """The fields of the file, by name."""
    base = config.base
    return {
        "format": BANK_FORMAT,
        "peft_type": PEFT_TYPE,
        "base_class": base.kind,
        "base_config": base.config_digest,
        "base_digest": base.digest,
        "base_model_name_or_path": base.name,
        "blocks": [site.name for site in base.sites],
        "depths": [site.depth for site in base.sites],
        "gate": config.gate.value,
        "gate_grid": config.gate_grid,
        "gate_input": config.gate_input.value,
        "inference_mode": True,
        "noisy": config.noisy,
        "num_prompts": config.num_prompts,
        "num_train_timesteps": base.num_train_timesteps,
        "prediction_type": base.prediction_type,
        "prepended": config.prepended,
        "sample_size": list(base.sample_size),
        "shapes": [list(site.shape) for site in base.sites],
        "soupctl_version": __version__,
        "temb_dim": base.embedding_width,
        "topk": config.topk,
    }


def encode_config(config: BankConfig) -> bytes:
    """The bytes of the file, formatted as other libraries format theirs."""
    return (json.dumps(config_fields(config), indent=2, sort_keys=True) + "\n").encode("utf-8")


def parse_config(text: bytes, path: str) -> BankConfig:
    """The config in `text`; InputError naming `path`, with all issues, if it is not a bank's."""
    try:
        fields = parse_object(decode(text))
    except ValueError as error:
        raise InputError(f"is not valid JSON: {error}", path=path) from None
    if fields.get("peft_type") != PEFT_TYPE:
        found = reprlib.repr(fields.get("peft_type"))
        raise InputError(f"is not a prompt bank: its peft_type is {found}", path=path)
    if not FIELDS["format"][0](fields.get("format")):
        found = reprlib.repr(fields.get("format"))
        what = f"has format {found}, but only format {BANK_FORMAT} is known"
        raise InputError(what, path=path, advice="a newer soupctl may read it")
    if issues := _field_issues(fields):
        raise InputError.collected(Issue(issue, path) for issue in issues)
    try:
        return _config(fields)
    except UsageError as error:
        issues = [f"is not a valid prompt bank: {issue.what}" for issue in error.issues]
        raise InputError.collected(Issue(issue, path) for issue in issues) from None


def _field_issues(fields: Mapping[str, Any]) -> list[str]:
    """Everything that is wrong with fields one by one, and with the lengths of their lists."""
    issues = [f"has no field {name}" for name in FIELDS if name not in fields]
    unknown = sorted(fields.keys() - FIELDS.keys())
    issues += [f"has an unknown field {reprlib.repr(name)}" for name in unknown]
    issues += [
        f"its {name} is {reprlib.repr(fields[name])}, but must be {expected}"
        for name, (accepts, expected) in FIELDS.items()
        if name in fields and not accepts(fields[name])
    ]
    lists = ("blocks", "depths", "shapes")
    if not issues and len({len(fields[name]) for name in lists}) > 1:
        issues.append("its blocks, depths and shapes have different lengths")
    return issues


def _config(fields: Mapping[str, Any]) -> BankConfig:
    """The config of fields that are checked; UsageError if together they are not valid."""
    sites = zip(fields["blocks"], fields["depths"], fields["shapes"], strict=True)
    height, width = fields["sample_size"]
    base = BaseDescription(
        kind=fields["base_class"],
        sites=tuple(Site(name, depth, tuple(shape)) for name, depth, shape in sites),
        sample_size=(height, width),
        embedding_width=fields["temb_dim"],
        config_digest=fields["base_config"],
        num_train_timesteps=fields["num_train_timesteps"],
        prediction_type=fields["prediction_type"],
        digest=fields["base_digest"],
        name=fields["base_model_name_or_path"],
    )
    return BankConfig(
        base=base,
        gate=GateKind(fields["gate"]),
        gate_input=GateInput(fields["gate_input"]),
        topk=float(fields["topk"]),
        num_prompts=fields["num_prompts"],
        gate_grid=fields["gate_grid"],
        noisy=fields["noisy"],
        prepended=fields["prepended"],
    )
