"""transformers, diffusers and ComfyUI's layouts load what is made of quantised models."""

from __future__ import annotations

import json
import re

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("diffusers")

import torch
from diffusers import DiTTransformer2DModel
from exact_mean import bits, mean
from safetensors.torch import load_file, save_file
from tiny_pipelines import dit_pipeline, llama
from transformers import LlamaForCausalLM

FP8 = torch.float8_e4m3fn
BLOCK = 8
State = dict[str, torch.Tensor]


def quantised(state: State, suffix: str) -> tuple[State, State]:
    """A state with the weights of its layers as codes and scales, and what it stands for."""
    stored, exact = {}, {}
    for name, tensor in state.items():
        stored[name], exact[name] = tensor.contiguous(), tensor.double()
        if tensor.ndim != 2 or re.search("layers|blocks", name) is None:
            continue
        scale = _scales(tensor, suffix)
        spread = _spread(scale, tensor.shape)
        codes = (tensor.float() / spread).clamp(-448, 448).to(FP8)
        stored[name] = codes
        stored[name.removesuffix("weight") + suffix] = scale
        exact[name] = codes.double() * spread.double()
    return stored, exact


def _scales(tensor: torch.Tensor, suffix: str) -> torch.Tensor:
    sizes = tensor.float().abs()
    if suffix == "scale_weight":
        return sizes.max() / 448
    if suffix == "weight_scale":
        return sizes.amax(1, keepdim=True) / 448
    rows, columns = tensor.shape
    return sizes.reshape(rows // BLOCK, BLOCK, columns // BLOCK, BLOCK).amax((1, 3)) / 448


def _spread(scale: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    if scale.ndim == 2 and scale.shape[1] > 1:
        return scale.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)
    return scale.expand(shape)


SCHEMES = {
    "weight_scale_inv": {"quant_method": "fp8", "weight_block_size": [BLOCK, BLOCK]},
    "weight_scale": {"quant_method": "compressed-tensors", "format": "float-quantized"},
    "scale_weight": {"quant_method": "fp8"},
}


@pytest.mark.parametrize("suffix", SCHEMES)
def test_transformers_loads_the_mean_of_quantised_models(tiny, average, tmp_path, suffix):
    found = []
    for seed, name in enumerate("ab", 1):
        model = llama(seed).to(torch.bfloat16)
        model.save_pretrained(tmp_path / name)
        stored, exact = quantised(load_file(tmp_path / name / "model.safetensors"), suffix)
        save_file(stored, tmp_path / name / "model.safetensors", {"format": "pt"})
        config = json.loads((tmp_path / name / "config.json").read_text())
        config["quantization_config"] = SCHEMES[suffix]
        (tmp_path / name / "config.json").write_text(json.dumps(config))
        found.append(exact)
    average(tmp_path / "a", tmp_path / "b", "-o", tmp_path / "soup")

    soup = LlamaForCausalLM.from_pretrained(tmp_path / "soup", local_files_only=True, dtype="auto")
    assert torch.bfloat16 == soup.dtype
    for name, tensor in soup.state_dict().items():
        expected = mean([exact[name] for exact in found], torch.bfloat16)
        assert torch.equal(bits(expected), bits(tensor)), name
    assert soup(torch.tensor([[1, 2, 17]])) is not None


def test_diffusers_loads_the_mean_of_a_quantised_model_and_a_plain_one(tiny, average, tmp_path):
    found = []
    for seed, name in enumerate("ab", 1):
        model = dit_pipeline(seed).transformer.to(torch.float16)
        model.save_pretrained(tmp_path / name)
        file = tmp_path / name / "diffusion_pytorch_model.safetensors"
        exact = {key: value.double() for key, value in load_file(file).items()}
        if name == "b":
            stored, exact = quantised(load_file(file), "weight_scale")
            save_file(stored, file, {"format": "pt"})
            config = json.loads((tmp_path / name / "config.json").read_text())
            config["quantization_config"] = SCHEMES["weight_scale"]
            (tmp_path / name / "config.json").write_text(json.dumps(config))
        found.append(exact)
    assert any(value.dtype == FP8 for value in load_file(file).values())
    average(tmp_path / "b", tmp_path / "a", "-o", tmp_path / "soup")

    soup = DiTTransformer2DModel.from_pretrained(
        tmp_path / "soup", local_files_only=True, torch_dtype=torch.float16
    )
    for name, tensor in soup.state_dict().items():
        expected = mean([exact[name] for exact in found], torch.float16)
        assert torch.equal(bits(expected), bits(tensor)), name


class ScaledLinear(torch.nn.Linear):
    """A linear layer as ComfyUI loaded it: what a file says of its scale, else 1."""

    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes, bias=False)
        self.register_buffer("scale_weight", torch.ones((), dtype=torch.float32))

    def load(self, state: State, prefix: str) -> None:
        self.weight = torch.nn.Parameter(state.pop(f"{prefix}weight"), requires_grad=False)
        self.scale_weight = state.pop(f"{prefix}scale_weight", self.scale_weight)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return given @ (self.weight.to(given.dtype) * self.scale_weight.to(given.dtype)).T


