"""Files beside the weights are told apart by their names."""

from __future__ import annotations

import pytest

from soupctl.checkpoints.config_files import is_config, is_copied, is_prose


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "model_index.json",
        "merges.txt",
        "vocab.json",
        "tokenizer.model",
        "README.md",
        "LICENSE",
        "preview.PNG",
        "generation_config.json",
    ],
)
def test_files_that_are_neither_weights_nor_code_are_copied(name):
    assert is_copied(name)


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors",
        "MODEL.SAFETENSORS",
        "soup.st",
        "pytorch_model.bin",
        "v1.ckpt",
        "optimizer.pt",
        "soup.0123456789ab.sum",
        "model.safetensors.index.json",
        "model.safetensors.index.fp16.json",
        "pytorch_model.bin.index.json",
        "pipeline.py",
        "kernel.so",
        "run.sh",
    ],
)
def test_weights_code_and_indexes_do_not_go_along(name):
    assert not is_copied(name)


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "model_index.json",
        "scheduler/scheduler_config.json",
        "generation_config.json",
        "preprocessor_config.json",
        "adapter_config.json",
        "config_sentence_transformers.json",
        "modules.json",
        "tokenizer/tokenizer.json",
        "Tokenizer_Config.json",
        "vocab.json",
        "vocab.txt",
        "merges.txt",
        "spiece.model",
        "special_tokens_map.json",
        "added_tokens.json",
        "chat_template.jinja",
    ],
)
def test_a_config_is_recognised_by_its_file_name(name):
    assert is_config(name)


@pytest.mark.parametrize(
    "name",
    [
        "trainer_state.json",
        "all_results.json",
        "logs/train.log",
        "config.json.bak",
        "config.yaml",
        "config.py",
        "model.safetensors.index.json",
        "README.md",
    ],
)
def test_a_record_of_how_a_model_came_about_does_not_configure_it(name):
    assert not is_config(name)


@pytest.mark.parametrize("name", ["README.md", "LICENSE", "license.txt", "NOTICE", "a.png"])
def test_prose_is_recognised_by_its_file_name(name):
    assert is_prose(name)
