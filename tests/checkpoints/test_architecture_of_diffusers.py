"""Models are known by the tensors that the installed diffusers gives them."""

from __future__ import annotations

import inspect
import warnings

import pytest
from model_shapes import tensors

from soupctl.checkpoints.architecture import guess_architecture

CLASSES = {
    "AllegroTransformer3DModel": "Allegro transformer",
    "AnyFlowTransformer3DModel": "AnyFlow transformer",
    "AuraFlowTransformer2DModel": "AuraFlow transformer",
    "BriaFiboTransformer2DModel": "Bria FIBO transformer",
    "BriaTransformer2DModel": "Bria transformer",
    "ChromaTransformer2DModel": "Chroma transformer",
    "CogVideoXTransformer3DModel": "CogVideoX transformer",
    "ControlNetModel": "ControlNet",
    "CosmosControlNetModel": "Cosmos ControlNet",
    "CosmosTransformer3DModel": "Cosmos transformer",
    "Flux2Transformer2DModel": "Flux.2 transformer",
    "Flux3Transformer2DModel": "Flux.3 transformer",
    "FluxControlNetModel": "Flux.1 ControlNet",
    "FluxTransformer2DModel": "Flux.1 transformer",
    "GlmImageTransformer2DModel": "GLM-Image transformer",
    "HeliosTransformer3DModel": "Helios transformer",
    "HunyuanImageTransformer2DModel": "HunyuanImage transformer",
    "HunyuanVideo15Transformer3DModel": "HunyuanVideo 1.5 transformer",
    "HunyuanVideoTransformer3DModel": "HunyuanVideo transformer",
    "Krea2Transformer2DModel": "Krea 2 transformer",
    "LTX2VideoTransformer3DModel": "LTX-2 transformer",
    "LTXVideoTransformer3DModel": "LTX-Video transformer",
    "LongCatImageTransformer2DModel": "LongCat-Image transformer",
    "Lumina2Transformer2DModel": "Lumina 2 transformer",
    "MochiTransformer3DModel": "Mochi transformer",
    "OvisImageTransformer2DModel": "Ovis-Image transformer",
    "PixArtTransformer2DModel": "PixArt-alpha transformer",
    "QwenImage21Transformer2DModel": "Qwen-Image 2.1 transformer",
    "QwenImageControlNetModel": "Qwen-Image ControlNet",
    "QwenImageTransformer2DModel": "Qwen-Image transformer",
    "SD3ControlNetModel": "SD 3 ControlNet",
    "SD3Transformer2DModel": "SD 3 transformer",
    "SanaControlNetModel": "Sana ControlNet",
    "SanaTransformer2DModel": "Sana transformer",
    "SanaVideoTransformer3DModel": "Sana-Video transformer",
    "UNet3DConditionModel": "text-to-video UNet",
    "UNetMotionModel": "AnimateDiff UNet",
    "UNetSpatioTemporalConditionModel": "Stable Video Diffusion UNet",
    "WanAnimateTransformer3DModel": "Wan Animate transformer",
    "WanTransformer3DModel": "Wan 2.1 or 2.2 transformer",
    "ZImageTransformer2DModel": "Z-Image transformer",
}
SHORT = ("num_layers", "num_single_layers", "num_refiner_layers", "n_layers", "n_refiner_layers")


@pytest.mark.parametrize("name", CLASSES)
def test_a_model_of_diffusers_is_known_by_its_tensors(name):
    torch = pytest.importorskip("torch")
    kind = getattr(pytest.importorskip("diffusers"), name, None)
    if kind is None:
        pytest.skip(f"this diffusers has no {name}")
    options = {field: 1 for field in inspect.signature(kind.__init__).parameters if field in SHORT}
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = kind(**options)

    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert guess_architecture(tensors(shapes)) in (
        CLASSES[name],
        f"{CLASSES[name]}, diffusers naming",
    )
