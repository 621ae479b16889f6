"""Small pipelines, adapters of them, and what a component of a pipeline holds."""

from __future__ import annotations

import json
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
from making import contents, save

from soupctl import verbs
from soupctl.verbs import Application, Ingredient

COMPONENTS = ("text_encoder", "unet", "vae")
Q = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight"
TE_Q = "text_model.encoder.layers.0.self_attn.q_proj.weight"
VAE = "decoder.mid_block.attentions.0.to_q.weight"
MATRICES = {"unet": Q, "text_encoder": TE_Q, "vae": VAE}
FILES = {
    "unet": "unet/diffusion_pytorch_model.safetensors",
    "text_encoder": "text_encoder/model.safetensors",
    "vae": "vae/diffusion_pytorch_model.safetensors",
}
LISTED = {
    "unet": ["diffusers", "UNet2DConditionModel"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def pipeline(name: str, seed: int, *same: str, of: str = "base") -> None:
    """A pipeline of three components; those called `same` are of another pipeline."""
    random = np.random.default_rng(seed)
    for component, file in FILES.items():
        if component in same:
            shutil.copytree(Path(of, component), Path(name, component))
            continue
        values = random.normal(0, 1, (6, 4)).astype(np.float16)
        values[0, 0] = -0.0
        save(Path(name, file), {"format": "pt"}, **{MATRICES[component]: values}, n=values[1])
        Path(name, component, "config.json").write_text(json.dumps({"width": 4}))
    Path(name, "model_index.json").write_text(json.dumps(LISTED))


def lora(path: str, **modules: int) -> dict[str, np.ndarray]:
    """A LoRA of kohya's names; each module has a seed. Returns the exact updates."""
    arrays, updates = {}, {}
    for module, seed in modules.items():
        random = np.random.default_rng(seed)
        down = random.integers(-8, 8, (2, 4)).astype(np.float16) / 16
        up = random.integers(-8, 8, (6, 2)).astype(np.float16) / 16
        arrays |= {f"{module}.lora_down.weight": down, f"{module}.lora_up.weight": up}
        arrays[f"{module}.alpha"] = np.float16(2)
        updates[module] = up.astype(np.float64) @ down.astype(np.float64)
    save(Path(path), **arrays)
    return updates


OF_UNET = "lora_unet_" + Q.removesuffix(".weight").replace(".", "_")
OF_TEXT = "lora_te_" + TE_Q.removesuffix(".weight").replace(".", "_")


def both(path: str = "lora.st") -> dict[str, np.ndarray]:
    """A LoRA of the UNet and of the text encoder."""
    return lora(path, **{OF_UNET: 1, OF_TEXT: 2})


def apply(base: str, *deltas: str | tuple[str, Fraction | int], output: str = "out", **options):
    """Deltas added to a pipeline, in place of any other output."""
    pairs = [each if isinstance(each, tuple) else (each, 1) for each in deltas]
    given = [Ingredient(path, Fraction(scale)) for path, scale in pairs]
    return verbs.apply(Application(base, given, output, **options), force=True)


def assert_same(one: str, other: str, *components: str) -> None:
    """That the tensors of these components are equal, bit for bit."""
    for component in components or COMPONENTS:
        file = FILES[component]
        assert contents(Path(one, file)) == contents(Path(other, file)), component


def values(folder: str, component: str) -> np.ndarray:
    """The matrix of a component."""
    raw = contents(Path(folder, FILES[component]))[MATRICES[component]]
    return np.frombuffer(raw[2], np.float16).reshape(6, 4)


def added(folder: str, component: str, update: np.ndarray) -> np.ndarray:
    """The matrix of a component plus an update, exact in float64, rounded once."""
    return (values(folder, component).astype(np.float64) + update).astype(np.float16)
