"""How far a recipe of five steps is from the exact result when every step is rounded.

    python benchmarks/rounding.py [--size 512]

Rule 1: the exact result is that of `soupctl run`, which the tests hold to `fractions.Fraction`.
Rule 2: the usual way is our own code of the usual formulas: each step in float32, or in the dtype
of the files, and its result in a file of that dtype, except where all steps are one script.
"""

from __future__ import annotations

import argparse
import json
import struct
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from figures import table

from soupctl import verbs

Array = npt.NDArray[np.float32]
Rounding = Callable[[Array], Array]
"""Rounds float32 to values of a dtype."""

SEED, DEVIATION, CHANGE, RANK = 2024, 0.02, 0.004, 64
BLOCK, OTHER, VAE = "unet.attn2.weight", "unet.attn1.weight", "vae.decoder.weight"
RECIPE = """
[inputs]
base = "base.safetensors"
anime = "anime.safetensors"
photo = "photo.safetensors"
style = "style.safetensors"
one = "one.safetensors"
two = "two.safetensors"

[steps.sum]
average = ["anime", "photo"]
weights = [0.7, 0.3]

[steps.difference]
base = "sum"
add = ["style"]
minus = "base"
scales = [0.8]

[steps.blocks]
average = ["difference", "photo"]
weights = [1, 0]
blocks = { "*.attn2.*" = [0.65, 0.35] }

[steps.baked]
base = "blocks"
add = ["one", "two"]
scales = [0.8, 0.4]

[steps.result]
from = "baked"
take = { "vae.*" = "photo" }
"""


def _to_f16(values: Array) -> Array:
    return values.astype(np.float16).astype(np.float32)


def _to_bf16(values: Array) -> Array:
    """Nearest even, of finite values."""
    bits = values.view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return (rounded << 16).astype(np.uint32).view(np.float32)


def _unrounded(values: Array) -> Array:
    return values


ROUNDINGS: dict[str, Rounding] = {"F16": _to_f16, "BF16": _to_bf16}
"""The dtypes of files."""


def _codes(values: Array, dtype: str) -> npt.NDArray[np.uint16]:
    if dtype == "F16":
        return values.astype(np.float16).view(np.uint16)
    return (values.view(np.uint32) >> 16).astype(np.uint16)


@dataclass(frozen=True, slots=True)
class Lora:
    """The factors of the two matrices of the UNet, and alpha."""

    down: Mapping[str, Array]
    up: Mapping[str, Array]
    alpha: float = RANK / 2


Model = dict[str, Array]


def models(size: int, dtype: str) -> tuple[dict[str, Model], dict[str, Lora]]:
    """A base, three checkpoints that were fine-tuned from it, and two LoRAs, of usual values."""
    random, rounding = np.random.default_rng(SEED), ROUNDINGS[dtype]

    def values(rows: int, columns: int, deviation: float) -> Array:
        return random.normal(0, deviation, (rows, columns)).astype(np.float32)

    names = (BLOCK, OTHER, VAE)
    base = {name: rounding(values(size, size, DEVIATION)) for name in names}
    found = {"base": base}
    for fine in ("anime", "photo", "style"):
        found[fine] = {k: rounding(base[k] + values(size, size, CHANGE)) for k in names}
    loras = {}
    for name in ("one", "two"):
        down = {k: rounding(values(RANK, size, 0.05)) for k in (BLOCK, OTHER)}
        up = {k: rounding(values(size, RANK, 0.01)) for k in (BLOCK, OTHER)}
        loras[name] = Lora(down, up)
    return found, loras


def step_by_step(
    given: Mapping[str, Model], loras: Mapping[str, Lora], work: Rounding, stored: Rounding
) -> Model:
    """The recipe as other tools compute it: `work` rounds each operation, `stored` each step."""
    base, anime, photo, style = (given[name] for name in ("base", "anime", "photo", "style"))
    made: Model = {}
    for name in base:
        if name == VAE:
            made[name] = photo[name]
            continue
        value = stored(work(work(anime[name] * f32(0.7)) + work(photo[name] * f32(0.3))))
        difference = work(style[name] - base[name])
        value = stored(work(value + work(difference * f32(0.8))))
        if name == BLOCK:
            value = stored(work(work(value * f32(0.65)) + work(photo[name] * f32(0.35))))
        for lora, scale in ((loras["one"], 0.8), (loras["two"], 0.4)):
            update = work(lora.up[name] @ lora.down[name])
            value = stored(work(value + work(update * f32(scale * lora.alpha / RANK))))
        made[name] = value
    return made


