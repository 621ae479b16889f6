"""Constants: tensors that training does not change, or that say how the weights are used.

Rule 1: a constant is copied, never averaged: two schedules have no mean that is a schedule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..format.header import Tensor
from ..frozen import frozen
from ..pattern import pattern
from .kind import Role, TensorKind


@frozen
class ConstantRow:
    """A row of the table: last parts of names, and the kind of such tensors."""

    what: str
    names: tuple[str, ...]
    """Last parts of dotted names."""
    source: str
    role: Role = Role.CONSTANT
    is_derived: bool = False
    """Whether a library recomputes it from the config if it is missing."""
    fits: Callable[[Tensor], bool] = lambda tensor: True


def _is_schedule(tensor: Tensor) -> bool:
    return len(tensor.shape) <= 1


def _is_own_schedule(tensor: Tensor) -> bool:
    """Whether a tensor named `betas` or `sigmas` is a noise schedule, by its module's name."""
    owner = tensor.name.rpartition(".")[0]
    return len(tensor.shape) == 1 and owner in SCHEDULERS


def _is_of(owner: str) -> Callable[[Tensor], bool]:
    """Whether a tensor is a vector or matrix of a module whose name holds one of these words."""
    words = pattern(owner)
    return lambda tensor: (
        len(tensor.shape) <= 2
        and bool(words.search(tensor.name.rpartition(".")[0].rpartition(".")[2]))
    )


def _is_top(tensor: Tensor) -> bool:
    return len(tensor.shape) <= 1 and "." not in tensor.name


def _is_causal(tensor: Tensor) -> bool:
    """Whether a `bias` is the causal mask of an attention, not a parameter."""
    shape = tensor.shape
    return len(shape) == 4 and shape[:2] == (1, 1) and shape[2] == shape[3]


def _is_square(tensor: Tensor) -> bool:
    return len(tensor.shape) > 1 and tensor.shape[-1] == tensor.shape[-2]


def _is_scalar(tensor: Tensor) -> bool:
    return tensor.shape in ((), (1,))


SCHEDULERS = frozenset({"", "denoiser", "model", "model_sampling", "scheduler", "diffusion"})
"""Modules whose `betas` or `sigmas` are a noise schedule; the empty name is the top level."""

