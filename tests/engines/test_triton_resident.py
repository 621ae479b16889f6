"""Tensors in memory are averaged, added and taken out with the bits of a soup of files."""

import random
from fractions import Fraction

import numpy as np
import pytest

from soupctl.engines.contract import WeightedMean
from soupctl.engines.cpu import CpuEngine
from soupctl.engines.reference import encode
from soupctl.errors import InputError, LimitError, MismatchError, UsageError
from soupctl.format.dtypes import DType

torch = pytest.importorskip("torch")

from soupctl.engines import operators, resident  # noqa: E402

SHAPES = {"bias": (7,), "norm": (), "weight": (40, 31), "empty": (0, 3)}
NAMES = {dtype: name for name, dtype in operators.DTYPES.items()}


@pytest.fixture(params=["reference", "kernels"])
def way(request, monkeypatch):
    """Both ways to compute; the kernels are interpreted, as though the tensors were elsewhere."""
    if request.param == "kernels":
        request.getfixturevalue("interpreted_engine")
        monkeypatch.setattr(operators, "uses_kernels", lambda device: True)
        monkeypatch.setattr(operators, "on", lambda device: torch.no_grad())


def checkpoint(dtype, seed):
    """A state dict of values that weights have."""
    numbers = torch.Generator().manual_seed(seed)
    return {
        name: torch.empty(shape).normal_(0, 0.02, generator=numbers).to(NAMES[dtype])
        for name, shape in SHAPES.items()
    }


def bits(tensors):
    return {name: bytes(raw(tensor)) for name, tensor in tensors.items()}


def raw(tensor):
    return operators.bytes_of(operators.integers(tensor))


