"""Ingredients of other names, and of fewer constants or copies, make the same soup."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from making import save

from soupctl.errors import MismatchError
from soupctl.merge.average import Request, average, open_job
from soupctl.merge.revise import revise
from soupctl.merge.revision import Revision
from soupctl.merge.verify import verify

RANDOM = np.random.default_rng(1)
CLIP = "text_model."


def arrays(seed: int, prefix: str = "", **more: np.ndarray) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    names = ("layers.0.weight", "layers.1.weight", "norm.weight")
    return {prefix + name: random.normal(0, 1, (3, 4)).astype("f4") for name in names} | more


def soup(output: Path, *paths: Path, **options: object) -> dict[str, np.ndarray]:
    average(Request(paths, output, **options), force=True)  # type: ignore[arg-type]
    return dict(safetensors.numpy.load_file(output))


def problems(path: Path) -> list[str | None]:
    return [each.problem for each in verify(path)]


@pytest.fixture
def renamed(tmp_path):
    """Two checkpoints of the same names, and a third with a prefix before each."""
    return [
        save(tmp_path / "a.safetensors", **arrays(1)),
        save(tmp_path / "b.safetensors", **arrays(2)),
        save(tmp_path / "c.safetensors", **arrays(3, CLIP)),
    ]


@pytest.fixture
def plain(tmp_path):
    """The same three, all with the names of the first."""
    return [save(tmp_path / "plain" / f"{n}.safetensors", **arrays(n)) for n in (1, 2, 3)]


def test_the_soup_has_the_names_of_the_first_and_the_same_values(renamed, plain, tmp_path):
    made = soup(tmp_path / "o.safetensors", *renamed)
    expected = soup(tmp_path / "p.safetensors", *plain)
    turned = soup(tmp_path / "q.safetensors", *renamed[::-1])

    assert made.keys() == expected.keys()
    assert all(np.array_equal(made[name], expected[name]) for name in expected)
    assert {CLIP + name for name in expected} == turned.keys()
    assert all(np.array_equal(turned[CLIP + name], expected[name]) for name in expected)


def test_an_undone_renaming_is_reported_and_recorded_and_digests_are_the_files_own(
    renamed, tmp_path
):
    output = tmp_path / "o.safetensors"
    with open_job(Request(renamed, output)) as job:
        assert (
            "c.safetensors: tensors are renamed to match the soup (the prefix 'text_model.')"
            in job.notes[0]
        )
    (made,) = average(Request(renamed, output))
    (alone,) = average(Request(renamed[2:], tmp_path / "alone.safetensors"))

    entries = {entry.name: entry for entry in made.ledger.ingredients}
    assert entries["a.safetensors"].renamed is None
    assert entries["c.safetensors"].renamed == "the prefix 'text_model.'"
    assert entries["c.safetensors"].digest == alone.ledger.ingredients[0].digest
    assert problems(output) == [None]


@pytest.mark.parametrize("keep_sum", [False, True])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (2, 1, 0)])
def test_taking_one_out_gives_the_soup_of_the_others(renamed, tmp_path, keep_sum, order):
    paths = [renamed[place] for place in order]
    for gone in range(3):
        output = tmp_path / f"{gone}.safetensors"
        soup(output, *paths, keep_sum=keep_sum)
        revise(Revision("subtract", output, output, removed=[str(paths[gone])]), force=True)
        rest = [path for place, path in enumerate(paths) if place != gone]
        expected = [soup(tmp_path / "e.safetensors", *each) for each in (rest, rest[::-1])]

        made = dict(safetensors.numpy.load_file(output))
        (same,) = [each for each in expected if each.keys() == made.keys()][:1]
        assert all(np.array_equal(made[name], same[name]) for name in same)
        assert problems(output) == [None]


@pytest.mark.parametrize("keep_sum", [False, True])
def test_an_ingredient_of_other_names_is_added_exactly(renamed, tmp_path, keep_sum):
    output = tmp_path / "o.safetensors"
    soup(output, *renamed[:2], keep_sum=keep_sum)
    revise(Revision("add", output, output, added=[renamed[2]]), force=True)
    expected = soup(tmp_path / "e.safetensors", *renamed)

    assert all(
        np.array_equal(array, expected[name])
        for name, array in safetensors.numpy.load_file(output).items()
    )
    assert problems(output) == [None]


IDS = {"embeddings.position_ids": np.arange(4, dtype="i8")[None]}


@pytest.mark.parametrize("keep_sum", [False, True])
def test_a_constant_that_libraries_make_may_be_missing(tmp_path, keep_sum):
    a = save(tmp_path / "a.safetensors", **arrays(1))
    b = save(tmp_path / "b.safetensors", **arrays(2, **IDS))
    c = save(tmp_path / "c.safetensors", **arrays(3))
    output = tmp_path / "o.safetensors"

    for paths in ((a, b, c), (b, a, c)):
        made = soup(output, *paths, keep_sum=keep_sum)
        assert np.array_equal(made["embeddings.position_ids"], IDS["embeddings.position_ids"])
        assert problems(output) == [None]
    revise(Revision("subtract", output, output, removed=[str(b)]), force=True)
    expected = soup(tmp_path / "e.safetensors", a, c)
    assert dict(safetensors.numpy.load_file(output)).keys() == expected.keys()


def test_a_schedule_that_is_missing_is_refused_with_the_way_out(tmp_path):
    a = save(tmp_path / "a.safetensors", **arrays(1))
    b = save(tmp_path / "b.safetensors", **arrays(2, alphas_cumprod=np.ones(3, "f4")))

    with pytest.raises(MismatchError) as caught:
        soup(tmp_path / "o.safetensors", a, b)
    assert "--exclude 'alphas_cumprod' leaves it out" in caught.value.message()
    assert 3 == len(soup(tmp_path / "o.safetensors", a, b, excludes=("alphas_cumprod",)))


def tied(path: Path, seed: int, head: str | None) -> Path:
    embedding = np.random.default_rng(seed).normal(0, 1, (5, 3)).astype("f4")
    heads = {} if head is None else {"lm_head.weight": embedding + (head == "other")}
    return save(path, **{"model.embed_tokens.weight": embedding, **heads})


@pytest.mark.parametrize("keep_sum", [False, True])
def test_a_tied_weight_that_is_missing_counts_as_present(tmp_path, keep_sum):
    a = tied(tmp_path / "a.safetensors", 1, None)
    b = tied(tmp_path / "b.safetensors", 2, "same")
    output = tmp_path / "o.safetensors"

    for paths in ((a, b), (b, a)):
        made = soup(output, *paths, keep_sum=keep_sum)
        assert np.array_equal(made["lm_head.weight"], made["model.embed_tokens.weight"])
        assert problems(output) == [None]
    revise(Revision("subtract", output, output, removed=[str(b)]), force=True)
    assert ["model.embed_tokens.weight"] == [*safetensors.numpy.load_file(output)]


def test_a_head_that_is_no_copy_is_refused_where_it_is_missing(tmp_path):
    a = tied(tmp_path / "a.safetensors", 1, None)
    b = tied(tmp_path / "b.safetensors", 2, "other")

    with pytest.raises(MismatchError, match=r"has lm_head\.weight, which .* lacks"):
        soup(tmp_path / "o.safetensors", a, b)


K = "model.diffusion_model.out.2.weight"
EMA = "model_ema.diffusion_modelout2weight"


def test_a_missing_moving_average_counts_as_present_where_it_is_equal(tmp_path):
    x, y = (RANDOM.normal(0, 1, (4, 4)).astype("f4") for _ in range(2))
    full = save(tmp_path / "full.safetensors", **{K: x, EMA: x})
    pruned = save(tmp_path / "pruned.safetensors", **{K: y})
    trained = save(tmp_path / "trained.safetensors", **{K: x, EMA: x + 1})

    made = soup(tmp_path / "o.safetensors", full, pruned)
    assert np.array_equal(made[K], made[EMA])
    with pytest.raises(MismatchError) as caught:
        soup(tmp_path / "o.safetensors", trained, pruned)
    assert "(EMA): --exclude 'model_ema.*' leaves them out" in caught.value.message()
    assert [K] == [*soup(tmp_path / "o.safetensors", trained, pruned, excludes=("model_ema.*",))]
