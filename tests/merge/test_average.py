"""The average of checkpoints is exact, and the same whatever decides only time and layout."""

from __future__ import annotations

import hashlib
import os
import random
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from making import contents, files, header, mean, metadata, save, save_raw, save_shards

from soupctl import verbs
from soupctl.choices import OnInt
from soupctl.format.dtypes import DType
from soupctl.verbs import ComponentResult, ExecutionOptions, Ingredient, Request

F16 = np.float16


def soup(
    *paths: Path, weights: list[Fraction | int] | None = None, output: Path, **options
) -> ComponentResult:
    """The one component that averaging files gives."""
    execution, force = options.pop("execution", None), options.pop("force", False)
    asked = weights or [1] * len(paths)
    ingredients = [Ingredient(p, Fraction(w)) for p, w in zip(paths, asked, strict=True)]
    (made,) = verbs.average(
        Request(ingredients, output, **options), force=force, execution=execution
    )
    return made


@pytest.fixture
def three(tmp_path):
    """Three checkpoints of several dtypes and odd sizes."""
    generator = np.random.default_rng(7)
    for name in "abc":
        save(
            tmp_path / f"{name}.st",
            {"format": "pt", "title": name},
            **{
                "block.weight": generator.normal(0, 1, (7, 11)).astype(F16),
                "block.bias": generator.normal(0, 1, 13).astype(np.float32),
                "double": generator.normal(0, 1e-300, 5),
                "scalar": np.float32(generator.normal()),
                "empty": np.zeros((0, 3), F16),
                "ids": np.arange(5, dtype=np.int64),
                "mask": np.array([True, False, True]),
            },
        )
    return [tmp_path / f"{name}.st" for name in "abc"]


@pytest.mark.parametrize("weights", [[1, 1, 1], [Fraction(7, 10), Fraction(1, 3), 2], [3, -1, 1]])
def test_a_soup_is_the_exact_mean_rounded_once(three, tmp_path, weights):
    made = soup(*three, weights=weights, output=tmp_path / "soup.st")
    found = safetensors.numpy.load_file(tmp_path / "soup.st")
    loaded = [safetensors.numpy.load_file(path) for path in three]

    assert set(loaded[0]) == set(found)
    for name in ("block.weight", "block.bias", "double", "scalar", "empty"):
        expected = mean([each[name] for each in loaded], weights)
        assert expected.dtype == found[name].dtype
        assert expected.tobytes() == found[name].tobytes()
    for name in ("ids", "mask"):
        assert loaded[0][name].tobytes() == found[name].tobytes()
    assert (7, weights) == (made.tensors, [entry_weight(made, path) for path in three])


def entry_weight(made: ComponentResult, path: Path) -> Fraction:
    (weight,) = [each.weight for each in made.ledger.ingredients if each.name == path.name]
    return weight


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("chunk", [None, 1, 7, 4096])
def test_threads_and_chunks_do_not_change_a_byte(three, tmp_path, threads, chunk):
    soup(*three, output=tmp_path / "expected.st", execution=ExecutionOptions(1))
    soup(*three, output=tmp_path / "soup.st", execution=ExecutionOptions(threads, chunk))

    assert (tmp_path / "expected.st").read_bytes() == (tmp_path / "soup.st").read_bytes()


def test_the_order_of_ingredients_does_not_change_a_byte(three, tmp_path):
    soup(*three, weights=[1, 2, 3], output=tmp_path / "expected.st")
    soup(*three[::-1], weights=[3, 2, 1], output=tmp_path / "soup.st")

    assert (tmp_path / "expected.st").read_bytes() == (tmp_path / "soup.st").read_bytes()


def test_equal_inputs_at_equal_places_give_an_equal_file(three, tmp_path):
    digests = set()
    for _ in range(2):
        soup(*three, output=tmp_path / "soup.st", force=True)
        digests.add(hashlib.sha256((tmp_path / "soup.st").read_bytes()).hexdigest())
        for path in three:
            os.utime(path)

    assert 1 == len(digests)


def test_the_ledger_names_no_absolute_path_and_no_moment(three, tmp_path):
    soup(*three, output=tmp_path / "soup.st")
    text = metadata(tmp_path / "soup.st")["soupctl"]

    assert str(tmp_path) not in text
    assert '"/' not in text
    assert '"hint":"a.st"' in text


def test_proportions_decide_and_not_the_size_of_weights(three, tmp_path):
    soup(*three, weights=[1, 2, 3], output=tmp_path / "one.st")
    soup(
        *three, weights=[Fraction(1, 9), Fraction(2, 9), Fraction(1, 3)], output=tmp_path / "two.st"
    )

    assert contents(tmp_path / "one.st") == contents(tmp_path / "two.st")


