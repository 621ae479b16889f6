"""The executor makes several outputs at once, and reads and digests no byte more than it needs."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import pytest
from keeping import hide
from making import contents, save
from revising import average, revise

import soupctl.merge.tensor_pass
from soupctl.checkpoints.digest import tensor_hasher
from soupctl.checkpoints.hashing import checkpoint_digest
from soupctl.checkpoints.open import find_input, open_input
from soupctl.choices import Method
from soupctl.engines.cpu import CpuEngine
from soupctl.format.dtypes import DType
from soupctl.merge.executor import execute
from soupctl.merge.order import Order
from soupctl.merge.plan import Plan, Rule, Step
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
    copied = Step("n", (BIG + 17,), Rule.IDENTICAL, (0, 1), (DType.U8,) * 2, DType.U8)
    averaged = Step("w", (70_000,), Rule.AVERAGE, (0, 1), (DType.F16,) * 2, out)
    return Plan(weights, (copied, averaged), False)


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
    assert all(each.data["n"] == opened[0].view("n") for _, each in orders)


def test_a_source_that_was_digested_is_not_digested_again(opened, monkeypatch):
    digested: list[int] = []

    class Counting:
        def __init__(self) -> None:
            self.hasher = tensor_hasher()

        def update(self, data: memoryview) -> None:
            digested.append(len(data))
            self.hasher.update(data)

        def hexdigest(self) -> str:
            return self.hasher.hexdigest()

    known = checkpoint_digest(opened[0])
    monkeypatch.setattr(soupctl.merge.tensor_pass, "tensor_hasher", Counting)
    written = Written(n=BIG + 17, w=140_000)
    orders = [Order(plan(DType.F16, 1, 1), opened, written.write)]
    (outcome,) = execute(orders, CpuEngine(), ExecutionOptions(1))

    # the second ingredient and the soup, and in both what is compared
    assert 2 * 140_000 + 2 * (BIG + 17) == sum(digested)
    assert (known, checkpoint_digest(opened[1])) == outcome.ingredients


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
