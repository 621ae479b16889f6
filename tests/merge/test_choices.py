"""Tensors that not all have, or that one ingredient gives, and dtypes by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from making import save
from revising import assert_proven

from soupctl.choices import OnMissing
from soupctl.errors import InputError, LedgerError, MismatchError, UsageError
from soupctl.format.dtypes import DType
from soupctl.merge.average import Request, average, open_job
from soupctl.merge.revise import revise
from soupctl.merge.revision import Revision
from soupctl.merge.verify import verify

U, V, C = "model.diffusion_model.out.2.weight", "first_stage_model.x.weight", "cond.x.weight"


def arrays(seed: int, *names: str, columns: int = 4) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {name: random.normal(0, 1, (3, columns)).astype("f4") for name in names}


def soup(output: Path, *paths: Path, **options: Any) -> dict[str, np.ndarray]:
    average(Request(paths, output, **options), force=True)
    return loaded(output)


def loaded(path: Path) -> dict[str, np.ndarray]:
    return dict(safetensors.numpy.load_file(path))


def mean(*each: np.ndarray) -> np.ndarray:
    return (np.sum([array.astype("f8") for array in each], axis=0) / len(each)).astype("f4")


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and one[name].tobytes() == other[name].tobytes()
        for name in one
    )


@pytest.fixture
def files(tmp_path):
    """A whole checkpoint, two UNets under other names, and their arrays."""
    full, one, two = arrays(1, U, V, C), arrays(2, U), arrays(3, U)
    short = U.removeprefix("model.diffusion_model.")
    paths = (
        save(tmp_path / "full.safetensors", **full),
        save(tmp_path / "one.safetensors", **{short: one[U]}),
        save(tmp_path / "two.safetensors", **{short: two[U]}),
    )
    return paths, (full, one, two)


KEEP, DROP = {"on_missing": OnMissing.KEEP}, {"on_missing": OnMissing.DROP}


def test_tensors_that_only_some_have_are_refused_by_default_with_advice(files, tmp_path):
    paths, _ = files
    with pytest.raises(MismatchError) as caught:
        soup(tmp_path / "o.safetensors", *paths)
    assert "--on-missing keep" in caught.value.message()
    assert "--on-missing drop" in caught.value.message()


def test_keep_takes_the_mean_of_those_that_have_a_tensor_and_drop_leaves_it_out(files, tmp_path):
    paths, (full, one, two) = files
    expected = {U: mean(full[U], one[U], two[U]), V: full[V], C: full[C]}

    for order in (paths, paths[::-1]):
        made = soup(tmp_path / "o.safetensors", *order, **KEEP)
        assert {*made} == ({*expected} if order is paths else {*made})
    assert same(expected, soup(tmp_path / "o.safetensors", *paths, **KEEP))
    assert same({U: expected[U]}, soup(tmp_path / "o.safetensors", *paths, **DROP))


def test_take_gives_the_tensors_of_one_input_beside_the_mean_of_the_others(files, tmp_path):
    paths, (full, one, _) = files
    other = save(tmp_path / "other.safetensors", **arrays(9, U, V, C, columns=4))
    take = ((V, paths[0]), ("cond.*", paths[0]))

    made = soup(tmp_path / "o.safetensors", paths[0], paths[1], take=take)
    assert same({U: mean(full[U], one[U]), V: full[V], C: full[C]}, made)
    made = soup(tmp_path / "o.safetensors", paths[0], other, take=((V, other),))
    theirs = loaded(other)
    expected = {U: mean(full[U], theirs[U]), V: theirs[V], C: mean(full[C], theirs[C])}
    assert same(expected, made)


def test_a_taken_tensor_may_have_another_shape_elsewhere(tmp_path):
    a = save(tmp_path / "a.safetensors", **arrays(1, U), **arrays(1, V, columns=9))
    b = save(tmp_path / "b.safetensors", **arrays(2, U), **arrays(2, V))

    made = soup(tmp_path / "o.safetensors", a, b, take=((V, a),))

    assert (3, 9) == made[V].shape
    assert [None] == [each.problem for each in verify(tmp_path / "o.safetensors")]


def test_a_take_that_cannot_be_is_refused(files, tmp_path):
    paths, _ = files
    with pytest.raises(InputError, match="cannot be read: No such file"):
        soup(tmp_path / "o.safetensors", *paths, take=((V, "elsewhere.safetensors"),))
    with pytest.raises(MismatchError, match="is not in the file that take takes it from"):
        soup(tmp_path / "o.safetensors", *paths[:2], take=(("*", paths[1]),))
    with pytest.raises(UsageError, match="matches no tensor"):
        soup(tmp_path / "o.safetensors", *paths[:2], take=(("x.*", paths[1]),))


def test_a_dtype_by_name_goes_before_the_dtype_of_all(tmp_path):
    a, b = (save(tmp_path / f"{n}.safetensors", **arrays(n, U, V, C)) for n in (1, 2))
    options = {
        "dtype": DType.F16,
        "dtype_for": ((V, DType.F64), ("first_stage_model.*", DType.F16), (C, DType.F32)),
    }

    made = soup(tmp_path / "o.safetensors", a, b, **options)

    assert {"float16", "float32", "float64"} == {array.dtype.name for array in made.values()}
    assert "float64" == made[V].dtype.name
    with pytest.raises(UsageError):
        soup(tmp_path / "p.safetensors", a, b, dtype_for=((V, DType.I8),))


CHOICES = {
    "keep": KEEP,
    "drop": DROP,
    "take": {**KEEP, "take": ((V, "full.safetensors"),)},
    "take and cast": {"take": (("[fc]*", "full.safetensors"),), "dtype_for": ((V, DType.F16),)},
    "dtype": {**KEEP, "dtype_for": ((U, DType.F64), ("*", DType.F16))},
}


@pytest.mark.parametrize("keep_sum", [False, True])
@pytest.mark.parametrize("choice", CHOICES)
def test_changes_keep_the_choices_and_their_exactness(files, tmp_path, choice, keep_sum):
    paths, _ = files
    more = save(tmp_path / "more.safetensors", **arrays(4, U, V))
    options = dict(CHOICES[choice])
    if "take" in options:
        options["take"] = tuple((glob, tmp_path / name) for glob, name in options["take"])
    if "take and cast" == choice:
        paths = (paths[0], paths[1], save(tmp_path / "x.safetensors", **arrays(5, U, V, C)))
    output, expected = tmp_path / "soup.safetensors", tmp_path / "expected.safetensors"

    def holds(*left: Path) -> None:
        assert same(loaded(output), soup(expected, *left, **options))
        assert [None] == [each.problem for each in verify(output)]

    soup(output, *paths, **options, keep_sum=keep_sum)
    holds(*paths)
    revise(Revision("subtract", output, output, removed=[paths[2]]), force=True)
    holds(*paths[:2])
    revise(Revision("add", output, output, added=[more]), force=True)
    holds(*paths[:2], more)
    swap = Revision("swap", output, output, added=[paths[2]], removed=[paths[1]])
    revise(swap, force=True)
    holds(paths[0], more, paths[2])


def test_the_source_of_taken_tensors_cannot_be_removed(files, tmp_path):
    paths, _ = files
    output = tmp_path / "soup.safetensors"
    soup(output, *paths, take=((V, paths[0]), (C, paths[0])))

    with pytest.raises(LedgerError, match="is taken from an ingredient that would be removed"):
        revise(Revision("subtract", output, output, removed=[paths[0]]), force=True)


def test_a_setting_that_one_lacks_is_only_kept_if_it_holds_for_all(tmp_path):
    marks = {"v_pred": np.zeros(0, "f4"), "ztsnr": np.zeros(0, "f4")}
    save(tmp_path / "a.safetensors", **arrays(1, U), **marks)
    save(tmp_path / "b.safetensors", **arrays(2, U))
    with pytest.raises(MismatchError) as caught:
        soup(tmp_path / "soup.safetensors", tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert "--on-missing keep keeps it if it applies to all inputs" in caught.value.message()
    assert "mean of those" not in caught.value.message()


@pytest.mark.parametrize(
    ("other", "said"),
    [("other.", "differ by the prefix 'other.'"), ("x.{}.", "no tensor has the same name in both")],
)
def test_names_that_do_not_fit_are_not_advised_to_lie_side_by_side(tmp_path, other, said):
    save(tmp_path / "a.safetensors", **arrays(1, "u", "v"))
    renamed = {other.format(name) + name: array for name, array in arrays(1, "u", "v").items()}
    save(tmp_path / "b.safetensors", **renamed)
    with pytest.raises(MismatchError) as caught:
        soup(tmp_path / "soup.safetensors", tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert said in caught.value.message()
    assert "takes the mean" not in caught.value.message()


def test_what_is_taken_is_not_said_to_be_a_mean(tmp_path):
    for name, dtype in (("a", "f2"), ("b", "f4")):
        save(tmp_path / f"{name}.safetensors", w=np.ones(3, dtype), x=np.ones(3, dtype))
    paths = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    request = Request(
        paths, tmp_path / "soup.safetensors", dtype=DType.BF16, take=(("w", paths[0]),)
    )
    with open_job(request) as job:
        assert () == job.notes


def test_a_soup_of_nothing_but_what_may_be_missing_is_rebuilt_under_its_names(tmp_path):
    kept = "embeddings.position_ids"
    for name, prefix, own in (("a", "text_model.", "x"), ("b", "", "y"), ("c", "", "x")):
        more = arrays(1, f"{prefix}{own}.weight")
        save(tmp_path / f"{name}.st", **{prefix + kept: np.arange(5)}, **more)
    paths = [tmp_path / f"{name}.st" for name in "abc"]
    for some in (paths[:2], paths, paths[::-1], paths[1::-1]):
        made = soup(tmp_path / "soup.st", *some, on_missing=OnMissing.DROP)
        assert {"text_model." + kept if some[0] == paths[0] else kept} == made.keys()
        assert_proven(tmp_path / "soup.st")