f32 = np.float32


def exact(
    folder: Path, given: Mapping[str, Model], loras: Mapping[str, Lora], dtype: str
) -> dict[str, npt.NDArray[np.uint16]]:
    """The codes of the result of `soupctl run`."""
    for name, model in given.items():
        _save(folder / f"{name}.safetensors", model, dtype)
    for name, lora in loras.items():
        factors: Model = {}
        for tensor in lora.down:
            module = tensor.removesuffix(".weight")
            factors[f"{module}.lora_down.weight"] = lora.down[tensor]
            factors[f"{module}.lora_up.weight"] = lora.up[tensor]
            factors[f"{module}.alpha"] = np.asarray(lora.alpha, np.float32)
        _save(folder / f"{name}.safetensors", factors, dtype)
    (folder / "recipe.toml").write_text(RECIPE)
    out = folder / "out.safetensors"
    verbs.run_recipe(verbs.RecipeRun(folder / "recipe.toml", out), force=True)
    return _read(out)


def _save(path: Path, tensors: Model, dtype: str) -> None:
    entries, end = {}, 0
    data = {name: _codes(np.asarray(values), dtype).tobytes() for name, values in tensors.items()}
    for name, values in tensors.items():
        start, end = end, end + len(data[name])
        entries[name] = {"dtype": dtype, "shape": values.shape, "data_offsets": [start, end]}
    header = json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"".join(data.values()))


def _read(path: Path) -> dict[str, npt.NDArray[np.uint16]]:
    raw = path.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    entries = json.loads(raw[8 : 8 + size])
    data = raw[8 + size :]
    return {
        name: np.frombuffer(data[slice(*entry["data_offsets"])], np.uint16)
        for name, entry in entries.items()
        if name != "__metadata__"
    }


def ulps(one: npt.NDArray[np.uint16], other: npt.NDArray[np.uint16]) -> npt.NDArray[np.int64]:
    """The distance of 16-bit floats in units of the last place; of both zeros it is none."""
    first, second = (_ordered(each.reshape(-1)) for each in (one, other))
    return np.abs(first - second)


def _ordered(codes: npt.NDArray[np.uint16]) -> npt.NDArray[np.int64]:
    magnitude = (codes & 0x7FFF).astype(np.int64)
    return np.where(codes >> 15, -magnitude, magnitude)


@dataclass(frozen=True, slots=True)
class Distance:
    """How far one way of computing is from the exact result."""

    dtype: str
    way: str
    differing: float
    """Share of the elements of merged tensors."""
    several: float
    """Share of those that differ by more than one unit in the last place."""
    largest: int
    """In units in the last place."""


WAYS: dict[str, Callable[[Rounding], tuple[Rounding, Rounding]]] = {
    "float32, each step in a file of the dtype": lambda dtype: (_unrounded, dtype),
    "the dtype throughout": lambda dtype: (dtype, dtype),
    "float32 throughout, rounded in the end": lambda _: (_unrounded, _unrounded),
}
"""What rounds each operation and each step."""


def distances(size: int) -> list[Distance]:
    """The distances of all ways in all dtypes, on square matrices of `size` rows."""
    found = []
    for dtype, rounding in ROUNDINGS.items():
        given, loras = models(size, dtype)
        with tempfile.TemporaryDirectory() as folder:
            right = exact(Path(folder), given, loras, dtype)
        for way, roundings in WAYS.items():
            made = step_by_step(given, loras, *roundings(rounding))
            merged = [
                ulps(_codes(rounding(made[name]), dtype), right[name]) for name in (BLOCK, OTHER)
            ]
            apart = np.concatenate(merged)
            share = float((apart > 0).mean()), float((apart > 1).mean())
            found.append(Distance(dtype, way, *share, int(apart.max())))
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1024)
    rows = [
        [x.dtype, x.way, f"{x.differing:.2%}", f"{x.several:.2%}", f"{x.largest} ulp"]
        for x in distances(parser.parse_args().size)
    ]
    print(table(["dtype", "computed in", "differ", "by more than 1 ulp", "largest"], rows))


if __name__ == "__main__":
    main()