def test_a_soup_of_one_is_that_one(three, tmp_path):
    soup(three[0], output=tmp_path / "soup.st")

    assert contents(three[0]) == contents(tmp_path / "soup.st")


def test_metadata_stays_where_all_agree(three, tmp_path):
    soup(*three, output=tmp_path / "soup.st")

    assert {"format", "soupctl"} == set(metadata(tmp_path / "soup.st"))


@pytest.mark.parametrize("pad", range(9))
def test_data_at_any_alignment_and_in_any_order_give_the_same(tmp_path, pad):
    generator = random.Random(pad)
    values = {
        "w": ("F16", (5,), np.arange(5, dtype=F16).tobytes()),
        "odd": ("U8", (3,), bytes(3)),
        "x": ("F32", (3,), np.arange(3, dtype=np.float32).tobytes()),
        "y": ("F64", (3,), np.arange(3, dtype=np.float64).tobytes()),
    }
    order = generator.sample(sorted(values), len(values))
    save_raw(tmp_path / "a.st", values)
    save_raw(tmp_path / "b.st", {name: values[name] for name in order}, pad)
    made = soup(tmp_path / "a.st", tmp_path / "b.st", output=tmp_path / "soup.st")

    assert values == contents(tmp_path / "soup.st")
    assert [Fraction(2)] == [entry.weight for entry in made.ledger.ingredients]


def test_shards_do_not_change_the_tensors_or_their_digests(three, tmp_path):
    loaded = safetensors.numpy.load_file(three[0])
    names = sorted(loaded)
    parts = ({name: loaded[name] for name in half} for half in (names[::2], names[1::2]))
    folder = save_shards(tmp_path / "sharded", "model", *parts)
    one = soup(*three, output=tmp_path / "one.st")
    other = soup(folder, *three[1:], output=tmp_path / "other.st")

    assert contents(tmp_path / "one.st") == contents(tmp_path / "other.st")
    assert one.ledger.root == other.ledger.root
    digests = [[entry.digest for entry in each.ledger.ingredients] for each in (one, other)]
    assert digests[0] == digests[1]


def test_a_content_that_is_in_twice_is_one_ingredient_with_the_summed_weight(three, tmp_path):
    copy = tmp_path / "copy.st"
    copy.write_bytes(three[0].read_bytes())
    twice = soup(three[0], three[1], copy, weights=[1, 1, 2], output=tmp_path / "twice.st")
    once = soup(three[0], three[1], weights=[3, 1], output=tmp_path / "once.st")

    assert once.ledger.ingredients == twice.ledger.ingredients
    assert contents(tmp_path / "once.st") == contents(tmp_path / "twice.st")


def test_many_tiny_tensors_are_averaged(tmp_path):
    for value, name in enumerate("ab"):
        save(
            tmp_path / f"{name}.st", **{f"t{n}": np.full((n % 3,), value, F16) for n in range(999)}
        )
    soup(
        tmp_path / "a.st",
        tmp_path / "b.st",
        output=tmp_path / "soup.st",
        execution=ExecutionOptions(5),
    )

    assert {f"t{n}": ("F16", (n % 3,), b"\x00\x38" * (n % 3)) for n in range(999)} == contents(
        tmp_path / "soup.st"
    )


def test_checkpoints_without_tensors_make_one_without_tensors(tmp_path):
    save(tmp_path / "a.st")
    soup(tmp_path / "a.st", output=tmp_path / "soup.st")

    assert {} == contents(tmp_path / "soup.st")


def test_mixed_floats_become_the_narrowest_that_holds_them(tmp_path):
    save_raw(tmp_path / "a.st", {"w": ("BF16", (1,), b"\x80\x3f")})
    save_raw(tmp_path / "b.st", {"w": ("F16", (1,), b"\x00\x40")})
    soup(tmp_path / "a.st", tmp_path / "b.st", output=tmp_path / "soup.st")

    assert ("F32", (1,), np.float32(1.5).tobytes()) == contents(tmp_path / "soup.st")["w"]


def test_an_asked_dtype_is_recorded(three, tmp_path):
    made = soup(*three, output=tmp_path / "soup.st", dtype=DType.BF16)

    assert "BF16" == contents(tmp_path / "soup.st")["block.weight"][0]
    assert DType.BF16 is made.ledger.asked_dtype


def test_opaque_tensors_are_copied_if_identical(tmp_path):
    tensors = {"c": ("C64", (1,), bytes(range(8))), "f": ("F4", (2,), b"\x7f")}
    for name in "ab":
        save_raw(tmp_path / f"{name}.st", tensors)
    soup(tmp_path / "a.st", tmp_path / "b.st", output=tmp_path / "soup.st")

    assert tensors == contents(tmp_path / "soup.st")


