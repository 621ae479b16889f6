"""The executor makes several outputs at once, and reads and digests no byte more than it needs."""

from __future__ import annotations

from contextlib import ExitStack
from fractions import Fraction
from itertools import count

import numpy as np
import pytest
from keeping import form_of, hide, sum_of
from making import contents, save
from revising import average, revise

from soupctl.checkpoints.digest import root_of, tensor_hasher
from soupctl.checkpoints.hashing import checkpoint_digest
from soupctl.checkpoints.open import find_input, open_input
from soupctl.choices import Method
from soupctl.engines.cpu import CpuEngine
from soupctl.errors import InputError, LedgerError, MismatchError, OutputError
from soupctl.format.dtypes import DType
from soupctl.merge.executor import execute
from soupctl.merge.kept_sum.format import SumForm
from soupctl.merge.kept_sum.reader import SumReader
from soupctl.merge.kept_sum.writer import SumOutput
from soupctl.merge.order import Order
from soupctl.merge.plan import Plan, make_plan
from soupctl.merge.recipe import Recipe
from soupctl.merge.step import Rule, Step
from soupctl.merge.step_weights import StepWeights
from soupctl.storage import regular
from soupctl.verbs import ExecutionOptions

F16 = np.float16
BIG = 3 << 20
"""Bytes of a tensor that is copied in several pieces."""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def opened(place):
    """Checkpoints a and b, open."""
    generator = np.random.default_rng(5)
    integers = generator.integers(0, 256, BIG + 17).astype(np.uint8)
    for name in "ab":
        save(place / f"{name}.st", w=generator.normal(0, 1, 70_000).astype(F16), n=integers)
    with ExitStack() as stack:
        models = [find_input(f"{name}.st", None, None) for name in "ab"]
        yield [stack.enter_context(open_input(model.components[0])) for model in models]


def plan(out: DType, *weights: int) -> Plan:
    """The plan that averages w into a dtype and copies n."""
    shares = StepWeights(weights, sum(weights))
    copied = Step("n", (BIG + 17,), Rule.IDENTICAL, (0, 1), (DType.U8,) * 2, DType.U8, shares)
    averaged = Step("w", (70_000,), Rule.AVERAGE, (0, 1), (DType.F16,) * 2, out, shares)
    return Plan(shares, (copied, averaged), False)


class Written:
    """Tensors in memory, each byte of which may be written once."""

    def __init__(self, **sizes: int) -> None:
        self.data = {name: bytearray(size) for name, size in sizes.items()}
        self.counts = {name: np.zeros(size, np.uint8) for name, size in sizes.items()}

    def write(self, name: str, offset: int, data: memoryview) -> None:
        self.data[name][offset : offset + len(data)] = data
        self.counts[name][offset : offset + len(data)] += 1


