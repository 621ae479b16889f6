"""A baked adapter is what kohya's and PEFT's formulas give, whatever the namings of both sides."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from deltas import apply
from making import save
from safetensors.numpy import load_file
from tiny_originals import FLUX_WIDTH, MODELS, NARROW, converted, drawn, unet_shapes

SCALE, ALPHA, RANK = Fraction(3, 4), 1.0, 2
PREFIX = "model.diffusion_model."
NAMINGS = {
    "kohya": ("lora_unet_{}", ".lora_down.weight", ".lora_up.weight"),
    "PEFT": ("{}", ".lora_A.weight", ".lora_B.weight"),
    "ComfyUI": ("diffusion_model.{}", ".lora_A.weight", ".lora_B.weight"),
    "diffusers": ("unet.{}", ".lora.down.weight", ".lora.up.weight"),
}


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def in_diffusers(kind, model):
    """The model in the naming of diffusers, which takes every Flux to be wide."""
    if kind != "flux":
        return converted("unet" if kind == "sdxl" else kind, model)
    wide = {
        name: np.zeros((7 * FLUX_WIDTH, *[1] * (array.ndim - 1)), np.float32)
        if "linear1" in name
        else array
        for name, array in model.items()
    }
    found = converted(kind, wide)
    for number in range(2):
        parts = ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")
        for end in ("weight", "bias"):
            whole = model[f"single_blocks.{number}.linear1.{end}"]
            pieces = np.split(whole, [NARROW, 2 * NARROW, 3 * NARROW])
            for part, piece in zip(parts, pieces, strict=True):
                found[f"single_transformer_blocks.{number}.{part}.{end}"] = piece
    return found


def shapes_of(kind):
    """The modules of a tiny model of that kind."""
    if kind == "sdxl":
        return unet_shapes(is_linear=True)
    shapes = MODELS[kind]()
    narrow = {name: (3 * NARROW + 32, NARROW) for name in shapes if "linear1" in name}
    return {**shapes, **narrow}


def factors(rng, *shape):
    """Factors with few digits, so that float64 computes every update exactly."""
    return (rng.integers(-32, 33, shape) / 64).astype(np.float32)


def lora(rng, shape, naming):
    """The factors of a LoRA, or of a LoCon of a convolution, and their product."""
    _, down_end, up_end = NAMINGS[naming]
    inner = (1, 1) if len(shape) == 4 else ()
    down, up = factors(rng, RANK, *shape[1:]), factors(rng, shape[0], RANK, *inner)
    product = up.reshape(shape[0], RANK).astype(float) @ down.reshape(RANK, -1).astype(float)
    return {down_end: down, up_end: up}, product


def loha(rng, shape, _):
    """The factors of a LoHa, and the product of their two products, element by element."""
    rows, columns = shape[0], int(np.prod(shape[1:]))
    parts = {
        f".hada_w{number}_{side}": factors(rng, *sides)
        for number in (1, 2)
        for side, sides in (("a", (rows, RANK)), ("b", (RANK, columns)))
    }
    one, two = (
        parts[f".hada_w{n}_a"].astype(float) @ parts[f".hada_w{n}_b"].astype(float) for n in (1, 2)
    )
    return parts, one * two


def lokr(rng, shape, _):
    """The factors of a LoKr, of which the second is a product, and their Kronecker product."""
    high, wide = (2 if side % 2 == 0 else 1 for side in shape[:2])
    columns = int(np.prod(shape[1:]))
    parts = {
        ".lokr_w1": factors(rng, high, wide),
        ".lokr_w2_a": factors(rng, shape[0] // high, RANK),
        ".lokr_w2_b": factors(rng, RANK, columns // wide),
    }
    second = parts[".lokr_w2_a"].astype(float) @ parts[".lokr_w2_b"].astype(float)
    return parts, np.kron(parts[".lokr_w1"].astype(float), second)


FAMILIES = {"LoRA and LoCon": lora, "LoHa": loha, "LoKr": lokr}


def adapter(modules, family, naming):
    """An adapter of each module, and its update."""
    rng = np.random.default_rng(1)
    tensors, updates = {}, {}
    for name, shape in modules.items():
        module = NAMINGS[naming][0].format(name.replace(".", "_") if naming == "kohya" else name)
        parts, product = FAMILIES[family](rng, shape, naming)
        tensors |= {module + end: part for end, part in parts.items()}
        tensors[f"{module}.alpha"] = np.float32(ALPHA)
        updates[f"{name}.weight"] = product.reshape(shape) * (ALPHA / RANK)
    return tensors, updates


# diffusers has names of its own for the factors of a LoRA only
@pytest.mark.parametrize(
    ("naming", "family"),
    [(naming, each) for naming in NAMINGS for each in FAMILIES if naming != "diffusers"]
    + [("diffusers", "LoRA and LoCon")],
)
@pytest.mark.parametrize("kind", ["unet", "sdxl", "flux", "sd3"])
def test_both_namings_of_a_base_take_either_naming_of_an_adapter(kind, naming, family):
    shapes = shapes_of(kind)
    original = drawn(shapes)
    other = in_diffusers(kind, original)
    own = {name: shape for name, shape in shapes.items() if len(shape) > 1}
    theirs = {
        name.removesuffix(".weight"): array.shape
        for name, array in other.items()
        if array.ndim > 1 and name.endswith(".weight") and "pos_embed.pos_embed" not in name
    }
    save(Path("original.st"), **{PREFIX + name: array for name, array in original.items()})
    save(Path("other.st"), **other)
    for modules, is_own in ((own, True), (theirs, False)):
        tensors, updates = adapter(modules, family, naming)
        save(Path("lora.st"), **tensors)

        apply("original.st", ("lora.st", SCALE), output="a.st")
        apply("other.st", ("lora.st", SCALE), output="b.st")

        made = {name.removeprefix(PREFIX): array for name, array in load_file("a.st").items()}
        also = load_file("b.st")
        same = in_diffusers(kind, made)
        assert all(np.array_equal(also[name], same[name]) for name in also)
        before, after = (original, made) if is_own else (other, also)
        for name, array in after.items():
            exact = before[name].astype(float) + float(SCALE) * updates.get(name, 0.0)
            assert np.array_equal(exact.astype(np.float32), array), name