def test_integers_of_the_first_are_taken_on_request_and_recorded(tmp_path):
    for value, name in enumerate("ab"):
        save(tmp_path / f"{name}.st", same=np.arange(3), ids=np.full(3, value), w=F16(value))
    made = soup(
        tmp_path / "b.st", tmp_path / "a.st", output=tmp_path / "soup.st", on_int=OnInt.FIRST
    )

    assert np.full(3, 1).tobytes() == contents(tmp_path / "soup.st")["ids"][2]
    assert made.ledger.integer_source is not None
    assert ("ids",) == made.ledger.integer_source.tensors
    (b,) = [each for each in made.ledger.ingredients if each.name == "b.st"]
    assert b.digest == made.ledger.integer_source.digest


def test_equal_integers_are_not_recorded_as_taken(tmp_path):
    save(tmp_path / "a.st", ids=np.arange(3))
    made = soup(tmp_path / "a.st", tmp_path / "a.st", output=tmp_path / "s.st", on_int=OnInt.FIRST)

    assert made.ledger.integer_source is None


def test_nan_and_infinity_pass_when_allowed(tmp_path):
    save(tmp_path / "a.st", w=np.array([np.nan, np.inf, np.inf, 1], F16))
    save(tmp_path / "b.st", w=np.array([1, 1, -np.inf, 1], F16))
    made = soup(
        tmp_path / "a.st", tmp_path / "b.st", output=tmp_path / "soup.st", allow_nonfinite=True
    )

    assert "007e 007c 007e 003c" == contents(tmp_path / "soup.st")["w"][2].hex(" ", 2)
    assert made.ledger.allow_nonfinite


def test_only_selected_tensors_are_in_the_soup_and_all_are_in_the_digests(three, tmp_path):
    whole = soup(*three, output=tmp_path / "whole.st")
    part = soup(*three, output=tmp_path / "part.st", keys=("block.*",), excludes=("*.bias",))

    assert ["block.weight"] == list(contents(tmp_path / "part.st"))
    assert whole.ledger.ingredients == part.ledger.ingredients
    assert (("block.*",), ("*.bias",)) == (part.ledger.keys, part.ledger.excludes)


def test_an_output_replaces_another_only_by_force(three, tmp_path):
    (tmp_path / "soup.st").write_bytes(b"old")
    soup(*three, output=tmp_path / "soup.st", force=True)

    assert contents(tmp_path / "soup.st")


def test_inputs_are_never_modified(three, tmp_path):
    before = {path: (path.read_bytes(), path.stat()) for path in three}
    soup(*three, output=tmp_path / "soup.st")

    assert [*map(str, sorted([*before, tmp_path / "soup.st"]))] == [
        str(tmp_path / name) for name in files(tmp_path)
    ]
    for path, (raw, state) in before.items():
        assert raw == path.read_bytes()
        assert state.st_mtime_ns == path.stat().st_mtime_ns


def test_the_library_reads_the_output_and_its_data_is_aligned_to_eight_bytes(three, tmp_path):
    soup(*three, output=tmp_path / "soup.st")
    raw = (tmp_path / "soup.st").read_bytes()

    assert 0 == int.from_bytes(raw[:8], "little") % 8
    assert "__metadata__" in header(tmp_path / "soup.st")


def test_weights_rounded_to_decimals_make_the_soup_of_the_rounded_weights(three, tmp_path):
    fine = [Fraction("0.12345678901234567891"), Fraction(1, 3), Fraction(2, 3)]
    soup(*three, weights=fine, output=tmp_path / "soup.st", round_weights=4)
    asked = [Fraction("0.1235"), Fraction("0.3333"), Fraction("0.6667")]
    soup(*three, weights=asked, output=tmp_path / "other.st")

    assert (tmp_path / "soup.st").read_bytes() == (tmp_path / "other.st").read_bytes()


@pytest.mark.parametrize(
    "weights",
    [
        [Fraction("0.123456789"), Fraction("0.876543211"), Fraction("1e-9")],
        [Fraction(0.1), Fraction(0.7), Fraction(0.2)],
        [Fraction("1234567.890123456789"), -1, 1],
    ],
)
def test_a_soup_of_weights_of_any_length_is_exact_and_removal_from_its_sum_too(
    three, tmp_path, weights
):
    soup(*three, weights=weights, output=tmp_path / "soup.st", keep_sum=True)
    rows = [np.frombuffer(contents(path)["block.weight"][2], F16) for path in three]
    assert mean(rows, weights).tobytes() == contents(tmp_path / "soup.st")["block.weight"][2]

    soup(*three[:2], weights=weights[:2], output=tmp_path / "expected.st")
    revision = verbs.Revision(
        "subtract", tmp_path / "soup.st", tmp_path / "less.st", removed=[three[2]]
    )
    (made,) = verbs.revise(revision)
    assert made.method.value == "sum"
    assert contents(tmp_path / "expected.st") == contents(tmp_path / "less.st")