@pytest.mark.parametrize("execution", [ExecutionOptions(1), ExecutionOptions(3, 1000)])
@pytest.mark.parametrize("outs", [("F16", "F32", "F64"), ("F64", "F16", "BF16")])
def test_outputs_of_different_widths_are_those_made_alone(opened, execution, outs):
    orders, expected = [], []
    for number, out in enumerate(map(DType, outs), 1):
        sizes = {"n": BIG + 17, "w": 70_000 * out.bits // 8}
        together, alone = Written(**sizes), Written(**sizes)
        orders.append((Order(plan(out, number, 1), opened, together.write), together))
        (outcome,) = execute(
            [Order(plan(out, number, 1), opened, alone.write)], CpuEngine(), ExecutionOptions(1)
        )
        expected.append((outcome, alone.data))
    outcomes = execute([order for order, _ in orders], CpuEngine(), execution)

    assert expected == [
        (outcome, written.data) for outcome, (_, written) in zip(outcomes, orders, strict=True)
    ]
    assert all((count == 1).all() for _, each in orders for count in each.counts.values())
    assert all(each.data["n"] == opened[0].stored("n").read() for _, each in orders)


def test_a_source_that_was_digested_before_is_digested_again_as_it_is_combined(opened):
    known = checkpoint_digest(opened[0])
    written = Written(n=BIG + 17, w=140_000)
    orders = [Order(plan(DType.F16, 1, 1), opened, written.write)]
    (outcome,) = execute(orders, CpuEngine(), ExecutionOptions(1))

    assert (known, checkpoint_digest(opened[1])) == outcome.ingredients


def test_a_source_that_changed_since_it_was_digested_is_refused(opened):
    """As through a memory map of another process, which changes neither size nor times."""
    checkpoint_digest(opened[0])
    opened[0].digest = "blake3:" + "0" * 64
    written = Written(n=BIG + 17, w=140_000)
    orders = [Order(plan(DType.F16, 1, 1), opened, written.write)]

    with pytest.raises(OutputError, match=r"a\.st: changed while it was read"):
        execute(orders, CpuEngine(), ExecutionOptions(1))


@pytest.mark.parametrize("threads", [1, 3])
def test_the_digested_bytes_are_the_combined_and_copied_ones(opened, monkeypatch, threads):
    """Each read of a file gives other bytes, as of one that another process writes to."""
    reads = count()

    def preadv(fd: int, buffers: list[memoryview], offset: int) -> int:
        (buffer,) = buffers
        number = next(reads)
        # halves between 1 and 2; the mean of one source is that source
        buffer[:] = bytes([number % 251, 0x3C]) * (len(buffer) // 2) + b"\x07" * (len(buffer) % 2)
        return len(buffer)

    monkeypatch.setattr(regular.os, "preadv", preadv)
    written = Written(n=BIG + 17, w=140_000)
    one = StepWeights((1,), 1)
    copied = Step("n", (BIG + 17,), Rule.IDENTICAL, (0,), (DType.U8,), DType.U8, one)
    averaged = Step("w", (70_000,), Rule.AVERAGE, (0,), (DType.F16,), DType.F16, one)
    orders = [Order(Plan(one, (copied, averaged), False), opened[:1], written.write)]
    (outcome,) = execute(orders, CpuEngine(), ExecutionOptions(threads))

    rows = [("n", "U8", (BIG + 17,)), ("w", "F16", (70_000,))]
    digests = {name: tensor_hasher() for name in ("n", "w")}
    for name, hasher in digests.items():
        hasher.update(written.data[name])
    expected = root_of([(*row, digests[row[0]].hexdigest()) for row in rows])
    assert (expected, expected) == (outcome.ingredients[0], outcome.soup)


def test_sparse_planes_count_where_no_new_sum_is_kept(place):
    tiny = np.float64([2.0**-80, 0.5, 0.5])
    save(place / "a.st", w=np.float64([1.0] * 3))
    save(place / "b.st", w=tiny)
    save(place / "c.st", w=np.float64([-1.0] * 3))
    average(place / "soup.st", "a.st", "b.st", "c.st", keep_sum=True)
    hide("a.st", "b.st")
    made = revise("subtract", "soup.st", place / "out.st", (), ["c.st"], keep_sum=False)
    average(place / "expected.st", "hidden/a.st", "hidden/b.st")

    assert (Method.SUM, None) == (made.method, made.sum)
    assert contents(place / "expected.st") == contents(place / "out.st")


def test_a_soup_updated_without_keeping_its_sum_is_that_of_the_rest(place):
    generator = np.random.default_rng(7)
    for name in "abc":
        save(place / f"{name}.st", w=generator.normal(0, 1, 50).astype(F16))
    average(place / "soup.st", "a.st", ("b.st", 2), "c.st", keep_sum=True)
    hide("a.st", "b.st")
    made = revise("subtract", "soup.st", place / "out.st", (), ["c.st"], keep_sum=False)
    average(place / "expected.st", "hidden/a.st", ("hidden/b.st", 2))

    assert (Method.SUM, None) == (made.method, made.sum)
    assert contents(place / "expected.st") == contents(place / "out.st")


IN_CHUNKS = ExecutionOptions(1, 2)


def test_elements_are_counted_from_the_start_of_the_tensor(place):
    save(place / "a.st", w=np.float64([1.0] * 5 + [1e300]))
    save(place / "b.st", w=np.float64([2.0**-80] + [0.5] * 5))
    save(place / "n.st", w=np.float64([0.0, 0.0, 0.0, np.nan, 0.0, 0.0]))
    options = {"keep_sum": True, "execution": IN_CHUNKS}
    with pytest.raises(MismatchError, match="the mean of element 5 is beyond"):
        average(place / "soup.st", "a.st", "b.st", dtype=DType.F16, **options)
    average(place / "soup.st", "a.st", "b.st", **options)
    assert "1i:U32" in form_of(sum_of(place / "soup.st"), "w")
    for keep in (True, False):
        with pytest.raises(InputError, match=r"n\.st: w: holds NaN or infinity \(element 3\)"):
            revise(
                "add",
                "soup.st",
                place / "out.st",
                ["n.st"],
                keep_sum=keep,
                execution=IN_CHUNKS,
            )


CHANGED = {
    "not single": ([1.0, 2.0**-40], SumForm(DType.F32)),
    "more planes": ([1.0, 2.0**-80], SumForm(DType.F64)),
    "fewer elements": ([1.0, 1.0], SumForm(DType.F64, (1,))),
}


@pytest.mark.parametrize(("values", "form"), CHANGED.values(), ids=CHANGED)
def test_a_sum_that_does_not_fit_the_surveyed_form_is_refused(place, values, form):
    save(place / "a.st", w=np.float64([values[0]] * 3))
    save(place / "b.st", w=np.float64([values[1]] * 3))
    step = Step(
        "w", (3,), Rule.AVERAGE, (0, 1), (DType.F64,) * 2, DType.F64, StepWeights((1, 1), 2)
    )
    with ExitStack() as stack:
        models = [find_input(f"{name}.st", None, None) for name in "ab"]
        sources = [stack.enter_context(open_input(model.components[0])) for model in models]
        output = SumOutput({"w": form}, lambda *_: None)
        order = Order(Plan(step.weights, (step,), False), sources, lambda *_: None, output)
        with pytest.raises(OutputError, match="w: an input was changed while it was read"):
            execute([order], CpuEngine(), ExecutionOptions(1))
        del sources


def test_a_kept_sum_with_nan_is_refused_whatever_its_plan_allows(place):
    save(place / "a.st", w=np.float64([1.0, 2.0, 3.0]))
    average(place / "soup.st", "a.st", keep_sum=True)
    kept = sum_of(place / "soup.st")
    raw = kept.read_bytes()
    kept.write_bytes(raw[:-4] + np.float32([np.nan]).tobytes())
    step = Step("w", (3,), Rule.AVERAGE, (0,), (DType.F64,), DType.F64, StepWeights((1,), 1))
    with open_input(find_input(kept, None, None).components[0]) as checkpoint:
        plan = Plan(step.weights, (step,), allow_nonfinite=True)
        order = Order(plan, [SumReader(checkpoint)], lambda *_: None)
        with pytest.raises(LedgerError, match="w: is not a valid sum: it holds NaN"):
            execute([order], CpuEngine(), ExecutionOptions(1))


def test_a_source_that_does_not_count_for_a_tensor_is_only_digested(place):
    bad, good = np.float16([np.nan, np.inf, 7]), np.float16([1, 2, 3])
    save(place / "a.st", w=good, v=good, n=np.int64([1]))
    save(place / "b.st", w=bad, v=2 * good, n=np.int64([2]))
    weights = (Fraction(1), Fraction(1))
    recipe = Recipe(weights, blocks=(("[wn]", (Fraction(3), Fraction(0))),))
    with ExitStack() as stack:
        models = [find_input(f"{name}.st", None, None) for name in "ab"]
        sources = [stack.enter_context(open_input(model.components[0])) for model in models]
        tensors = [source.tensors for source in sources]
        made = make_plan(recipe, ["a.st", "b.st"], tensors)
        written: dict[str, bytes] = {}

        def write(name: str, _offset: int, data: memoryview) -> None:
            written[name] = bytes(data)

        (outcome,) = execute([Order(made, sources, write)], CpuEngine(), ExecutionOptions(1))
        digests = tuple(checkpoint_digest(source) for source in sources)
        del sources

    assert digests == outcome.ingredients
    assert {
        "w": good.tobytes(),
        "v": np.float16([1.5, 3, 4.5]).tobytes(),
        "n": np.int64([1]).tobytes(),
    } == written
