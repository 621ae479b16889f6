"""Fields of configs by their meaning for the weights: data, in one place.

Rule 1: a harmless field has no influence on the weights' meaning, and is ignored.
Rule 2: a deciding field changes what the weights compute; models that differ in it are never
averaged. Any other field is open: the user chooses a value.
Rule 3: patterns are those of `fnmatch`, on the last name of a field; harmless ones go first.
"""

from __future__ import annotations

from enum import Enum
from fnmatch import fnmatchcase
from functools import lru_cache


class Effect(Enum):
    """The meaning of a difference in a field for the weights."""

    HARMLESS = "harmless"
    OPEN = "open"
    DECIDING = "deciding"


ANYWHERE = (
    # the origin of a model, and the library that saved it; a soup has its own dtype
    *("_diffusers_version", "transformers_version", "_commit_hash", "__version__", "*_version"),
    *("name_or_path", "_name_or_path", "base_model_name_or_path", "revision", "auto_map"),
    *("torch_dtype", "dtype", "params_dtype", "compute_dtype"),
    # private settings of the libraries, such as the kind of attention kernel; not `_class_name`
    *("_[abd-z]*", "_commit_hash"),
)

DEQUANTISED = ("fp8", "fbgemm_fp8", "compressed-tensors", "modelopt", "quark")
"""Quantisation methods that are handled by the kinds of tensors, not by the config."""

MODEL = (
    # how a model is run, not what it computes
    *("use_cache", "return_dict", "use_return_dict", "output_*", "torchscript", "use_bfloat16"),
    *(
        "gradient_checkpointing",
        "attn_implementation",
        "use_flash_attn*",
        "upcast_*",
        "tf_legacy_loss",
    ),
    *(
        "chunk_size_feed_forward",
        "pretraining_tp",
        "pruned_heads",
        "unsloth_*",
        "task_specific_params",
    ),
    *(
        "problem_type",
        "finetuning_task",
        "prefix",
        "tokenizer_class",
        "processor_class",
        "model_max_length",
    ),
    "is_encoder_decoder",
    # how it is trained
    *(
        "*dropout*",
        "*_drop",
        "*_pdrop",
        "layerdrop",
        "*_layerdrop",
        "initializer_*",
        "init_std",
        "*_init_std",
    ),
    *(
        "init_method*",
        "*_aux_loss_coef",
        "router_jitter_noise",
        "router_z_loss_coef",
        "logits_to_keep",
    ),
    # how text is generated, in configs from before generation_config.json
    *(
        "max_length",
        "min_length",
        "do_sample",
        "num_beams",
        "num_beam_groups",
        "temperature",
        "top_k",
    ),
    *(
        "top_p",
        "typical_p",
        "repetition_penalty",
        "length_penalty",
        "diversity_penalty",
        "early_stopping",
    ),
    *(
        "no_repeat_ngram_size",
        "encoder_no_repeat_ngram_size",
        "num_return_sequences",
        "bad_words_ids",
    ),
    *("remove_invalid_values", "exponential_decay_length_penalty", "suppress_tokens"),
    *("begin_suppress_tokens", "max_new_tokens", "cross_attention_hidden_size"),
    # ids of tokens that end, fill or separate a text
    *(
        "pad_token_id",
        "bos_token_id",
        "eos_token_id",
        "sep_token_id",
        "cls_token_id",
        "unk_token_id",
    ),
    *("mask_token_id", "forced_bos_token_id", "forced_eos_token_id", "pad_token"),
    # fields that EMA leaves in diffusers configs
    *("decay", "inv_gamma", "min_decay", "optimization_step", "power", "update_after_step"),
    "use_ema_warmup",
    # copies that older versions of transformers kept of text_config and vision_config
    *("text_config_dict", "vision_config_dict"),
)
"""Harmless in the config of a model."""

