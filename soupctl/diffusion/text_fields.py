"""The fields of text encoders and tokenizers, with types and bounds."""

from __future__ import annotations

from collections.abc import Mapping

from .config_field import (
    FLAG,
    LAYERS,
    LONGEST,
    SHARE,
    SIZE,
    TEXT,
    Field,
    choice,
    either,
    listed,
    number,
    optional,
    required,
    whole,
)

TEXT_ENCODER_FIELDS: Mapping[str, Field] = {
    "architectures": optional(
        listed(choice("CLIPTextModel", "CLIPTextModelWithProjection", "CLIPModel"))
    ),
    "attention_dropout": SHARE,
    "bos_token_id": optional(whole()),
    "dtype": optional(TEXT),
    "eos_token_id": optional(whole()),
    "hidden_act": TEXT,
    "hidden_size": required(SIZE),
    "initializer_factor": number(0, 1e6),
    "initializer_range": number(0, 1e6),
    "intermediate_size": SIZE,
    "layer_norm_eps": number(0, 1),
    "max_position_embeddings": required(SIZE),
    "model_type": choice("clip_text_model", "clip"),
    "num_attention_heads": SIZE,
    "num_hidden_layers": LAYERS,
    "pad_token_id": optional(whole()),
    "projection_dim": SIZE,
    "torch_dtype": optional(TEXT),
    "transformers_version": optional(TEXT),
    "vocab_size": required(whole(1, 10_000_000)),
}
"""The fields of a text encoder that are passed to transformers."""

T5_FIELDS: Mapping[str, Field] = {
    "architectures": optional(listed(TEXT)),
    "classifier_dropout": SHARE,
    "d_ff": SIZE,
    "d_kv": SIZE,
    "d_model": required(SIZE),
    "decoder_start_token_id": optional(whole()),
    "dropout_rate": SHARE,
    "dtype": optional(TEXT),
    "eos_token_id": optional(whole()),
    "feed_forward_proj": choice("relu", "gated-gelu", "gelu", "gated-silu", "gated-relu"),
    "initializer_factor": number(0, 1e6),
    "is_encoder_decoder": FLAG,
    "layer_norm_epsilon": number(0, 1),
    "model_type": choice("t5", "umt5"),
    "num_decoder_layers": optional(LAYERS),
    "num_heads": SIZE,
    "num_layers": LAYERS,
    "pad_token_id": optional(whole()),
    "relative_attention_max_distance": SIZE,
    "relative_attention_num_buckets": SIZE,
    "tie_word_embeddings": FLAG,
    "torch_dtype": optional(TEXT),
    "transformers_version": optional(TEXT),
    "use_cache": FLAG,
    "vocab_size": required(whole(1, 10_000_000)),
}
"""The fields of a T5 encoder that are passed to transformers."""

_TOKEN = optional(either(TEXT, Field("an object", lambda value: isinstance(value, dict))))

TOKENIZER_FIELDS: Mapping[str, Field] = {
    "add_prefix_space": optional(FLAG),
    "added_tokens_decoder": Field("an object", lambda value: isinstance(value, dict)),
    # a tokenizer of T5 has a hundred
    "additional_special_tokens": optional(listed(_TOKEN, 0, LONGEST)),
    "backend": optional(TEXT),
    "bos_token": _TOKEN,
    "clean_up_tokenization_spaces": optional(FLAG),
    "do_lower_case": optional(FLAG),
    "eos_token": _TOKEN,
    "extra_ids": optional(whole(0, LONGEST)),
    "errors": choice("replace", "strict", "ignore"),
    "model_max_length": required(SIZE),
    "pad_token": _TOKEN,
    "processor_class": optional(choice("CLIPProcessor")),
    "tokenizer_class": optional(
        choice("CLIPTokenizer", "CLIPTokenizerFast", "T5Tokenizer", "T5TokenizerFast")
    ),
    "unk_token": _TOKEN,
}
"""The fields of a tokenizer that are passed to transformers."""
