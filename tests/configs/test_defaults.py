"""The table of defaults is what the installed libraries do."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from soupctl.configs.compare import differences

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "soupctl" / "configs" / "defaults.json"

diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")


def test_the_table_matches_the_installed_libraries():
    made_from = json.loads(TABLE.read_text())["libraries"]
    if made_from != {"diffusers": diffusers.__version__, "transformers": transformers.__version__}:
        pytest.skip(f"the table was made from {made_from}")
    spec = importlib.util.spec_from_file_location(
        "config_defaults", ROOT / "tools/config_defaults.py"
    )
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)

    assert TABLE.read_text() == tool.table()


def test_the_table_is_small_and_loaded_only_when_configs_differ():
    assert TABLE.stat().st_size < 80_000
    program = (
        "import soupctl.verbs, soupctl.configs.defaults as d; print(d._table.cache_info().currsize)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "0" == done.stdout.strip()


OLD = {
    "llama": {
        "hidden_size": 64,
        "num_attention_heads": 8,
        "rope_theta": 500000.0,
        "vocab_size": 99,
    },
    "llama, scaled": {
        "rope_theta": 500000.0,
        "max_position_embeddings": 131072,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
    },
    "mistral": {"sliding_window": 4096, "rope_theta": 10000.0},
    "qwen2": {"use_sliding_window": False, "rope_theta": 1000000.0, "tie_word_embeddings": True},
    "gemma": {"hidden_size": 64, "num_attention_heads": 8},
    "gemma2": {"hidden_size": 64},
    "gemma3_text": {
        "rope_theta": 1000000.0,
        "rope_local_base_freq": 10000.0,
        "sliding_window": 512,
    },
    "phi3": {"rope_theta": 10000.0},
    "gpt_neox": {"rotary_pct": 0.25, "rotary_emb_base": 20000},
    "t5": {
        "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": False,
        "num_decoder_layers": 6,
    },
    "umt5": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "clip_text_model": {
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 1,
        "hidden_size": 768,
    },
    "bert": {"hidden_size": 768, "position_embedding_type": "absolute"},
    "xlm-roberta": {"hidden_size": 768},
    "siglip": {},
    "clip": {"projection_dim": 512},
    "vit": {},
    "whisper": {},
    "bart": {},
}


@pytest.mark.parametrize("case", OLD)
def test_an_old_config_agrees_with_its_resaved_version(case, tmp_path):
    model_type = case.partition(",")[0]
    old = {"model_type": model_type, "transformers_version": "4.40.0", **OLD[case]}
    kind = transformers.models.auto.configuration_auto.CONFIG_MAPPING[model_type]
    kind.from_dict(dict(old)).save_pretrained(tmp_path)
    new = (tmp_path / "config.json").read_bytes()

    assert () == differences("config.json", json.dumps(old).encode(), new)
