"""Constants in several dtypes, copies under other names, and single shards of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from making import save
from revising import assert_proven, average, revise

from soupctl.errors import InputError, MismatchError

IDS = "text_model.embeddings.position_ids"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def model(name: str, seed: int, **more: Any) -> str:
    random = np.random.default_rng(seed)
    save(Path(name), w=random.normal(0, 1, (2, 3)).astype("f2"), **more)
    return name


def loaded(path: str) -> dict[str, np.ndarray]:
    return dict(safetensors.numpy.load_file(path))


@pytest.mark.parametrize("other", ["f4", "f2", "i4"])
@pytest.mark.parametrize("order", [("a.st", "b.st"), ("b.st", "a.st")])
def test_position_ids_in_two_dtypes_are_the_integers(other, order):
    model("a.st", 1, **{IDS: np.arange(77)[None]})
    model("b.st", 2, **{IDS: np.arange(77, dtype=other)[None]})

    average("soup.st", *order)

    found = loaded("soup.st")[IDS]
    assert (np.int64, list(range(77))) == (found.dtype, found[0].tolist())
    assert_proven("soup.st")


def test_position_ids_of_other_values_are_refused():
    broken = np.arange(77, dtype="f2")
    broken[41] = 40.9
    names = (
        model("a.st", 1, **{IDS: np.arange(77)[None]}),
        model("b.st", 2, **{IDS: broken[None]}),
    )

    with pytest.raises(MismatchError, match=r"not that of a.st rounded to F16 .excludes"):
        average("soup.st", *names)


def test_the_soup_of_what_remains_has_its_own_dtype():
    model("a.st", 1, **{IDS: np.arange(77)[None]})
    model("b.st", 2, **{IDS: np.arange(77, dtype="f4")[None]})
    average("kept.st", "a.st", "b.st", keep_sum=True)

    revise("subtract", "kept.st", Path("less.st"), (), ["a.st"])

    assert np.float32 == loaded("less.st")[IDS].dtype
    assert_proven("less.st")


@pytest.mark.parametrize(
    ("embedding", "copy"),
    [
        ("bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"),
        ("roberta.embeddings.word_embeddings.weight", "lm_head.decoder.weight"),
        ("distilbert.embeddings.word_embeddings.weight", "vocab_projector.weight"),
        ("model.decoder.embed_tokens.weight", "proj_out.weight"),
    ],
)
def test_a_tied_weight_that_one_file_lacks_counts_as_present(embedding, copy):
    mine, theirs = (np.full((3, 2), value, "f4") for value in (1, 3))

    average(
        "soup.st",
        save(Path("a.st"), **{embedding: mine}),
        save(Path("b.st"), **{embedding: theirs, copy: theirs}),
    )

    assert {2.0} == {value for each in loaded("soup.st").values() for value in each.ravel()}
    assert {embedding, copy} == {*loaded("soup.st")}


def test_the_embedding_of_t5_has_either_name():
    average(
        "soup.st",
        save(Path("a.st"), **{"shared.weight": np.full(2, 1, "f4"), "w": np.ones(1, "f4")}),
        save(
            Path("b.st"),
            **{"encoder.embed_tokens.weight": np.full(2, 3, "f4"), "w": np.ones(1, "f4")},
        ),
    )

    assert [2, 2] == loaded("soup.st")["shared.weight"].tolist()


def test_a_folder_with_one_shard_of_several_is_refused():
    for name in "ab":
        model(f"{name}/model-00001-of-00002.safetensors", 1)

    with pytest.raises(InputError, match=r"only one shard of several .*name the file"):
        average("soup", "a", "b")
