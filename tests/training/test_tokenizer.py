"""A tokenizer gives the tokens that transformers gives, whichever files it is saved as."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

CAPTIONS = ["", "a red circle on white", "A  Blue BAR", "a a a a a a a a a a a a"]


def as_transformers_4_wrote(folder: Path) -> None:
    """The files that transformers 4 wrote: vocabulary and merges, and tokens with their flags."""
    content = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").unlink()
    words = content["model"]["vocab"]
    added = {each["content"]: each["id"] for each in content["added_tokens"]}
    (folder / "vocab.json").write_text(json.dumps({**words, **added}))
    merges = "\n".join(" ".join(pair) for pair in content["model"]["merges"])
    (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}\n")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    for name in ("bos_token", "eos_token", "unk_token"):
        flags = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
        config[name] = {"__type": "AddedToken", "content": config[name], **flags}
    more = {
        "add_prefix_space": False,
        "do_lower_case": True,
        "errors": "replace",
        "name_or_path": "elsewhere",
        "special_tokens_map_file": "./special_tokens_map.json",
    }
    del config["backend"]
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, **more}))


@pytest.mark.parametrize("change", [lambda folder: None, as_transformers_4_wrote])
def test_the_tokens_are_those_of_transformers(change, bases, running, tiny, tmp_path):
    base = Path(shutil.copytree(bases["text"], tmp_path / "base"))
    change(base / "tokenizer")
    own = running.load_models(running.read_base(base)).tokenizers["tokenizer"]
    theirs = tiny.CLIPTokenizer.from_pretrained(base / "tokenizer")

    found, expected = ([each(text).input_ids for text in CAPTIONS] for each in (own, theirs))

    assert expected == found
    assert own.model_max_length == theirs.model_max_length == 8
