"""The configs of text encoders.

Sources: the configs of the text encoders of Stable Diffusion 1.5, 2.1, XL and Flux.1.
"""

from __future__ import annotations

from typing import Any

from .shapes import Shapes, counted, first, size

HEAD = 64
"""Channels of a head, in all of them."""
WRAPPED = "text_model."
"""Beginning of the names, which some files leave out."""
LAYERS = f"{WRAPPED}encoder.layers."


def encoder_config(shapes: Shapes, *, is_open_clip: bool) -> dict[str, Any]:
    """The config of a text encoder: of CLIP, or of T5."""
    if any(name.startswith("encoder.block.") for name in shapes):
        return _t5(shapes)
    if not any(name.startswith(WRAPPED) for name in shapes):
        shapes = {**shapes, **{WRAPPED + name: shape for name, shape in shapes.items()}}
    embedding = f"{WRAPPED}embeddings.token_embedding.weight"
    width = size(shapes, embedding, 1)
    projected = size(shapes, "text_projection.weight", 0)
    is_projected = projected > 0 and is_open_clip
    return {
        "architectures": ["CLIPTextModelWithProjection" if is_projected else "CLIPTextModel"],
        "bos_token_id": 0,
        # as in the published configs, for the position of the pooled token
        "eos_token_id": 2,
        "hidden_act": "gelu" if is_open_clip else "quick_gelu",
        "hidden_size": width,
        "intermediate_size": size(shapes, f"{LAYERS}0.mlp.fc1.weight", 0),
        "layer_norm_eps": 1e-05,
        "max_position_embeddings": size(
            shapes, f"{WRAPPED}embeddings.position_embedding.weight", 0
        ),
        "model_type": "clip_text_model",
        "num_attention_heads": max(1, width // HEAD),
        "num_hidden_layers": counted(shapes, LAYERS),
        "pad_token_id": 1,
        "projection_dim": projected or width,
        "vocab_size": size(shapes, embedding, 0),
    }


def _t5(shapes: Shapes) -> dict[str, Any]:
    heads = size({"b": first(shapes, "relative_attention_bias.weight")}, "b", 1)
    query = size(shapes, "encoder.block.0.layer.0.SelfAttention.q.weight", 0)
    return {
        "architectures": ["T5EncoderModel"],
        "d_ff": size({"o": first(shapes, ".wo.weight")}, "o", 1),
        "d_kv": query // heads if heads else HEAD,
        "d_model": size(shapes, "shared.weight", 1),
        "feed_forward_proj": "gated-gelu",
        "is_encoder_decoder": False,
        "model_type": "t5",
        "num_heads": heads,
        "num_layers": counted(shapes, "encoder.block."),
        "relative_attention_num_buckets": size(
            {"b": first(shapes, "relative_attention_bias.weight")}, "b", 0
        ),
        "tie_word_embeddings": False,
        "vocab_size": size(shapes, "shared.weight", 0),
    }
