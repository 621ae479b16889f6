"""The text of a bank's `adapter_config.json`.

Rule 1: attacker text: every field is checked, a missing or unknown one is refused, and whatever is
wrong is an InputError of one line that names the file.
Rule 2: the file's name and `peft_type` follow PEFT's custom; PEFT itself does not load a bank.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from typing import Any, NoReturn

from .. import __version__
from ..errors import InputError, UsageError
from ..format.strict_json import decode, parse_object
from .config import BankConfig, BaseDescription, GateInput, GateKind, Site

BANK_FORMAT = 1
"""Version of the file's own layout."""
PEFT_TYPE = "SOUPCTL_DMP"
MOST_BLOCKS = 10_000


def document(config: BankConfig) -> dict[str, Any]:
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
    """The file as other libraries write theirs: keys sorted, two spaces, a final newline."""
    return (json.dumps(document(config), indent=2, sort_keys=True) + "\n").encode("utf-8")


def parse_config(text: bytes, path: str) -> BankConfig:
    """The config in `text`; InputError naming `path` if it is not that of a sound bank."""
    try:
        fields = parse_object(decode(text))
    except ValueError as error:
        raise InputError(f"is not valid JSON: {error}", path=path) from None
    if fields.get("peft_type") != PEFT_TYPE:
        what = reprlib.repr(fields.get("peft_type"))
        raise InputError(f"is not a prompt bank: its peft_type is {what}", path=path)
    # by exact type, since true equals one
    if type(fields.get("format")) is not int or fields["format"] != BANK_FORMAT:
        raise InputError(
            f"has format {reprlib.repr(fields.get('format'))}, and format {BANK_FORMAT} is known",
            path=path,
            advice="a newer soupctl may read it",
        )
    read = _Fields(fields, path)
    try:
        return read.config()
    except UsageError as error:
        raise InputError(f"is not a sound prompt bank: {error.message()}", path=path) from None


class _Fields:
    """Fields of one file, each handed out only as what it should be."""

    def __init__(self, fields: Mapping[str, Any], path: str) -> None:
        self._fields = fields
        self._path = path

    def config(self) -> BankConfig:
        """All of them, as a config; InputError for a wrong one, UsageError for what cannot be."""
        sites = self._sites()
        base = BaseDescription(
            kind=self._text("base_class"),
            sites=sites,
            sample_size=self._pair("sample_size"),
            embedding_width=self._whole("temb_dim"),
            config_digest=self._optional_text("base_config"),
            num_train_timesteps=self._optional_whole("num_train_timesteps"),
            prediction_type=self._optional_text("prediction_type"),
            digest=self._optional_text("base_digest"),
            name=self._text("base_model_name_or_path"),
        )
        config = BankConfig(
            base=base,
            gate=GateKind(self._one_of("gate", GateKind)),
            gate_input=GateInput(self._one_of("gate_input", GateInput)),
            topk=self._number("topk"),
            num_prompts=self._whole("num_prompts"),
            gate_grid=self._optional_whole("gate_grid"),
            noisy=self._flag("noisy"),
            prepended=self._whole("prepended"),
        )
        if not self._flag("inference_mode"):
            self._refuse("inference_mode", "true")
        self._text("soupctl_version")
        if strangers := sorted(self._fields.keys() - document(config).keys()):
            what = reprlib.repr(strangers[0])
            raise InputError(f"has a field {what}, which is not known", path=self._path)
        return config

    def _sites(self) -> tuple[Site, ...]:
        names, depths = self._list("blocks"), self._list("depths")
        shapes = self._list("shapes")
        if not len(names) == len(depths) == len(shapes):
            problem = "its blocks, depths and shapes are not equally many"
            raise InputError(problem, path=self._path)
        if not all(isinstance(name, str) for name in names):
            self._refuse("blocks", "a list of names")
        if not all(type(depth) is int for depth in depths):
            self._refuse("depths", "a list of whole numbers")
        if not all(isinstance(shape, list) and _are_whole(shape) for shape in shapes):
            self._refuse("shapes", "a list of lists of whole numbers")
        return tuple(
            Site(name, depth, tuple(shape))
            for name, depth, shape in zip(names, depths, shapes, strict=True)
        )

    def _get(self, name: str) -> Any:
        if name not in self._fields:
            raise InputError(f"has no field {name}", path=self._path)
        return self._fields[name]

    def _refuse(self, name: str, expected: str) -> NoReturn:
        found = reprlib.repr(self._fields[name])
        raise InputError(f"its {name} is {found}, not {expected}", path=self._path)

    def _text(self, name: str) -> str:
        value = self._get(name)
        return value if isinstance(value, str) else self._refuse(name, "text")

    def _optional_text(self, name: str) -> str | None:
        return None if self._get(name) is None else self._text(name)

    def _whole(self, name: str) -> int:
        value = self._get(name)
        # by exact type, since True is an int
        return value if type(value) is int else self._refuse(name, "a whole number")

    def _optional_whole(self, name: str) -> int | None:
        return None if self._get(name) is None else self._whole(name)

    def _number(self, name: str) -> float:
        value = self._get(name)
        return float(value) if type(value) in (int, float) else self._refuse(name, "a number")

    def _flag(self, name: str) -> bool:
        value = self._get(name)
        return value if isinstance(value, bool) else self._refuse(name, "true or false")

    def _list(self, name: str) -> list[Any]:
        value = self._get(name)
        if not isinstance(value, list) or len(value) > MOST_BLOCKS:
            self._refuse(name, f"a list of at most {MOST_BLOCKS}")
        return value

    def _pair(self, name: str) -> tuple[int, int]:
        value = self._list(name)
        if len(value) != 2 or not _are_whole(value):
            self._refuse(name, "a height and a width")
        return value[0], value[1]

    def _one_of(self, name: str, known: type[GateKind | GateInput]) -> str:
        value = self._text(name)
        if value not in tuple(known):
            self._refuse(name, "one of " + ", ".join(known))
        return value


def _are_whole(values: list[Any]) -> bool:
    return all(type(value) is int for value in values)
