"""A large tensor is made by several threads, with the bytes, digests and errors of one."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import pytest
from keeping import sum_of
from making import save
from revising import average, revise

from soupctl.checkpoints.hashing import checkpoint_digest, content_digests
from soupctl.checkpoints.open import find_input, open_input
from soupctl.engines.cpu import CpuEngine
from soupctl.errors import InputError, OutputError
from soupctl.format.dtypes import DType
from soupctl.merge.executor import execute
from soupctl.merge.kept_sum.forms import SAMPLE
from soupctl.merge.large_tensors import LARGE
from soupctl.merge.order import Order
from soupctl.merge.plan import make_plan
from soupctl.merge.recipe import Recipe
from soupctl.storage import regular
from soupctl.workers import ExecutionOptions

CHUNK = 64
ONE = ExecutionOptions(1, CHUNK)
SEVERAL = ExecutionOptions(4, CHUNK)
COUNT = CHUNK * LARGE + 90
"""Elements of a large tensor, the last of them in a chunk that is not full."""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def save_both(place, dtype=np.float16, changed: dict[int, float] | None = None) -> None:
    """Checkpoints a and b with a large tensor between small ones; in a, elements are changed."""
    for seed, name in enumerate("ab"):
        draw = np.random.default_rng(seed)
        large = draw.normal(0, 1, COUNT).astype(dtype)
        for element, value in (changed or {}).items() if name == "a" else ():
            large[element] = value
        small = draw.normal(0, 1, (2, 40)).astype(dtype)
        save(place / f"{name}.st", m=large, a=small[0], z=small[1])


def digest_of(path: str) -> str:
    return content_digests(path)[0].digest


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("keep_sum", [False, True])
def test_a_soup_and_its_sum_do_not_depend_on_threads(place, dtype, keep_sum):
    save_both(place, dtype)
    for name, execution in (("one", ONE), ("several", SEVERAL)):
        (place / name).mkdir()
        soup = f"{name}/soup.st"
        made = average(soup, "a.st", ("b.st", 2), execution=execution, keep_sum=keep_sum)
        assert digest_of(soup) == made.ledger.root

    one, several = (place / name / "soup.st" for name in ("one", "several"))
    assert one.read_bytes() == several.read_bytes()
    if keep_sum:
        assert sum_of(one).read_bytes() == sum_of(several).read_bytes()


@pytest.mark.parametrize("late", [{}, {3 * SAMPLE: 60000.0}, {3 * SAMPLE: 0.0, 3: 60000.0}])
def test_a_sum_of_another_form_than_expected_does_not_depend_on_threads(place, late):
    for seed, name in enumerate("ab"):
        large = np.random.default_rng(seed).normal(0, 0.02, 4 * SAMPLE).astype(np.float16)
        for element, value in late.items() if name == "a" else ():
            large[element] = value
        save(place / f"{name}.st", m=large, z=large[:9])
    for name, execution in (("one", ONE), ("several", SEVERAL)):
        (place / name).mkdir()
        average(f"{name}/soup.st", "a.st", "b.st", execution=execution, keep_sum=True)

    one, several = (sum_of(place / name / "soup.st").read_bytes() for name in ("one", "several"))
    assert one == several
    # float64 is needed for as much as one element
    assert (len(one) > 8 * 4 * SAMPLE) == (60000 in late.values())


def test_an_ingredient_is_taken_out_of_a_large_sum(place):
    save_both(place)
    average("soup.st", "a.st", "b.st", execution=SEVERAL, keep_sum=True)
    revise("subtract", "soup.st", place / "rest.st", removed=["b.st"], execution=SEVERAL)

    average("alone.st", "a.st", execution=ONE)
    assert digest_of("rest.st") == digest_of("alone.st")


def test_several_soups_of_shared_sources_have_the_digests_of_each_alone(place):
    save_both(place)
    with ExitStack() as stack:
        models = [find_input(f"{name}.st", None, None) for name in "ab"]
        sources = [stack.enter_context(open_input(model.components[0])) for model in models]
        held = [source.tensors for source in sources]
        recipes = [Recipe((1, 1)), Recipe((3, 1), dtype=DType.F32), Recipe((1, 2), keys=("m",))]
        plans = [make_plan(recipe, ["a.st", "b.st"], held) for recipe in recipes]

        def outcomes(plans, execution):
            def discard(name, at, data):
                """Only digests are compared."""

            orders = [Order(plan, sources, discard) for plan in plans]
            return list(execute(orders, CpuEngine(), execution))

        alone = [outcomes([plan], ONE)[0] for plan in plans]
        digests = tuple(checkpoint_digest(source) for source in sources)
        assert alone == outcomes(plans, SEVERAL)
    assert {each.ingredients for each in alone} == {digests}


@pytest.mark.parametrize("first", [0, CHUNK + 1, CHUNK * 9, COUNT - 2])
def test_the_error_is_that_of_the_first_failing_element(place, first):
    save_both(place, changed={first: np.nan, COUNT - 1: np.inf})
    for _ in range(5):
        with pytest.raises(InputError, match=rf"m: holds NaN or infinity \(element {first}\)"):
            average("soup.st", "a.st", "b.st", execution=SEVERAL)
    assert not (place / "soup.st").exists()


def test_a_file_that_becomes_shorter_ends_all_threads(place, monkeypatch):
    save_both(place)
    preadv = regular.os.preadv

    def shorter(fd, buffers, offset):
        return 0 if offset > 10 * 2 * CHUNK else preadv(fd, buffers, offset)

    with ExitStack() as stack:
        models = [find_input(f"{name}.st", None, None) for name in "ab"]
        sources = [stack.enter_context(open_input(model.components[0])) for model in models]
        plan = make_plan(Recipe((1, 1)), ["a.st", "b.st"], [each.tensors for each in sources])
        monkeypatch.setattr(regular.os, "preadv", shorter)
        order = Order(plan, sources, lambda name, at, data: None)
        with pytest.raises(OutputError, match=r"[ab]\.st: changed while it was read"):
            execute([order], CpuEngine(), SEVERAL)
