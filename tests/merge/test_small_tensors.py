"""Small tensors are made together, with the bytes, digests and errors of tensors made alone."""

from __future__ import annotations

import gc
from contextlib import ExitStack
from threading import Thread

import numpy as np
import pytest
from making import contents, save, save_raw
from revising import average
from work import calls_in

from soupctl.checkpoints.hashing import checkpoint_digest, content_digests
from soupctl.checkpoints.open import find_input, open_input
from soupctl.choices import OnMissing
from soupctl.collector import SELDOM, collecting_seldom
from soupctl.engines.cpu import CpuEngine
from soupctl.errors import InputError, MismatchError
from soupctl.format.dtypes import DType
from soupctl.merge.executor import execute
from soupctl.merge.order import Order
from soupctl.merge.plan import make_plan
from soupctl.merge.recipe import Recipe
from soupctl.storage import regular
from soupctl.workers import FEW_BYTES, ExecutionOptions, threads_for

ALONE = ExecutionOptions(1, 1)
"""Chunks of one element, so that no two tensors fit one."""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tensors(seed: int, **special: np.ndarray) -> dict[str, np.ndarray]:
    """Tensors of several dtypes and shapes, some of them empty, and integers between them."""
    draw = np.random.default_rng(seed)
    made = {}
    for number in range(40):
        dtype = (np.float16, np.float16, np.float32, np.float64)[number // 3 % 4]
        shape = ((3,), (), (0, 2), (2, 2), (17,))[number % 5]
        made[f"t{number}"] = draw.normal(0, 1, shape).astype(dtype)
    return {**made, "t15.n": np.int64([1, 2]), **special}


def save_backwards(path, tensors) -> None:
    """A file with its data in the reverse order of names, unlike that of the library."""
    names = {"<f2": "F16", "<f4": "F32", "<f8": "F64", "<i8": "I64"}
    backwards = sorted(tensors.items(), reverse=True)
    save_raw(path, {k: (names[v.dtype.str], v.shape, v.tobytes()) for k, v in backwards})


def both_ways(place, *inputs, **options) -> None:
    """Require that a soup has the same bytes if its tensors are made alone."""
    average(place / "together.st", *inputs, **options)
    average(place / "alone.st", *inputs, execution=ALONE, **options)
    assert (place / "alone.st").read_bytes() == (place / "together.st").read_bytes()


@pytest.mark.parametrize("options", [{}, {"dtype": DType.BF16}, {"excludes": ("t1*",)}])
def test_a_soup_does_not_depend_on_what_is_made_together(place, options):
    one, other = tensors(1), tensors(2)
    save(place / "a.st", **one)
    save_backwards(place / "b.st", other)
    both_ways(place, "a.st", ("b.st", 2), **options)


def test_tensors_that_an_ingredient_lacks_are_made_apart(place):
    one, other = tensors(1), tensors(2)
    for name in ("t7", "t8", "t20"):
        del other[name]
    save(place / "a.st", **one)
    save(place / "b.st", **other)
    both_ways(place, "a.st", "b.st", on_missing=OnMissing.KEEP)
    assert contents(place / "together.st")["t20"] == contents(place / "a.st")["t20"]


def test_several_soups_of_shared_sources_have_the_digests_of_each_alone(place):
    save(place / "a.st", **tensors(1))
    save(place / "b.st", **tensors(2))
    with ExitStack() as stack:
        models = [find_input(f"{name}.st", None, None) for name in "ab"]
        sources = [stack.enter_context(open_input(model.components[0])) for model in models]
        held = [source.tensors for source in sources]
        recipes = [
            Recipe((1, 1)),
            Recipe((3, 1), dtype=DType.F32, excludes=("t2*",)),
            Recipe((1, 1), keys=("t[1-3]*",)),
        ]
        plans = [make_plan(recipe, ["a.st", "b.st"], held) for recipe in recipes]

        def outcomes(plans, execution):
            written = [{} for _ in plans]
            orders = [
                Order(
                    plan,
                    sources,
                    lambda name, at, data, to=each: to.update({(name, at): bytes(data)}),
                )
                for plan, each in zip(plans, written, strict=True)
            ]
            return list(execute(orders, CpuEngine(), execution))

        together = outcomes(plans, ExecutionOptions(2))
        alone = [outcomes([plan], ALONE)[0] for plan in plans]
        digests = tuple(checkpoint_digest(source) for source in sources)

    assert alone == together
    assert {each.ingredients for each in together} == {digests}


def test_the_error_is_that_of_the_first_failing_tensor(place):
    bad = np.float16([1, np.nan])
    save(place / "a.st", **tensors(1, t30=bad))
    other = tensors(2, t30=np.float16([1, 1]), t31=np.float64([1e300]))
    save_backwards(place / "b.st", other)
    save(place / "c.st", **tensors(1, t30=np.float16([1, 1]), t31=np.float64([1])))
    with pytest.raises(InputError, match=r"a\.st: t30: holds NaN or infinity \(element 1\)"):
        average(place / "soup.st", "b.st", "a.st", dtype=DType.F16, excludes=("t31",))
    with pytest.raises(MismatchError, match="t31: the mean of element 0 is beyond"):
        average(place / "soup.st", "b.st", "c.st", dtype=DType.F16)
    assert not (place / "soup.st").exists()


def test_neighbours_are_read_at_once(place, monkeypatch):
    names = [f"t{number:03}" for number in range(200)]
    for seed, file in enumerate(("a.st", "b.st")):
        draw = np.random.default_rng(seed)
        save(place / file, **{name: draw.normal(0, 1, 3).astype(np.float16) for name in names})
    reads = []
    preadv = regular.os.preadv

    def counted(fd, buffers, offset):
        reads.append(offset)
        return preadv(fd, buffers, offset)

    monkeypatch.setattr(regular.os, "preadv", counted)
    average(place / "soup.st", "a.st", "b.st", execution=ExecutionOptions(1))
    assert len(reads) < 20


@pytest.mark.parametrize(("count", "is_threaded"), [(1000, True), (1001, False)])
def test_many_small_tensors_need_no_threads(place, monkeypatch, count, is_threaded):
    for seed, file in enumerate(("a.st", "b.st")):
        draw = np.random.default_rng(seed)
        data = draw.normal(0, 1, (count, 8)).astype(np.float16)
        save(place / file, **{f"t{number:05}": row for number, row in enumerate(data)})
    started = []
    start = Thread.start
    monkeypatch.setattr(Thread, "start", lambda self: (started.append(self.name), start(self)))
    average(place / "soup.st", "a.st", "b.st", execution=ExecutionOptions(2))
    averaging, started[:] = bool(started), []
    content_digests(place / "soup.st", threads=2)
    assert [averaging, bool(started)] == [is_threaded, is_threaded]


def test_a_large_tensor_among_small_ones_is_worth_threads():
    options = ExecutionOptions(4)
    assert threads_for(options, 2000, 2000 * FEW_BYTES) == options
    assert threads_for(options, 2000, 2000 * FEW_BYTES - 1).threads == 1


def test_a_small_tensor_takes_few_calls(place):
    def calls(count: int) -> int:
        for seed, file in enumerate(("a.st", "b.st")):
            draw = np.random.default_rng(seed)
            data = draw.normal(0, 1, (count, 8)).astype(np.float16)
            save(place / file, **{f"t{number:05}": row for number, row in enumerate(data)})
        (place / "soup.st").unlink(missing_ok=True)
        return calls_in(
            lambda: average(place / "soup.st", "a.st", "b.st", execution=ExecutionOptions(1))
        )

    calls(300)
    assert (calls(1300) - calls(300)) / 1000 < 150


def test_the_collector_is_the_callers_again(place):
    save(place / "a.st", w=np.float16([1]))
    usual = gc.get_threshold()
    average(place / "soup.st", "a.st", "a.st")
    with pytest.raises(InputError):
        average(place / "other.st", "a.st", "missing.st")
    assert usual == gc.get_threshold()

    with ExitStack() as first, ExitStack() as second:
        first.enter_context(collecting_seldom())
        second.enter_context(collecting_seldom())
        first.close()
        assert gc.get_threshold() == SELDOM
    assert usual == gc.get_threshold()
