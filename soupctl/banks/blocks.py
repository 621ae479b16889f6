"""Where prompts can go in a base, and what shapes go in there, found without computing anything.

Rule 1: shapes come from a forward pass of the base's own class on the meta device: no memory is
taken, and no table of models has to be kept.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoints.digest import text_digest
from ..errors import MismatchError
from .config import TRANSFORMERS, UNETS, BaseDescription, Site

# the length of a prompt shows in no block's input
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
    """What a bank must know of a diffusers denoiser; `sample_size` is else the one of its config.

    Raises MismatchError for a class, or a way of conditioning, that banks do not know.
    """
    model = own_model(model)
    kind = type(model).__name__
    if kind not in TRANSFORMERS + UNETS:
        known = ", ".join(TRANSFORMERS + UNETS)
        raise MismatchError(f"{kind} is no base that prompts can be added to; these are: {known}")
    size = _configured_size(model) if sample_size is None else sample_size
    if kind in TRANSFORMERS and size[0] != size[1]:
        raise MismatchError(f"a {kind} makes square images alone, and not {size[0]} by {size[1]}")
    return BaseDescription(
        kind=kind,
        sites=_sites(model, size),
        sample_size=size,
        embedding_width=_embedding_width(model),
        config_digest=_config_digest(model),
        num_train_timesteps=num_train_timesteps,
        prediction_type=prediction_type,
        digest=digest,
        name=name,
    )


def own_model(model: Any) -> Any:
    """The model itself, where it is one that `torch.compile` has wrapped."""
    return getattr(model, "_orig_mod", model)


def blocks_of(model: Any) -> dict[str, nn.Module]:
    """The blocks that take prompts, by name, in the order of the forward pass."""
    if type(model).__name__ in TRANSFORMERS:
        return {f"transformer_blocks.{i}": each for i, each in enumerate(model.transformer_blocks)}
    middle = {} if model.mid_block is None else {"mid_block": model.mid_block}
    return {
        **{f"down_blocks.{index}": each for index, each in enumerate(model.down_blocks)},
        **middle,
        **{f"up_blocks.{index}": each for index, each in enumerate(model.up_blocks)},
    }


def base_parameters(model: Any) -> int:
    """Numbers of a base in its original layout.

    In diffusers every block of a DiT owns a copy of the embedders, of which the original has one.
    """
    count = sum(parameter.numel() for parameter in model.parameters())
    if type(model).__name__ in TRANSFORMERS:
        copies = [block.norm1.emb for block in model.transformer_blocks][1:]
        count -= sum(each.numel() for copy in copies for each in copy.parameters())
    return count


def _sites(model: Any, size: tuple[int, int]) -> tuple[Site, ...]:
    with torch.device("meta"):
        twin = type(model).from_config(model.config)
    twin.to("meta").eval()
    shapes: dict[str, tuple[int, ...]] = {}
    for name, block in blocks_of(twin).items():
        block.register_forward_pre_hook(_recorder(shapes, name), with_kwargs=True)
    try:
        with torch.no_grad():
            twin(**inputs_of(twin, size))
    except RuntimeError:
        what = f"a {type(model).__name__} of this config takes no images of {size[0]} by {size[1]}"
        raise MismatchError(what) from None
    return tuple(Site(name, depth, shapes[name]) for depth, name in enumerate(blocks_of(twin)))


def _recorder(shapes: dict[str, tuple[int, ...]], name: str) -> Any:
    def record(_block: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        shapes[name] = tuple(hidden.shape[1:])

    return record


def _configured_size(model: Any) -> tuple[int, int]:
    size = model.config.sample_size
    if size is None:
        raise MismatchError("the base does not say its sample size, and none was given")
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _embedding_width(model: Any) -> int:
    if type(model).__name__ in TRANSFORMERS:
        return int(model.inner_dim)
    return int(model.time_embedding.linear_2.out_features)


def inputs_of(model: Any, size: tuple[int, int], batch: int = 1) -> dict[str, Any]:
    """Arguments of a forward pass, on the meta device; all but the sample are of a batch of one."""
    config = model.config
    whole = torch.zeros(1, dtype=torch.long, device="meta")
    sample = _numbers(batch, config.in_channels, *size)
    if type(model).__name__ in TRANSFORMERS:
        return {"hidden_states": sample, "timestep": whole, "class_labels": whole}
    inputs = {"sample": sample, "timestep": whole}
    if model.class_embedding is not None:
        inputs["class_labels"] = _class_labels(model, whole)
    if type(model).__name__ == "UNet2DConditionModel":
        inputs |= _text_inputs(config)
    return inputs


def _class_labels(model: Any, whole: Tensor) -> Tensor:
    match model.config.class_embed_type:
        case None | "timestep":
            return whole
        case "identity":
            return _numbers(1, _embedding_width(model))
        case "projection" | "simple_projection":
            return _numbers(1, model.config.projection_class_embeddings_input_dim)
        case other:
            raise MismatchError(f"a base with class_embed_type {other!r} is not known")


def _text_inputs(config: Any) -> dict[str, Any]:
    if config.encoder_hid_dim_type not in (None, "text_proj"):
        kind = config.encoder_hid_dim_type
        raise MismatchError(f"a base with encoder_hid_dim_type {kind!r} is not known")
    width = config.encoder_hid_dim or config.cross_attention_dim
    if not isinstance(width, int):
        (width,) = set(width)
    inputs: dict[str, Any] = {"encoder_hidden_states": _numbers(1, TEXT_TOKENS, width)}
    match config.addition_embed_type:
        case None | "text":
            pass
        case "text_time":
            # six numbers: the sizes and the crop of the picture (SDXL)
            text = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
            inputs["added_cond_kwargs"] = {"text_embeds": _numbers(1, text)}
            inputs["added_cond_kwargs"]["time_ids"] = _numbers(1, 6)
        case other:
            raise MismatchError(f"a base with addition_embed_type {other!r} is not known")
    return inputs


def _numbers(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta")


def _config_digest(model: Any) -> str:
    """The digest of what a model's config says beyond the defaults of its class.

    So it stays the same when a newer library knows more options.
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
