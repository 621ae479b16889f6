"""The blocks of a base that can receive prompts, and the shapes of their inputs.

Rule 1: shapes come from a forward pass of the base's own class on the meta device, which takes no
memory, so no table of models has to be kept.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoints.digest import text_digest
from ..diffusion.families.flux import SIDE
from ..errors import MismatchError
from .config import DITS, TRANSFORMERS, UNETS, BaseDescription, Site

# the batch size does not matter, because it is not part of a block's shape
TEXT_TOKENS = 8


def describe_base(
    model: Any,
    *,
    sample_size: tuple[int, int] | None = None,
    num_train_timesteps: int | None = None,
    prediction_type: str | None = None,
    digest: str | None = None,
    name: str = "",
) -> BaseDescription:
    """The facts of a diffusers denoiser that a bank needs; `sample_size` defaults to its config.

    Raises MismatchError for a class, or a kind of conditioning, that is not supported.
    """
    model = uncompiled(model)
    kind = type(model).__name__
    if kind not in TRANSFORMERS + UNETS:
        known = ", ".join(TRANSFORMERS + UNETS)
        raise MismatchError(f"prompt banks do not support {kind}; supported are {known}")
    size = _configured_size(model) if sample_size is None else sample_size
    if kind in TRANSFORMERS and size[0] != size[1]:
        what = f"a {kind} with a bank makes only square images, not {size[0]} by {size[1]}"
        raise MismatchError(what)
    return BaseDescription(
        kind=kind,
        sites=_sites(model.__class__, _plain(model.config), size),
        sample_size=size,
        embedding_width=_embedding_width(model),
        config_digest=_config_digest(model),
        num_train_timesteps=num_train_timesteps,
        prediction_type=prediction_type,
        digest=digest,
        name=name,
    )


def uncompiled(model: Any) -> Any:
    """The model inside, if `torch.compile` has wrapped it; otherwise the model."""
    return getattr(model, "_orig_mod", model)


def blocks_of(model: Any) -> dict[str, nn.Module]:
    """The blocks that can receive prompts, by name, in the order of the forward pass."""
    if type(model).__name__ in TRANSFORMERS:
        # a Flux model has blocks of two kinds
        return {
            f"{kind}.{index}": each
            for kind in ("transformer_blocks", "single_transformer_blocks")
            for index, each in enumerate(getattr(model, kind, ()))
        }
    middle = {} if model.mid_block is None else {"mid_block": model.mid_block}
    return {
        **{f"down_blocks.{index}": each for index, each in enumerate(model.down_blocks)},
        **middle,
        **{f"up_blocks.{index}": each for index, each in enumerate(model.up_blocks)},
    }


def base_parameters(model: Any) -> int:
    """The number of parameters of a base in its original layout.

    In diffusers, each block of a DiT has a copy of the embedders; the original has only one.
    """
    count = sum(parameter.numel() for parameter in model.parameters())
    if type(model).__name__ in DITS:
        copies = [block.norm1.emb for block in model.transformer_blocks][1:]
        count -= sum(each.numel() for copy in copies for each in copy.parameters())
    return count


# a base is described again each time that a bank is attached, and the forward pass takes long
@lru_cache(maxsize=64)
def _sites(kind: Any, config: str, size: tuple[int, int]) -> tuple[Site, ...]:
    """The blocks of a model of that class, whose config is JSON."""
    with torch.device("meta"):
        twin = kind.from_config(json.loads(config))
    twin.to("meta").eval()
    shapes: dict[str, tuple[int, ...]] = {}
    for name, block in blocks_of(twin).items():
        block.register_forward_pre_hook(_recorder(shapes, name), with_kwargs=True)
    try:
        with torch.no_grad():
            twin(**dummy_inputs(twin, size))
    except RuntimeError:
        what = f"a {kind.__name__} with this config cannot process inputs of {size[0]} by {size[1]}"
        raise MismatchError(what) from None
    return tuple(Site(name, depth, shapes[name]) for depth, name in enumerate(blocks_of(twin)))


def _recorder(shapes: dict[str, tuple[int, ...]], name: str) -> Any:
    def record(_block: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        shapes[name] = tuple(hidden.shape[1:])

    return record


def _configured_size(model: Any) -> tuple[int, int]:
    # that of Flux has none
    size = model.config.get("sample_size")
    if size is None:
        raise MismatchError("the config of the base has no sample_size; give one")
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _embedding_width(model: Any) -> int:
    if type(model).__name__ in TRANSFORMERS:
        return int(model.inner_dim)
    return int(model.time_embedding.linear_2.out_features)


def dummy_inputs(model: Any, size: tuple[int, int], batch: int = 1) -> dict[str, Any]:
    """Arguments for a forward pass, on the meta device; all but the sample have a batch of one."""
    config = model.config
    whole = torch.zeros(1, dtype=torch.long, device="meta")
    if type(model).__name__ == "FluxTransformer2DModel":
        return _flux_inputs(config, size, batch)
    sample = _numbers(batch, config.in_channels, *size)
    if type(model).__name__ in DITS:
        return {"hidden_states": sample, "timestep": whole, "class_labels": whole}
    if type(model).__name__ in TRANSFORMERS:
        return {"hidden_states": sample, "timestep": whole, **_joint_inputs(config)}
    inputs = {"sample": sample, "timestep": whole}
    if model.class_embedding is not None:
        inputs["class_labels"] = _class_labels(model, whole)
    if type(model).__name__ == "UNet2DConditionModel":
        inputs |= _text_inputs(config)
    return inputs


def _joint_inputs(config: Any) -> dict[str, Any]:
    """The embeddings of a caption."""
    return {
        "encoder_hidden_states": _numbers(1, TEXT_TOKENS, config.joint_attention_dim),
        "pooled_projections": _numbers(1, config.pooled_projection_dim),
    }


def _flux_inputs(config: Any, size: tuple[int, int], batch: int) -> dict[str, Any]:
    """Arguments for latents of that height and width, packed into tokens."""
    tokens = (size[0] // SIDE) * (size[1] // SIDE)
    return {
        "hidden_states": _numbers(batch, tokens, config.in_channels),
        "timestep": _numbers(1),
        "img_ids": _numbers(tokens, 3),
        "txt_ids": _numbers(TEXT_TOKENS, 3),
        **({"guidance": _numbers(1)} if config.guidance_embeds else {}),
        **_joint_inputs(config),
    }


def _class_labels(model: Any, whole: Tensor) -> Tensor:
    match model.config.class_embed_type:
        case None | "timestep":
            return whole
        case "identity":
            return _numbers(1, _embedding_width(model))
        case "projection" | "simple_projection":
            return _numbers(1, model.config.projection_class_embeddings_input_dim)
        case other:
            raise MismatchError(f"prompt banks do not support class_embed_type {other!r}")


def _text_inputs(config: Any) -> dict[str, Any]:
    if config.encoder_hid_dim_type not in (None, "text_proj"):
        kind = config.encoder_hid_dim_type
        raise MismatchError(f"prompt banks do not support encoder_hid_dim_type {kind!r}")
    width = config.encoder_hid_dim or config.cross_attention_dim
    if not isinstance(width, int):
        (width,) = set(width)
    inputs: dict[str, Any] = {"encoder_hidden_states": _numbers(1, TEXT_TOKENS, width)}
    match config.addition_embed_type:
        case None | "text":
            pass
        case "text_time":
            # six numbers: original size, crop and target size of the image (SDXL)
            text = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
            inputs["added_cond_kwargs"] = {"text_embeds": _numbers(1, text)}
            inputs["added_cond_kwargs"]["time_ids"] = _numbers(1, 6)
        case other:
            raise MismatchError(f"prompt banks do not support addition_embed_type {other!r}")
    return inputs


def _numbers(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta")


def _config_digest(model: Any) -> str:
    """The digest of the settings in a model's config that differ from its class's defaults.

    It stays the same when a newer library adds options.
    """
    defaults = {
        name: each.default for name, each in inspect.signature(type(model)).parameters.items()
    }
    own = {
        name: value
        for name, value in model.config.items()
        if name in defaults and _plain(value) != _plain(defaults[name])
    }
    return text_digest(_plain(own))


def _plain(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
