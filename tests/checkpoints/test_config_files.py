"""Files beside the weights: which go along, and which say the same."""

from __future__ import annotations

import json

import pytest

from soupctl.checkpoints.config_files import different_fields, is_config, is_copied


def agree(name: str, first: bytes, other: bytes) -> bool:
    """Whether two files differ in nothing."""
    return not different_fields(name, first, other)


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


CONFIG = {"_diffusers_version": "0.30.0", "in_channels": 4, "blocks": [{"dtype": "x", "n": 1}]}


def changed(**fields: object) -> bytes:
    return json.dumps({**CONFIG, **fields}, indent=2).encode()


@pytest.mark.parametrize(
    "other",
    [
        changed(),
        changed(_diffusers_version="0.31.0"),
        changed(_name_or_path="somewhere/else"),
        changed(transformers_version="5", torch_dtype="float16", _commit_hash="abc"),
        changed(blocks=[{"dtype": "y", "n": 1}]),
        json.dumps(dict(reversed(CONFIG.items()))).encode(),
    ],
)
def test_configs_that_differ_in_harmless_fields_or_in_layout_say_theagree(other):
    first = json.dumps(CONFIG).encode()

    assert agree("config.json", first, other)
    assert agree("config.json", other, first)


@pytest.mark.parametrize(
    "other",
    [
        changed(in_channels=9),
        changed(more=None),
        changed(blocks=[{"dtype": "x", "n": 2}]),
        changed(blocks=[]),
        b"{}",
        b"",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b'{"in_channels":' + b"4" * 5000 + b"}",
    ],
    ids=lambda other: f"{other[:20]!r}-{len(other)}",
)
def test_configs_that_differ_otherwise_do_not_say_theagree(other):
    first = json.dumps(CONFIG).encode()

    assert not agree("config.json", first, other)
    assert not agree("config.json", other, first)


@pytest.mark.parametrize("name", ["README.md", "LICENSE", "license.txt", "NOTICE", "a.png"])
def test_prose_may_differ(name):
    assert agree(name, b"one", b"two")


@pytest.mark.parametrize("name", ["merges.txt", "spiece.model", "vocab", "scheduler.yaml"])
def test_any_other_file_says_the_same_only_byte_for_byte(name):
    assert agree(name, b"one", b"one")
    assert not agree(name, b"one", b"two")


@pytest.mark.parametrize(("first", "other"), [("1", "true"), ("0", "false"), ("1", "1.0")])
def test_numbers_are_the_same_only_if_they_are_written_alike(first, other):
    for form in ('{{"a": {}}}', '{{"a": [{{"b": {}}}]}}', "[{}]"):
        one, two = form.format(first).encode(), form.format(other).encode()

        assert not agree("config.json", one, two)
        assert agree("config.json", one, one + b" ")


def test_no_number_is_the_same_as_no_number():
    assert agree("config.json", b'{"a": NaN}', b'{"a":NaN}')


def test_the_fields_that_differ_are_named():
    first, other = changed(in_channels=9, extra=None), changed(_diffusers_version="1")

    assert different_fields("config.json", first, other) == ("extra", "in_channels")
    assert different_fields("merges.txt", b"a b", b"b a") == ("contents",)
    assert different_fields("list.json", b"[1]", b"[2]") == ("contents",)