def read_as_before(state: State, prefix: str) -> tuple[State, bool]:
    """The values of all weights, as ComfyUI reads a marker and scales; if products are in fp8."""
    marker = state.pop(f"{prefix}scaled_fp8")
    assert marker.dtype == FP8
    names = [name for name in state if name.endswith(".weight") and state[name].ndim == 2]
    values = {}
    for name in names:
        layer = ScaledLinear(*reversed(state[name].shape))
        layer.load(state, name.removesuffix("weight"))
        values[name] = layer(torch.eye(layer.weight.shape[1], dtype=torch.float64)).T
    return {**values, **state}, marker.numel() != 2


def read_as_now(state: State, prefix: str) -> tuple[State, bool]:
    """The same by the settings that newer ComfyUI makes of a marker and scales."""
    marker = state.pop(f"{prefix}scaled_fp8")
    settings = {"format": "float8_e4m3fn"}
    if marker.numel() == 2:
        settings["full_precision_matrix_mult"] = "yes"
    layers, values = {}, {}
    for name, tensor in state.items():
        if name.startswith(prefix) and name.endswith(".scale_weight"):
            layers[name.removesuffix(".scale_weight")] = (settings, tensor)
        else:
            values[name] = tensor
    for layer, (_, scale) in layers.items():
        weight = values[f"{layer}.weight"]
        assert (FP8, torch.float32, 0) == (weight.dtype, scale.dtype, scale.ndim)
        values[f"{layer}.weight"] = weight.to(torch.float64) * scale.to(torch.float64)
    return values, "full_precision_matrix_mult" not in settings


@pytest.mark.parametrize("read", [read_as_before, read_as_now])
@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_comfyui_reads_the_mean_as_scaled_fp8(average, tmp_path, prefix, read):
    states = []
    for seed, name in enumerate("ab"):
        random = torch.Generator().manual_seed(seed)
        state = {
            f"{prefix}blocks.{n}.attn.q.weight": torch.randn(16, 32, generator=random)
            for n in range(3)
        }
        state[f"{prefix}blocks.0.attn.q.bias"] = torch.randn(16, generator=random)
        state[f"{prefix}head.weight"] = torch.randn(4, 16, generator=random)
        states.append({key: value.to(torch.bfloat16) for key, value in state.items()})
        save_file(states[-1], tmp_path / f"{name}.safetensors")
    average(
        tmp_path / "a.safetensors", tmp_path / "b.safetensors", "--quantize", "fp8-scaled",
        "-o", tmp_path / "soup.safetensors",
        notes=[f"{tmp_path / 'soup.safetensors'}: 3 weights in fp8 with a scale: off by 2."],
    )  # fmt: skip

    values, in_fp8 = read(load_file(tmp_path / "soup.safetensors"), prefix)
    assert not in_fp8
    assert states[0].keys() == values.keys()
    for name, value in values.items():
        exact = mean([state[name].double() for state in states], torch.float64)
        if "attn.q.weight" not in name:
            assert torch.equal(exact.to(torch.bfloat16), value)
            continue
        scale = exact.abs().max().float() / 448
        steps = value / scale.double()
        assert torch.equal(steps, steps.to(FP8).double())
        # three bits follow the first, so half a step is a sixteenth at most
        off = (value - exact).abs()
        assert (off <= torch.maximum(exact.abs() / 16, scale.double() * 2**-10)).all()
