"""Requests as JSON: the record of each part holds the request of the soup it belongs to.

Rule 1: paths become absolute, so that parts can be joined from any folder.
Rule 2: of servers, only the hub is asked because a part names it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from ...checkpoints.open import STREAM
from ...checkpoints.remote.address import address_of
from ...choices import OnInt, OnMissing
from ...errors import UsageError
from ...format.dtypes import parse_dtype
from ...ledger.weights import parse_number
from ..average import Request
from ..blocks.request import BlockWeights, ClassicBlocks, read_blocks
from ..ingredients import Ingredient, as_ingredient

PLAIN: dict[str, tuple[type, ...]] = {
    "allow_nonfinite": (bool,),
    "component": (str, type(None)),
    "variant": (str, type(None)),
    "shard_size": (int, type(None)),
    "ignore_ledger": (bool,),
    "round_weights": (int, type(None)),
    "normalize": (bool,),
}
"""The fields that are JSON values, and their types."""
LISTS = ("keys", "excludes", "pad")
"""The fields that are lists of texts."""
HUB = "hf"
"""The scheme of addresses on the hub."""


def encode_request(request: Request) -> dict[str, Any]:
    """The request as a JSON object; UsageError for one that is not made in parts."""
    _require_divisible(request)
    ingredients = [as_ingredient(each) for each in request.ingredients]
    return {
        "ingredients": [[_path(each.path), str(Fraction(each.weight))] for each in ingredients],
        "output": _path(request.output),
        "dtype": None if request.dtype is None else request.dtype.value,
        "on_int": request.on_int.value,
        "on_missing": request.on_missing.value,
        "dtype_for": [[glob, dtype.value] for glob, dtype in request.dtype_for],
        "take": [[glob, _path(path)] for glob, path in request.take],
        "config_from": None if request.config_from is None else _path(request.config_from),
        "blocks": None if request.blocks is None else _blocks_json(request.blocks),
        **{name: getattr(request, name) for name in PLAIN},
        **{name: [*getattr(request, name)] for name in LISTS},
    }


def decode_request(found: Mapping[str, Any]) -> Request:
    """The request that `encode_request` has written.

    Raises KeyError, TypeError, ValueError or SoupError for another object.
    """
    plain: dict[str, Any] = {name: _of(found[name], *kinds) for name, kinds in PLAIN.items()}
    plain |= {name: tuple(map(_text, found[name])) for name in LISTS}
    return Request(
        ingredients=[
            Ingredient(_place(path), parse_number(_text(weight)))
            for path, weight in found["ingredients"]
        ],
        output=_absolute(found["output"]),
        dtype=None if found["dtype"] is None else parse_dtype(found["dtype"]),
        on_int=OnInt(found["on_int"]),
        on_missing=OnMissing(found["on_missing"]),
        dtype_for=tuple((_text(glob), parse_dtype(name)) for glob, name in found["dtype_for"]),
        take=tuple((_text(glob), _place(path)) for glob, path in found["take"]),
        config_from=None if found["config_from"] is None else _place(found["config_from"]),
        blocks=None if found["blocks"] is None else _blocks(found["blocks"]),
        **plain,
    )


def _require_divisible(request: Request) -> None:
    for option, is_given in (
        ("--keep-sum", request.keep_sum),
        ("--quantize", request.quantize is not None),
        ("--check-blobs", request.check_blobs),
    ):
        if is_given:
            what = f"--part and {option} exclude each other"
            raise UsageError(what, advice="leave one of them out")
    paths = [as_ingredient(each).path for each in request.ingredients]
    for path in (*paths, request.output, *(path for _, path in request.take)):
        if path == STREAM:
            what = "--part reads and writes files, which other processes find, not streams"
            raise UsageError(what, advice="name files")
        address = address_of(path)
        if address is not None and address.scheme != HUB:
            what = "is an address, and parts are made of files on shared disks and on the hub only"
            raise UsageError(what, path=address.shown, advice="download it, and name the copy")
    if (address := address_of(request.output)) is not None:
        what = "is an address, and parts lie beside their soup on a shared disk"
        raise UsageError(what, path=address.shown, advice="name a file there")


def _path(path: str | Path) -> str:
    address = address_of(path)
    return os.path.abspath(path) if address is None else address.shown


def _blocks_json(blocks: BlockWeights | ClassicBlocks | str | Path) -> dict[str, Any]:
    if isinstance(blocks, str | Path):
        blocks = read_blocks(blocks)
    if isinstance(blocks, ClassicBlocks):
        return {"shares": _texts(blocks.shares)}
    default = None if blocks.default is None else _texts(blocks.default)
    return {"blocks": [[glob, _texts(each)] for glob, each in blocks.blocks], "default": default}


def _blocks(found: Mapping[str, Any]) -> BlockWeights | ClassicBlocks:
    if "shares" in found:
        return ClassicBlocks(_numbers(found["shares"]))
    default = None if found["default"] is None else _numbers(found["default"])
    return BlockWeights(
        tuple((_text(glob), _numbers(each)) for glob, each in found["blocks"]), default
    )


def _texts(weights: Sequence[Fraction | int]) -> list[str]:
    return [str(Fraction(each)) for each in weights]


def _numbers(texts: Sequence[str]) -> tuple[Fraction, ...]:
    return tuple(parse_number(_text(text)) for text in texts)


def _text(value: object) -> str:
    return str(_of(value, str))


def _place(value: object) -> str:
    """The absolute path, or the address on the hub; ValueError for all others."""
    address = address_of(_text(value))
    return address.text if address is not None and address.scheme == HUB else _absolute(value)


def _absolute(value: object) -> str:
    """The path; ValueError for a relative one, and for an address, which nobody has asked for."""
    path = _text(value)
    if not Path(path).is_absolute():
        raise ValueError(f"{path[:40]!r} is not an absolute path")
    return path


def _of(value: object, *kinds: type) -> object:
    """The value; TypeError unless it is exactly of one of these types."""
    if type(value) not in kinds:
        raise TypeError(f"{type(value)} is none of {kinds}")
    return value