TABLE = (
    ConstantRow(
        "noise schedule",
        (
            *("alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod"),
            *("sqrt_one_minus_alphas_cumprod", "log_one_minus_alphas_cumprod"),
            *("sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod", "posterior_variance"),
            *("posterior_log_variance_clipped", "posterior_mean_coef1", "posterior_mean_coef2"),
            *("lvlb_weights", "log_sigmas", "ddim_sigmas", "ddim_alphas", "ddim_alphas_prev"),
            *("ddim_sqrt_one_minus_alphas", "p2_loss_weight"),
        ),
        "CompVis latent-diffusion ddpm.py, register_schedule; lucidrains denoising-diffusion",
        fits=_is_schedule,
    ),
    ConstantRow(
        "noise schedule",
        ("betas", "alphas", "sigmas", "snr", "loss_weight"),
        "CompVis latent-diffusion ddpm.py; Stability AI generative-models denoiser.py",
        fits=_is_own_schedule,
    ),
    ConstantRow(
        "position ids",
        ("position_ids", "token_type_ids", "position_index"),
        "transformers, CLIP and BERT embeddings before 4.31",
        is_derived=True,
    ),
    ConstantRow(
        "inverse frequencies",
        (
            *(
                "inv_freq",
                "original_inv_freq",
                "cos_cached",
                "sin_cached",
                "cos_cache",
                "sin_cache",
            ),
            *("freqs_cis", "freqs_cos", "freqs_sin", "rope_freqs"),
            "cos_sin_cache",
        ),
        "transformers, rotary embeddings before 4.32; GPT-NeoX",
        is_derived=True,
    ),
    ConstantRow(
        "inverse frequencies",
        ("freqs",),
        "Meta Llama, original names; lucidrains rotary-embedding-torch",
        fits=_is_of("rope|rotary"),
    ),
    ConstantRow(
        "random frequencies",
        ("freqs", "phases"),
        "EDM and EDM2, networks.py: FourierEmbedding, MPFourier",
        fits=_is_of("fourier|noise"),
    ),
    ConstantRow(
        "random frequencies",
        ("positional_encoding_gaussian_matrix",),
        "Segment Anything, prompt_encoder.py",
    ),
    ConstantRow(
        "mask",
        ("bias",),
        "transformers, attention of GPT-2, GPT-J and GPT-NeoX",
        is_derived=True,
        fits=_is_causal,
    ),
    ConstantRow(
        "mask", ("mask", "causal_mask", "attn_mask"), "open_clip", is_derived=True, fits=_is_square
    ),
    ConstantRow("mask", ("masked_bias",), "transformers, GPT-2", is_derived=True, fits=_is_scalar),
    ConstantRow(
        "index of relative positions",
        ("relative_position_index", "relative_coords_table", "rel_pos_index"),
        "Swin Transformer",
        is_derived=True,
    ),
    ConstantRow(
        "scale of an attention's cache",
        ("k_scale", "v_scale", "kv_scale", "q_scale", "prob_scale"),
        "vLLM, quantized key-value cache: scalars that calibration finds",
        fits=_is_scalar,
    ),
    ConstantRow(
        "counter",
        (
            *("num_batches_tracked", "num_updates", "n_averaged", "global_step", "step"),
            *("initted", "num_samples_tracked"),
        ),
        "torch.nn.BatchNorm; CompVis ema.py; torch.optim.swa_utils",
        fits=_is_scalar,
    ),
    ConstantRow(
        "EMA setting", ("decay", "ema_decay"), "CompVis ema.py", Role.SETTING, fits=_is_scalar
    ),
    ConstantRow(
        "marker of the prediction type",
        ("v_pred", "ztsnr", "zsnr", "edm_vpred"),
        "ComfyUI supported_models.py",
        Role.SETTING,
    ),
    ConstantRow(
        "marker of the model's kind",
        ("__x0__", "__sequential__", "__index_timestep_zero__", "__ming_image__"),
        "ComfyUI model_detection.py: Chroma Radiance, Qwen-Image-Edit 2511, Ming-Image",
        Role.SETTING,
    ),
    ConstantRow(
        "setting of the sampler",
        ("edm_mean", "edm_std", "sigma_max", "sigma_min", "sigma_data"),
        "ComfyUI supported_models.py",
        Role.SETTING,
    ),
    ConstantRow(
        "scale of the latents",
        (
            *("latents_mean", "latents_std", "latent_mean", "latent_std", "mean-of-means"),
            *("std-of-means", "mean-of-stds", "mean-of-stds_over_std-of-means"),
        ),
        "diffusers autoencoders; LTX-Video causal_video_autoencoder.py",
        Role.SETTING,
    ),
    ConstantRow(
        "tokenizer",
        ("spiece_model", "tekken_model"),
        "ComfyUI, text_encoders, files with a tokenizer inside",
        Role.SETTING,
    ),
    ConstantRow(
        "scale of the latents", ("scale_factor",), "CompVis ddpm.py", Role.SETTING, fits=_is_top
    ),
)

STATISTICS = frozenset({"running_mean", "running_var"})
"""Last parts of the names of statistics gathered from data (torch.nn.BatchNorm)."""

_ROWS: dict[str, tuple[ConstantRow, ...]] = {
    name: tuple(row for row in TABLE if name in row.names) for each in TABLE for name in each.names
}

CONSTANTS = frozenset(_ROWS)
"""Last parts of the names of constants and settings."""
DERIVED = frozenset(name for row in TABLE if row.is_derived for name in row.names if name != "bias")
"""Last parts of names that only constants have which a library recomputes."""


def find_constants(tensors: Mapping[str, Tensor]) -> dict[str, TensorKind]:
    """The kind of each constant, setting and statistic among the tensors, by name."""
    found = {}
    for name, tensor in tensors.items():
        last = name[name.rfind(".") + 1 :]
        if last in STATISTICS:
            found[name] = TensorKind(Role.STATISTIC, "of batch normalisation")
        for row in _ROWS.get(last, ()):
            if row.fits(tensor):
                found[name] = TensorKind(row.role, row.what, is_derived=row.is_derived)
    return found
