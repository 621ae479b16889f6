"""Whatever is refused says why, ends in the documented code, and leaves nothing behind."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from making import contents, files, save, save_raw, save_shards

from soupctl import verbs
from soupctl.errors import (
    InputError,
    LedgerError,
    LimitError,
    MismatchError,
    OutputError,
    SoupError,
    UsageError,
)
from soupctl.format.dtypes import DType
from soupctl.verbs import ExecutionOptions, Ingredient, Request

F16 = np.float16


def attempt(folder: Path, *names: str, output: str = "out/soup.st", **options: object) -> SoupError:
    """The refusal of an average of files in `folder`, which changes no file there."""
    execution = options.pop("execution", None)
    force = bool(options.pop("force", False))
    weights = options.pop("weights", [1] * len(names))
    (folder / "out").mkdir(exist_ok=True)
    before = files(folder)
    ingredients = [
        Ingredient(folder / name, Fraction(weight))
        for name, weight in zip(names, weights, strict=True)
    ]
    with pytest.raises(SoupError) as caught:
        verbs.average(
            Request(ingredients, folder / output, **options), force=force, execution=execution
        )

    assert before == files(folder)
    assert "\n" not in caught.value.message(None)
    return caught.value


@pytest.fixture
def two(tmp_path):
    """A folder with `a.st` and `b.st`, which fit each other."""
    for value, name in enumerate("ab"):
        save(tmp_path / f"{name}.st", w=np.full(100, value, F16), ids=np.arange(3))
    return tmp_path


@pytest.mark.parametrize(
    "execution", [ExecutionOptions(1), ExecutionOptions(5), ExecutionOptions(2, 1)]
)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_with_file_tensor_and_element(two, bad, execution):
    save(two / "c.st", w=np.where(np.arange(100) == 42, F16(bad), F16(1)), ids=np.arange(3))
    error = attempt(two, "a.st", "c.st", "b.st", execution=execution)

    assert isinstance(error, InputError)
    where = f"{two}/c.st: w: holds NaN or infinity (element 42)"
    assert f"{where} (--allow-nonfinite lets IEEE rules apply)" == error.message()


def test_the_first_failing_tensor_by_name_is_reported_with_any_threads(two):
    bad = {f"t{number}": np.full(50_000, np.nan, np.float32) for number in range(20)}
    save(two / "c.st", **bad)
    found = {
        attempt(two, "c.st", execution=ExecutionOptions(threads)).issues[0].tensor
        for threads in (1, 2, 5)
    }

    assert {"t0"} == found


@pytest.mark.parametrize("chunk", [None, 1, 7])
def test_a_mean_beyond_the_range_of_its_dtype_is_refused_with_its_tensor(two, chunk):
    save(two / "c.st", w=np.full(9, 60000, F16))
    save(two / "d.st", w=np.where(np.arange(9) == 5, F16(-60000), F16(60000)))
    error = attempt(two, "c.st", "d.st", weights=[2, -1], execution=ExecutionOptions(2, chunk))

    assert isinstance(error, MismatchError)
    what = "w: the mean of element 5 is beyond the range of F16 (ask for a wider dtype, such as"
    assert what in error.message()


def test_a_narrow_dtype_that_cannot_hold_the_values_is_refused(two):
    save(two / "c.st", w=np.float32([1, 1e5]))

    error = attempt(two, "c.st", dtype=DType.F16)
    assert "the mean of element 1 is beyond the range of F16" in error.message()


@pytest.mark.parametrize("execution", [ExecutionOptions(1), ExecutionOptions(5)])
def test_integers_that_differ_are_refused_naming_every_file(two, execution):
    save(two / "c.st", w=np.zeros(100, F16), ids=np.arange(1, 4))
    save(two / "d.st", w=np.zeros(100, F16), ids=np.arange(2, 5))
    error = attempt(two, "a.st", "c.st", "b.st", "d.st", execution=execution)

    assert isinstance(error, MismatchError)
    assert [(f"{two}/{name}.st", "ids") for name in "cd"] == [
        (issue.path, issue.tensor) for issue in error.issues
    ]
    assert "--on-int first" in error.message()


def test_opaque_tensors_that_differ_are_refused_without_that_advice(two):
    for value, name in enumerate("cd"):
        save_raw(two / f"{name}.st", {"z": ("C64", (1,), bytes([value] * 8))})
    error = attempt(two, "c.st", "d.st")

    assert "C64 tensors are not averaged (--exclude leaves the tensor out)" in error.message()


CASES: dict[str, tuple[type[SoupError], Callable[[Path], SoupError]]] = {
    "no ingredient": (UsageError, attempt),
    "weights that add up to zero": (
        UsageError,
        lambda folder: attempt(folder, "a.st", "b.st", weights=[1, -1]),
    ),
    "weights that are too fine": (
        UsageError,
        lambda folder: attempt(folder, "a.st", "b.st", weights=[1, Fraction(1, 2**63)]),
    ),
    "weights of one content that cancel": (
        UsageError,
        lambda folder: attempt(folder, "a.st", "b.st", "a.st", weights=[1, 1, -1]),
    ),
    "nothing selected": (
        UsageError,
        lambda folder: attempt(folder, "a.st", keys=("w",), excludes=("*",)),
    ),
    "a pattern without a match": (
        UsageError,
        lambda folder: attempt(folder, "a.st", keys=("w", "none")),
    ),
    "shards in one file": (UsageError, lambda folder: attempt(folder, "a.st", shard_size=100)),
    "a missing file": (InputError, lambda folder: attempt(folder, "a.st", "none.st")),
    "a folder without weights": (InputError, lambda folder: attempt(folder, "out")),
    "an output that exists": (
        OutputError,
        lambda folder: attempt(folder, "a.st", output="b.st"),
    ),
    "an output in no folder": (
        OutputError,
        lambda folder: attempt(folder, "a.st", output="none/soup.st"),
    ),
    "an output that is a folder": (
        OutputError,
        lambda folder: attempt(folder, "a.st", output="out", force=True),
    ),
    "an output that is an input": (
        OutputError,
        lambda folder: attempt(folder, "a.st", "b.st", output="b.st", force=True),
    ),
}


def test_a_tensor_without_a_name_is_named_in_quotes(two):
    save(two / "unnamed.st", **{"": np.ones(3, F16)})

    assert "lacks '', which " in attempt(two, "unnamed.st", "a.st").message()


@pytest.mark.parametrize(("kind", "case"), CASES.values(), ids=CASES)
def test_a_refusal_has_the_exit_code_of_its_kind(two, kind, case):
    assert kind is type(case(two))


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_an_output_that_links_to_an_input_is_refused(two, link):
    link(two / "link.st", two / "a.st")

    error = attempt(two, "a.st", "b.st", output="link.st", force=True)
    assert f"{two}/link.st: is also an input (choose another output)" == error.message()
    link(two / "out" / "x.st", two / "b.st")
    attempt(two, "link.st", output="out/../a.st", force=True)


def test_an_input_that_is_a_link_is_protected_like_the_file(two):
    (two / "link.st").symlink_to("a.st")

    assert "is also an input" in attempt(two, "link.st", output="a.st", force=True).message()


def test_a_folder_that_is_an_input_is_not_replaced(two):
    save_shards(two / "m", "model", {"w": np.zeros(3, F16)}, {"x": np.zeros(3, F16)})
    (two / "link").symlink_to("m")

    assert "holds an input" in attempt(two, "m", output="m", force=True).message()
    assert "holds an input" in attempt(two, "m", output="link", force=True).message()
    index = "m/model.safetensors.index.json"
    assert "holds an input" in attempt(two, index, output="m", force=True).message()


@pytest.mark.parametrize(
    ("own", "new"),
    [("model", "model.safetensors"), ("model", "adapter_model.safetensors"), ("odd", "new.st")],
)
def test_an_output_that_would_be_read_as_weights_of_an_input_is_refused(two, own, new):
    save_shards(two / "m", own, {"w": np.zeros(3, F16)}, {"x": np.zeros(3, F16)})
    (two / "link").symlink_to("m")

    for folder in ("m", "link"):
        error = attempt(two, "m", output=f"{folder}/{new}", force=True)
        assert "would be taken for the weights of its folder" in error.message()


@pytest.mark.parametrize("new", ["new.safetensors", "model.fp16.safetensors"])
def test_an_output_may_lie_in_the_folder_of_an_input_that_is_still_found(two, new):
    save_shards(two / "m", "model", {"w": np.zeros(3, F16)}, {"x": np.zeros(3, F16)})

    made = Request([Ingredient(two / "m")], two / "m" / new)
    (first,) = verbs.average(made)
    (second,) = verbs.average(replace(made, output=two / "x.st"))

    assert first.ledger.root == second.ledger.root


def test_a_folder_that_soupctl_did_not_write_is_not_replaced(two):
    save_shards(two / "m", "model", {"w": np.zeros(3, F16)}, {"x": np.zeros(3, F16)})
    save(two / "n" / "model.safetensors", w=np.zeros(3, F16))

    assert "soupctl did not write" in attempt(two, "m", output="n", force=True).message()


def test_an_index_of_no_tensors_does_not_stand_for_standard_input(two):
    (two / "m").mkdir()
    (two / "m" / "model.safetensors.index.json").write_text('{"weight_map":{}}')
    error = attempt(two, "m")

    assert (
        f"{two}/m/model.safetensors.index.json: is an index that lists no tensors"
        == error.message()
    )


def altered(path: Path) -> None:
    """Flip one bit of the last tensor."""
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)


@pytest.fixture
def made(two):
    """The same folder with `soup.st`, a soup of both."""
    ingredients = [Ingredient(two / "a.st"), Ingredient(two / "b.st")]
    verbs.average(Request(ingredients, two / "soup.st"))
    return two


def test_a_soup_with_altered_tensors_is_refused(made):
    altered(made / "soup.st")
    error = attempt(made, "soup.st", "a.st")

    assert isinstance(error, LedgerError)
    what = f"{made}/soup.st: its ledger does not match its tensors"
    assert f"{what} (avg --ignore-ledger treats the file as a plain checkpoint)" == error.message()


def test_a_soup_with_an_altered_ledger_is_refused(made):
    raw = (made / "soup.st").read_bytes()
    (made / "soup.st").write_bytes(raw.replace(b'\\"weight\\":\\"1\\"', b'\\"weight\\":\\"2\\"', 1))

    assert raw != (made / "soup.st").read_bytes()
    assert isinstance(attempt(made, "soup.st", "a.st"), LedgerError)


def test_all_altered_soups_are_reported_at_once(made):
    (made / "other.st").write_bytes((made / "soup.st").read_bytes())
    altered(made / "soup.st")
    altered(made / "other.st")

    assert 2 == len(attempt(made, "soup.st", "a.st", "other.st").issues)


def test_an_altered_soup_is_a_plain_checkpoint_on_request(made):
    altered(made / "soup.st")
    request = Request([Ingredient(made / "soup.st")], made / "out.st", ignore_ledger=True)
    (again,) = verbs.average(request)

    assert contents(made / "soup.st") == contents(made / "out.st")
    assert {} == again.ledger.ancestors


def test_an_input_that_changes_meanwhile_is_refused(two):
    def touch(_size: int) -> None:
        os.utime(two / "b.st")

    error = attempt(two, "a.st", "b.st", execution=ExecutionOptions(1, None, touch))

    assert isinstance(error, OutputError)
    assert f"{two}/b.st: changed while it was read" == error.message()


def test_values_that_only_python_can_give_are_refused_as_well():
    for wrong in (
        lambda: Ingredient("a.st", 0.7),
        lambda: Request([], "soup.st", dtype=DType.I8),
        lambda: ExecutionOptions(threads=0),
        lambda: ExecutionOptions(chunk=0),
    ):
        with pytest.raises(UsageError):
            wrong()


def test_configs_that_differ_are_refused_also_if_they_are_not_copied(tmp_path):
    for name, size in (("a", 32), ("b", 64)):
        save(tmp_path / name / "model.safetensors", w=np.ones(3, F16))
        (tmp_path / name / "config.json").write_text(f'{{"sample_size": {size}}}')
    error = attempt(tmp_path, "a", "b")

    assert isinstance(error, MismatchError)
    assert "sample_size is 64, but 32 in" in error.message()


def test_a_ledger_in_an_index_that_is_no_text_is_refused(tmp_path):
    folder = save_shards(tmp_path / "x", "model", {"a": np.ones(2, F16)}, {"b": np.ones(2, F16)})
    index = next(folder.glob("*.index.json"))
    index.write_text(index.read_text().replace('"metadata": {', '"metadata": {"soupctl": 1, '))

    assert isinstance(attempt(tmp_path, "x"), LedgerError)


def test_too_many_threads_for_the_system_are_a_limit(two, monkeypatch):
    def start(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", start)

    # large enough to be tasks of their own
    layers = {f"w{number}": np.ones(1 << 20, F16) for number in range(2)}
    for name in ("c.st", "d.st"):
        save(two / name, **layers)

    assert isinstance(attempt(two, "c.st", "d.st", execution=ExecutionOptions(2)), LimitError)


def test_one_content_with_weights_of_both_signs_is_refused_where_infinity_may_be(two):
    save(two / "n.st", w=np.full(100, np.inf, F16), ids=np.arange(3))
    error = attempt(two, "n.st", "n.st", "a.st", weights=[2, -1, 1], allow_nonfinite=True)

    assert isinstance(error, UsageError)
    assert "give it once, with the summed weight" in error.message()


def test_factors_that_are_left_out_are_no_reason_to_refuse(two):
    for name in ("c.st", "d.st"):
        save(two / name, w=np.ones(3, F16), **{"x.lora_A.weight": np.ones(3, F16)})
    request = Request([Ingredient(two / name) for name in ("c.st", "d.st")], two / "soup.st")
    verbs.average(replace(request, excludes=("*lora*",)))

    assert contents(two / "soup.st").keys() == {"w"}