DECIDING = (
    *("_class_name", "model_type", "is_decoder", "layer_types"),
    *("*head*", "*act_fn*", "hidden_act*", "*activation*", "act", "*_eps", "eps", "*epsilon*"),
    *("tie_*", "*vocab_size", "*rope*", "*rotary*", "theta", "*_theta", "sliding_window*"),
    *(
        "*scale*",
        "*scaling*",
        "*shift*",
        "latents_mean",
        "latents_std",
        "*softcap*",
        "*multiplier*",
    ),
    *("query_pre_attn_scalar", "prediction_type", "*beta*", "*snr*", "*sigma*", "time_embedding_*"),
    "timestep_type",
    *("flip_sin_to_cos", "timestep_post_act", "center_input_sample", "downsample_padding"),
    *("norm_*", "*_norm", "*_norm_*", "*norm_type", "*_block_type", "*_block_types", "*patch_size"),
    # the seed from which an adapter derives the positions of its parameters
    *("random_loc_seed", "random_seed", "projection_prng_key", "n_frequency"),
    *("position_embedding_type", "pos_embed_*", "pooling_mode*", "word_embedding_dimension"),
)
"""Deciding fields: they change what the weights of a model compute."""

SCHEDULE = (
    *("beta_start", "beta_end", "beta_schedule", "trained_betas", "num_train_timesteps"),
    *("prediction_type", "rescale_betas_zero_snr", "shift", "base_shift", "max_shift"),
    *("use_dynamic_shifting", "base_image_seq_len", "max_image_seq_len", "shift_terminal"),
    *("time_shift_type", "sigma_data", "sigma_min", "sigma_max", "sigma_schedule"),
    *("snr_shift_scale", "timestep_type", "scaler", "s"),
)
"""The fields of a scheduler that describe the noise and target of the training."""

TOKENIZER = (
    *("padding", "truncation", "padding_side", "truncation_side", "model_max_length", "max_length"),
    *(
        "pad_token*",
        "pad_to_multiple_of",
        "stride",
        "chat_template",
        "version",
        "is_local",
        "cache_dir",
    ),
    *("local_files_only", "special_tokens_map_file", "tokenizer_file", "vocab_file", "merges_file"),
    *("tokenizer_class", "processor_class", "clean_up_tokenization_spaces", "model_input_names"),
    *(
        "use_fast",
        "backend",
        "padding_strategy",
        "truncation_strategy",
        "verbose",
        "trust_remote_code",
    ),
    *("additional_special_tokens", "extra_special_tokens", "model_specific_special_tokens"),
    *(
        "split_special_tokens",
        "tokenizer_type",
        "errors",
        "sp_model_kwargs",
        "fuse_unk",
        "from_slow",
    ),
    *("response_schema", "eos_token", "bos_token", "image_token", "video_token"),
)
"""Harmless in the config of a tokenizer, whose vocabulary is compared separately."""

PROCESSOR = (
    *("*processor_type", "processor_class", "*processor_class", "*extractor_type", "device"),
    *("return_tensors", "input_data_format", "data_format", "*_kwargs", "image_seq_length"),
)
"""Harmless in the config of an image processor."""

ADAPTER = (
    *(
        "inference_mode",
        "*dropout*",
        "init_*",
        "task_type",
        "megatron_*",
        "loftq_config",
        "eva_config",
    ),
    *(
        "corda_config",
        "runtime_config",
        "qalora_group_size",
        "ensure_weight_tying",
        "lora_bias_init",
    ),
)
"""Harmless in the config of an adapter; whether it can be averaged is decided elsewhere."""

PIPELINE = (
    *("requires_safety_checker", "safety_checker", "feature_extractor", "scheduler"),
    *("watermark", "add_watermarker", "_module"),
)
"""Harmless in `model_index.json`; the config of the scheduler is compared separately."""

DERIVED = (
    *("layer_types", "sliding_window_pattern", "pooler_output_size", "projection_size"),
    "added_tokens_decoder",
)
"""Fields that newer libraries write, and derive from others in older configs."""

SAME_CLASSES = dict.fromkeys(
    ("CLIPFeatureExtractor", "CLIPImageProcessorFast", "CLIPImageProcessorPil"),
    "CLIPImageProcessor",
)
"""Component classes that have several names."""


@lru_cache(maxsize=4096)
def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether the name of a field fits one of the patterns."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def effect_of(name: str, harmless: tuple[str, ...]) -> Effect:
    """The meaning of a difference in the field `name`, given the harmless fields of its config."""
    if matches(name, (*ANYWHERE, *harmless)):
        return Effect.HARMLESS
    return Effect.DECIDING if matches(name, DECIDING) else Effect.OPEN