def means(checkpoints, weights, out):
    """The bits of the mean by the processor's engine."""
    made = {}
    for name, first in checkpoints[0].items():
        dtypes = tuple(operators.DTYPES[each[name].dtype] for each in checkpoints)
        mean = WeightedMean(dtypes, tuple(weights), out)
        room = bytearray(first.numel() * out.bits // 8)
        sources = [raw(each[name]) for each in checkpoints]
        CpuEngine().prepare(mean, sources)(0, first.numel(), memoryview(room))
        made[name] = bytes(room)
    return made


@pytest.mark.parametrize("dtype", NAMES)
def test_a_mean_is_that_of_the_engine(way, dtype):
    parts = [checkpoint(dtype, seed) for seed in range(3)]
    out = checkpoint(dtype, 9)
    resident.average_(out, parts, [1, 1, 1])

    assert means(parts, [1, 1, 1], dtype) == bits(out)


def test_a_mean_of_mixed_dtypes_is_that_of_the_engine(way):
    parts = [checkpoint(dtype, 0) for dtype in (DType.F32, DType.F16, DType.BF16)]
    out = checkpoint(DType.F32, 9)
    resident.average_(out, parts, [3, -1, 2])

    assert means(parts, [3, -1, 2], DType.F32) == bits(out)


def test_doubtful_elements_are_computed_exactly(way):
    # two levels of residuals lose what the third would hold
    values = (2.0**120, 2.0**60, 0.5, -(2.0**120), -(2.0**60))
    parts = [[torch.full((3000,), value, dtype=torch.float64)] for value in values]
    out = [torch.empty(3000, dtype=torch.float64)]
    resident.average_(out, parts, [1] * 5)

    assert torch.equal(torch.full((3000,), 0.1, dtype=torch.float64), out[0])


def test_a_rounded_soup_is_updated_in_place(way):
    soup, part = checkpoint(DType.F16, 0), checkpoint(DType.F16, 1)
    added = means([soup, part], [3, 2], DType.F16)
    resident.add_(soup, part, total=3, weight=2)
    assert added == bits(soup)
    left = means([soup, part], [5, -2], DType.F16)
    resident.subtract_(soup, part, total=5, weight=2)

    assert left == bits(soup)


@pytest.mark.parametrize("dtype", [DType.F16, DType.BF16, DType.F32])
@pytest.mark.parametrize("planes", [1, 2])
def test_any_sequence_of_changes_gives_the_soup_of_the_remaining_ingredients(way, dtype, planes):
    parts = [checkpoint(dtype, seed) for seed in range(4)]
    soup = checkpoint(dtype, 9)
    kept = resident.KeptSum(soup, planes)
    held = []
    for change in (0, 1, 2, -1, 3, -3):
        part = abs(change)
        if change < 0:
            kept.subtract_(parts[part], part + 1, soup=soup)
            held.remove(part)
        else:
            kept.add_(parts[part], part + 1, soup=soup)
            held.append(part)
        weights = [each + 1 for each in held]
        assert means([parts[each] for each in held], weights, dtype) == bits(soup)
        assert sum(weights) == kept.total


@pytest.mark.parametrize("bad", ["nan", "range", "planes"])
def test_a_refused_addition_changes_nothing(way, bad):
    soup = [torch.zeros(2500, dtype=torch.float16)]
    kept = resident.KeptSum(soup)
    kept.add_([torch.linspace(-1, 1, 2500)], soup=soup)
    before = [*soup[0].tolist()], kept.planes[0].clone()
    part = torch.ones(2500)
    part[1700] = {"nan": float("nan"), "range": 3e5, "planes": 2.0**-90}[bad]
    refusal = {"nan": InputError, "range": MismatchError, "planes": LimitError}[bad]

    with pytest.raises(refusal, match=r"0: .*1(700|024)"):
        kept.add_([part], soup=soup)
    assert before[0] == soup[0].tolist()
    assert torch.equal(before[1], kept.planes[0])
    assert 1 == kept.total


def test_two_planes_hold_sums_that_one_cannot(way):
    kept = resident.KeptSum([torch.zeros(5)], planes=2)
    soup = [torch.zeros(5)]
    kept.add_([torch.ones(5)], 3, soup=soup)
    kept.add_([torch.full((5,), 2.0**-90)], 1)
    kept.subtract_([torch.ones(5)], 3, soup=soup)

    assert [2.0**-90] * 5 == soup[0].tolist()


def test_nan_and_overflow_name_the_tensor(way):
    good, bad = checkpoint(DType.F16, 0), checkpoint(DType.F16, 1)
    bad["weight"][30, 5] = float("inf")
    with pytest.raises(InputError, match=r"weight: .*ingredient 1, element 935"):
        resident.average_(good, [good, bad], [1, 1])
    large = {name: torch.full(shape, 9e4) for name, shape in SHAPES.items()}
    with pytest.raises(MismatchError, match=r"bias: .*element 0 is beyond the range of F8_E5M2"):
        resident.average_(checkpoint(DType.F8_E5M2, 0), [large, large], [3, -2])


@pytest.mark.parametrize(
    ("out", "part", "words"),
    [
        ([torch.zeros(2)], [torch.zeros(3)], "has shape"),
        ([torch.zeros(2)], [torch.zeros(2, dtype=torch.int32)], "only floats are averaged"),
        ([torch.zeros(2)], [], "differ in names or number"),
        ({"a": torch.zeros(2)}, {"b": torch.zeros(2)}, "differ in names or number"),
        ([torch.zeros(4, 2).T], [torch.zeros(2, 4)], "not contiguous"),
        ([torch.zeros(2)], [torch.zeros(2, device="meta")], "is on meta"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(out, part, words):
    with pytest.raises(MismatchError, match=words):
        resident.average_(out, [part], [1])


@pytest.mark.parametrize("weights", [[], [0], [1, -1], [2**62 + 1], [1, 2]])
def test_weights_without_a_mean_are_refused(weights):
    with pytest.raises(UsageError):
        resident.average_([torch.zeros(2)], [[torch.zeros(2)]], weights)


def test_parameters_are_changed_without_a_gradient_and_rows_may_have_gaps():
    layer = torch.nn.Linear(3, 3)
    other = torch.randn(3, 3)
    expected = ((layer.weight.double() + other.T.double()) / 2).float()
    version = layer.weight._version
    resident.average_([layer.weight], [[layer.weight], [other.T]], [1, 1])

    assert torch.equal(expected, layer.weight)
    assert version < layer.weight._version
    assert layer.weight.requires_grad


def test_the_figures_of_two_tensors_are_returned(way):
    figures = resident.compare(torch.tensor([3.0, 1, float("nan")]), torch.tensor([1.0, 1, 2]))

    assert resident.Figures(4, 4, 10, 2, 2, 1) == figures


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_function_gives_the_same_bits():
    """No break in the graph: the operators are registered, with what they change."""
    parts = [checkpoint(DType.BF16, seed) for seed in range(3)]
    rows = [list(part.values()) for part in parts]

    def step(soup, *others):
        resident.average_(soup, others, [2, 1, 1])
        resident.add_(soup, others[0], total=4)
        return [tensor.double() * 2 for tensor in soup], operators.figures(soup[2], others[1][2])

    outs = [list(checkpoint(DType.BF16, 9).values()) for _ in range(2)]
    plain = step(outs[0], *rows)
    compiled = torch.compile(step, backend="aot_eager", fullgraph=True)(outs[1], *rows)

    assert list(map(raw, outs[0])) == list(map(raw, outs[1]))
    assert all(map(torch.equal, plain[0], compiled[0]))
    assert torch.equal(plain[1], compiled[1])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_operators_keep_the_rules_of_the_library():
    tensors = [torch.randn(9) for _ in range(4)]
    torch.library.opcheck(operators.average_, (tensors[:1], tensors[1:3], [1, 2], 3))
    torch.library.opcheck(operators.figures, (tensors[0], tensors[1]))
    sums = [torch.zeros(1, 9, dtype=torch.float64)]
    torch.library.opcheck(operators.add_to_sums_, (sums, tensors[:1], 1, 1, tensors[1:2]))


def test_tables_for_a_whole_list_go_in_one_copy():
    """What is copied for each tensor apart would be waited for, and all that is queued with it."""
    places = [[2**62 + 1, 2, 3], [4, 5, 2**62 + 5]]
    tables = operators.upload_lists(places, [torch.device("cpu")] * 2, torch.int64)

    assert places == [table.tolist() for table in tables]
    assert 1 == len({table.untyped_storage().data_ptr() for table in tables})
    assert [0, 0] == [table.data_ptr() % 16 for table in tables]
    assert [] == operators.upload_lists([], [], torch.int64)


def test_runs_of_blocks_are_computed_together():
    numbers = random.Random(0)
    marked = [numbers.random() < 0.5 for _ in range(50)]
    runs = list(operators.runs_of(marked, 10, 495))
    elements = {element for start, stop in runs for element in range(start, stop)}

    assert {element for element in range(495) if marked[element // 10]} == elements
    assert len(runs) == sum(a and not b for a, b in zip(marked, [*marked[1:], False], strict=True))


def test_the_exact_way_is_the_engines_own():
    """A tie that the last bit of a far away term decides."""
    tie = float(np.float64(1) + np.finfo(np.float32).eps / 2)
    terms = [[torch.tensor([value], dtype=torch.float64)] for value in (tie, tie, 2.0**-1000, 0.0)]
    out = [torch.zeros(1)]
    resident.average_(out, terms, [1, 1, 1, -1])
    above = encode(1 + Fraction(1, 2**23), DType.F32)

    assert above.to_bytes(4, "little") == bytes(raw(out[0]))
