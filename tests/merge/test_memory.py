"""The estimate of memory: what it counts, and what happens to a job with less memory."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from making import contents, files, save
from revising import average

from soupctl import verbs
from soupctl.errors import LimitError
from soupctl.merge.memory import memory_needed
from soupctl.verbs import (
    Addition,
    Application,
    DeltaRequest,
    ExecutionOptions,
    Ingredient,
    Request,
    Revision,
)

SMALL = 2_000


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def save_small(path: str, dtype: type, seed: int) -> None:
    """A checkpoint of many tensors of one element."""
    values = np.random.default_rng(seed).normal(0, 1, SMALL).astype(dtype)
    save(Path(path), **{f"w{n}": values[n : n + 1] for n in range(SMALL)})


def request(output: str, *paths: str, keep_sum: bool = False) -> Request:
    return Request([Ingredient(path, Fraction(1)) for path in paths], output, keep_sum=keep_sum)


def fixed_of_addition(added: str) -> int:
    revision = Revision("add", "soup.st", "x.st", [Addition(added)])
    with verbs.open_revision(revision) as job:
        assert job.sums
        return memory_needed([job]).fixed


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_sum_that_grows_is_counted_with_as_many_planes_as_it_usually_has(dtype):
    """One plane holds sums of F16; those of F32 have sparse ones besides."""
    for seed, name in enumerate("ab"):
        save_small(f"{name}.st", np.float16, seed)
    save_small("c.st", dtype, 3)
    average("soup.st", "a.st", "b.st", keep_sum=True)
    with verbs.open_job(request("x.st", "a.st", "b.st", "c.st", keep_sum=True)) as job:
        at_once = memory_needed([job]).fixed

    grown = fixed_of_addition("c.st")

    # the tables of the sum that is read come on top
    assert 0 < grown - at_once < SMALL * 1500


def test_a_sum_of_more_planes_than_usual_is_refused_if_it_takes_too_much_memory():
    for place in range(6):
        values = np.array([1.0, 2.0 ** (-100 * place)])
        save(Path(f"{place}.st"), **{f"w{n}": values for n in range(SMALL)})
    paths = [f"{place}.st" for place in range(6)]
    with verbs.open_job(request("x.st", *paths, keep_sum=True)) as job:
        planned = memory_needed([job]).with_threads(1)
    before = files(Path())

    with pytest.raises(LimitError, match=r"x\.st: its exact sum needs \d+ bytes .*keep_sum=False"):
        average("x.st", *paths, keep_sum=True, execution=ExecutionOptions(1, max_memory=planned))
    assert before == files(Path())
    made = average(
        "x.st", *paths, keep_sum=True, execution=ExecutionOptions(1, max_memory=2 * planned)
    )
    assert made.sum is not None


def test_in_little_memory_the_chunks_of_many_ingredients_are_smaller():
    values = np.arange(20_000, dtype=np.float32)
    save(Path("a.st"), w=values)
    paths = []
    for place in range(300):
        paths.append(f"{place}.st")
        save(Path(paths[-1]), w=values + place)
    with verbs.open_job(request("x.st", *paths)) as job:
        usual = verbs.preview(job, 1)
        most = usual.memory - (10 << 20)
        less = verbs.preview(job, 2, most)
        with pytest.raises(LimitError, match="are not enough"):
            verbs.preview(job, 2, usual.memory // 3)
        verbs.carry_out(job, execution=ExecutionOptions(less.threads, less.chunk))
    average("y.st", *paths)

    assert (None, 1, True) == (usual.chunk, less.threads, less.memory <= most)
    assert less.chunk is not None
    assert contents(Path("y.st")) == contents(Path("x.st"))


def need_of_application(base: str, deltas: Sequence[str]) -> int:
    """Bytes that a thread needs."""
    application = Application(base, deltas, "x.st")
    with verbs.open_application(application) as job:
        return memory_needed([job]).a_thread


def test_the_factors_of_adapters_are_counted():
    base = np.zeros((40, 50), np.float16)
    save(Path("base.st"), **{"m.weight": base})
    for rank in (1, 1000):
        save(
            Path(f"{rank}.st"),
            **{
                "m.lora_up.weight": np.ones((40, rank), np.float16),
                "m.lora_down.weight": np.ones((rank, 50), np.float16),
            },
        )

    small, large = (need_of_application("base.st", [f"{rank}.st"]) for rank in (1, 1000))
    both = need_of_application("base.st", ["1.st", "1000.st"])

    # as float64, and in copies
    assert large - small >= 999 * 90 * 16
    assert both > large


def test_the_planes_of_deltas_are_counted():
    values = np.arange(100_000, dtype=np.float32)
    save(Path("base.st"), w=values)
    save(Path("fine.st"), w=values / 3)
    verbs.make_delta(DeltaRequest("fine.st", "base.st", "d.st"))

    plain = need_of_application("base.st", ["d.st"])
    more = need_of_application("base.st", ["d.st", "d.st"])

    assert plain >= 100_000 * (4 + 4 + 8) // 8
    assert more >= plain
