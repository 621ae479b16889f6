"""Constants, settings, statistics and copies are told from weights that are named alike."""

from __future__ import annotations

import pytest

from soupctl.format.dtypes import DType
from soupctl.format.header import Tensor
from soupctl.kinds.classify import classify
from soupctl.kinds.kind import Role

F32, U8, I64 = DType.F32, DType.U8, DType.I64
CLIP = "cond_stage_model.transformer.text_model.embeddings."


def kind(name: str, shape: tuple[int, ...], dtype: DType = F32) -> tuple[str, str, bool]:
    found = classify({name: Tensor(name, dtype, shape, 0, 0)}).get(name)
    return (
        ("weight", "", False) if found is None else (found.role.value, found.what, found.is_derived)
    )


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("alphas_cumprod", (1000,), ("constant", "noise schedule", False)),
        ("model.betas", (1000,), ("constant", "noise schedule", False)),
        ("denoiser.sigmas", (1000,), ("constant", "noise schedule", False)),
        (CLIP + "position_ids", (1, 77), ("constant", "position ids", True)),
        ("layers.0.rotary_emb.inv_freq", (64,), ("constant", "inverse frequencies", True)),
        ("rope.freqs", (64,), ("constant", "inverse frequencies", False)),
        ("map_noise.freqs", (64,), ("constant", "random frequencies", False)),
        ("unet.emb_fourier.phases", (64,), ("constant", "random frequencies", False)),
        ("blocks.0.rope.freqs", (2, 12, 32), ("weight", "", False)),
        ("freqs", (64,), ("weight", "", False)),
        ("h.0.attn.bias", (1, 1, 1024, 1024), ("constant", "mask", True)),
        ("h.0.attn.masked_bias", (), ("constant", "mask", True)),
        ("bn.num_batches_tracked", (), ("constant", "counter", False)),
        ("model_ema.num_updates", (), ("constant", "counter", False)),
        ("model_ema.decay", (), ("setting", "EMA setting", False)),
        ("v_pred", (0,), ("setting", "marker of the prediction type", False)),
        ("model.__x0__", (0,), ("setting", "marker of the model's kind", False)),
        ("ztsnr", (0,), ("setting", "marker of the prediction type", False)),
        ("text_encoders.t5xxl.spiece_model", (9,), ("setting", "tokenizer", False)),
        ("scale_factor", (), ("setting", "scale of the latents", False)),
        ("h.0.attn.k_scale", (), ("constant", "scale of an attention's cache", False)),
        ("h.0.attn.k_scale", (64,), ("weight", "", False)),
        ("bn.running_var", (64,), ("statistic", "of batch normalisation", False)),
        ("h.0.attn.bias", (768,), ("weight", "", False)),
        ("snake.1.alphas", (64,), ("weight", "", False)),
        ("x.betas", (8,), ("weight", "", False)),
        ("blocks.0.scale_factor", (), ("weight", "", False)),
        ("logit_scale", (), ("weight", "", False)),
        ("rwkv.time_decay", (64,), ("weight", "", False)),
    ],
)
def test_a_name_and_a_shape_make_a_kind(name, shape, expected):
    assert expected == kind(name, shape)


def copies(*names: str) -> dict[str, str | None]:
    tensors = {name: Tensor(name, F32, (8, 4), 0, 0) for name in names}
    return {name: each.of for name, each in classify(tensors).items() if each.role is Role.COPY}


@pytest.mark.parametrize(
    ("copy", "original"),
    [
        ("lm_head.weight", "model.embed_tokens.weight"),
        ("language_model.lm_head.weight", "language_model.model.embed_tokens.weight"),
        ("lm_head.weight", "transformer.wte.weight"),
        ("encoder.embed_tokens.weight", "shared.weight"),
        ("decoder.embed_tokens.weight", "shared.weight"),
        ("model_ema.diffusion_modelout2weight", "model.diffusion_model.out.2.weight"),
    ],
)
def test_a_copy_is_known_by_its_original(copy, original):
    assert {copy: original} == copies(copy, original, "model.norm.weight")
    assert {} == copies(copy, "model.norm.weight")
    assert {} == copies(original, "model.norm.weight")
