"""What linear commands write is what fractions give, on floats at every edge of their dtypes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import product
from math import prod
from pathlib import Path

import pytest
from deltas import apply, floats, numbers, rounded, save_one
from exact_means import combined, mean_bytes
from making import contents, save_raw

from soupctl import verbs
from soupctl.engines.reference import largest_code
from soupctl.errors import MismatchError
from soupctl.format.dtypes import FLOATS, DType
from soupctl.verbs import DeltaRequest, EmaRequest, ExecutionOptions, Request, Sweep, parse_range

MIXES = list(product(FLOATS, FLOATS))
SIZE = 96


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def edges(dtype: DType) -> list[bytes]:
    """Both zeros, subnormals, what surrounds the smallest normal and 1, and the largest floats."""
    form, top = dtype.float_format, 2 ** (dtype.bits - 1)
    unit, largest = 2 ** (form.precision - 1), largest_code(form)
    one = largest // unit // 2 * unit
    codes = (0, 1, 2, unit - 1, unit, unit + 1, one - 1, one, one + 1, largest - 1, largest)
    signed = (code + sign for sign in (0, top) for code in codes)
    return [code.to_bytes(dtype.bits // 8, "little") for code in signed]


def scaled_down(dtype: DType, data: bytes, divisor: int) -> bytes:
    """The floats divided by a number, rounded where they are not exact."""
    found = rounded([value / divisor for value in numbers(dtype, data)], dtype)
    assert found is not None
    return found


def pair_of(fine: DType, base: DType) -> dict[str, tuple[bytes, bytes]]:
    """Tensors of FINE and BASE: every edge against every edge, any floats, and few changes."""
    pairs = list(product(edges(fine), edges(base)))
    drawn = (
        scaled_down(fine, floats(fine, SIZE, "f"), 4),
        scaled_down(base, floats(base, SIZE, "b"), 4),
    )
    # what both dtypes hold, but for a few elements
    both = [Fraction(n, 4) for n in range(-8, 8)] * 8
    same = rounded(both, base)
    few = rounded([*both[:5], Fraction(5, 4), *both[6:]], fine)
    assert same is not None
    assert few is not None
    return {
        "edges": (b"".join(f for f, _ in pairs), b"".join(b for _, b in pairs)),
        "drawn": drawn,
        "few": (few, same),
    }


def as_tensors(data: Mapping[str, bytes], dtype: DType) -> dict[str, tuple[str, tuple[int], bytes]]:
    return {n: (dtype.value, (len(each) * 8 // dtype.bits,), each) for n, each in data.items()}


def planes_of(path: str, name: str, count: int) -> list[tuple[int, list[Fraction]]]:
    """The planes that a delta stores for a tensor: their size in bits, and their values."""
    stored, found = contents(Path(path)), []
    for plane in "01":
        if (dense := stored.get(f"{plane}:{name}")) is not None:
            dtype = DType(dense[0])
            found.append((dtype.bits * count, numbers(dtype, dense[2])))
        elif (sparse := stored.get(f"{plane}v:{name}")) is not None:
            dtype, values = DType(sparse[0]), [Fraction(0)] * count
            places = positions(stored[f"{plane}i:{name}"][2])
            for place, value in zip(places, numbers(dtype, sparse[2]), strict=True):
                values[place] = value
            found.append(((dtype.bits + 32) * len(places), values))
    return found


def positions(data: bytes) -> list[int]:
    return [int.from_bytes(data[n : n + 4], "little") for n in range(0, len(data), 4)]


@pytest.mark.parametrize(
    ("fine", "base", "chunk"),
    [*((*mix, None) for mix in MIXES), *((dtype, dtype, 7) for dtype in FLOATS)],
    ids=lambda each: getattr(each, "value", each),
)
def test_the_planes_of_a_delta_add_up_to_the_exact_difference_in_no_wider_form(fine, base, chunk):
    data = pair_of(fine, base)
    save_raw(Path("fine.st"), as_tensors({n: each[0] for n, each in data.items()}, fine))
    save_raw(Path("base.st"), as_tensors({n: each[1] for n, each in data.items()}, base))

    request = DeltaRequest("fine.st", "base.st", "d.st")
    verbs.make_delta(request, execution=ExecutionOptions(1, chunk))

    for name, (of_fine, of_base) in data.items():
        exact = combined([(1, numbers(fine, of_fine)), (-1, numbers(base, of_base))])
        planes = planes_of("d.st", name, len(exact))
        assert exact == combined([(1, values) for _, values in planes]), name
        holders = [dtype.bits for dtype in FLOATS if holds(dtype, exact)]
        if holders:
            assert sum(size for size, _ in planes) <= min(holders) * len(exact), name
        assert negative_zeros(fine, of_fine) == positions(
            contents(Path("d.st")).get(f"s:{name}", ("", (), b""))[2]
        ), name


def holds(dtype: DType, values: Sequence[Fraction]) -> bool:
    """Whether every value is a float of the dtype."""
    data = rounded(values, dtype)
    return data is not None and numbers(dtype, data) == list(values)


def negative_zeros(dtype: DType, data: bytes) -> list[int]:
    width = dtype.bits // 8
    negative = (1 << (dtype.bits - 1)).to_bytes(width, "little")
    return [n for n in range(len(data) // width) if data[n * width : (n + 1) * width] == negative]


SWEPT = [(one, other) for one, other in MIXES if one.value <= other.value]


@pytest.mark.parametrize("divisor", [1, 4])
@pytest.mark.parametrize(("one", "other"), SWEPT, ids=lambda dtype: dtype.value)
def test_every_soup_of_a_sweep_is_the_exact_mean_or_none_is_made(one, other, divisor):
    data = {
        name: (dtype, scaled_down(dtype, floats(dtype, SIZE, name), divisor))
        for name, dtype in (("x", one), ("y", other))
    }
    for name, (dtype, each) in data.items():
        save_one(f"{name}.st", dtype, each)
    shares = [Fraction(n, 3) for n in range(-1, 5)]
    expected = {}
    for share in shares:
        weights = {"x": 1 - share, "y": share}
        expected[share] = mean_bytes([(w, *data[name]) for name, w in weights.items() if w])
    sweep = Sweep(Request(["x.st", "y.st"], "mix-{t}.st"), parse_range("-1/3:4/3:1/3"))

    if None in expected.values():
        with pytest.raises(MismatchError, match="beyond the range"):
            verbs.sweep(sweep)
        assert ["x.st", "y.st"] == sorted(path.name for path in Path().iterdir())
        return
    verbs.sweep(sweep)

    for share, (dtype, values) in expected.items():
        text = f"{share.numerator}-{share.denominator}" if share.denominator > 1 else str(share)
        assert (dtype, (SIZE,), values) == contents(Path(f"mix-{text}.st"))["w"], share


@pytest.mark.parametrize(
    "options",
    [
        {"decay": Fraction(2, 3)},
        {"sigma_rel": 0.2},
        {"sigma_rel": 0.15, "steps": (9, 9, 40, 40), "stored_sigma_rel": (0.05, 0.2) * 2},
    ],
    ids=["a decay", "a profile of snapshots", "a profile of stored averages"],
)
@pytest.mark.parametrize("dtypes", [(DType.F16,), (DType.F32, DType.BF16), (DType.F64,)], ids=str)
def test_an_average_over_time_is_the_exact_mean_with_its_coefficients(options, dtypes):
    data = {}
    for number in range(4):
        dtype = dtypes[number % len(dtypes)]
        data[f"{number}.st"] = dtype, scaled_down(dtype, floats(dtype, SIZE, number), 8)
        save_one(f"{number}.st", *data[f"{number}.st"])

    asked = EmaRequest(list(data), "out.st", **options)
    coefficients = {
        each.path: each.weight for each in verbs.time_average(asked).request.ingredients
    }
    verbs.ema(asked)

    if "decay" in options:
        # 2/3 of what there was and 1/3 of each new one
        assert [Fraction(n, 27) for n in (8, 4, 6, 9)] == list(coefficients.values())
    found = mean_bytes([(weight, *data[str(path)]) for path, weight in coefficients.items()])
    assert found is not None
    assert (found[0], (SIZE,), found[1]) == contents(Path("out.st"))["w"]


ROWS, CHANNELS, PLACES, RANK = 4, 2, 3, 2
ALPHA = Fraction(3, 4)


class Factors:
    """Factors at the edges of a dtype, drawn one by one, and as they are stored."""

    def __init__(self, dtype: DType) -> None:
        self.dtype = dtype
        self.stored: dict[str, tuple[str, tuple[int, ...], bytes]] = {}

    def draw(self, name: str, *shape: int) -> list[list[Fraction]]:
        """The values of a new factor, by its first dimension."""
        count = prod(shape)
        data = floats(self.dtype, count, name)
        self.stored[f"m.{name}"] = (self.dtype.value, shape, data)
        flat, width = numbers(self.dtype, data), count // shape[0]
        return [flat[n * width : (n + 1) * width] for n in range(shape[0])]


Rows = list[list[Fraction]]


def times(one: Rows, other: Rows) -> Rows:
    """The matrix product."""
    return [combined(list(zip(row, other, strict=True))) for row in one]


def through_core(one: Rows, core: Rows, other: Rows) -> Rows:
    """The product of two factors with a core [left rank, right rank, places] between them."""
    ranks, places = len(other), len(core[0]) // len(other)
    inner = [
        [
            sum((row[b * places + p] * other[b][i] for b in range(ranks)), Fraction(0))
            for i in range(len(other[0]))
            for p in range(places)
        ]
        for row in core
    ]
    return times(one, inner)


def kronecker(one: Rows, other: Rows) -> Rows:
    return [[a * b for a in first for b in second] for first in one for second in other]


def locon(of: Factors) -> Rows:
    up = of.draw("lora_up.weight", ROWS, RANK, 1, 1)
    return times(up, of.draw("lora_down.weight", RANK, CHANNELS, 1, PLACES))


def locon_with_core(of: Factors) -> Rows:
    up = of.draw("lora_up.weight", ROWS, RANK, 1, 1)
    mid = of.draw("lora_mid.weight", RANK, RANK, 1, PLACES)
    return through_core(up, mid, of.draw("lora_down.weight", RANK, CHANNELS, 1, 1))


def loha(of: Factors) -> Rows:
    one, other = (
        times(of.draw(f"hada_w{n}_a", ROWS, RANK), of.draw(f"hada_w{n}_b", RANK, CHANNELS * PLACES))
        for n in (1, 2)
    )
    return [[a * b for a, b in zip(*rows, strict=True)] for rows in zip(one, other, strict=True)]


def lokr(of: Factors) -> Rows:
    return kronecker(of.draw("lokr_w1", 2, 1), of.draw("lokr_w2", 2, CHANNELS, 1, PLACES))


def lokr_of_products(of: Factors) -> Rows:
    one = times(of.draw("lokr_w1_a", 2, RANK), of.draw("lokr_w1_b", RANK, 1))
    left = of.draw("lokr_w2_a", RANK, 2)
    core = of.draw("lokr_t2", RANK, RANK, 1, PLACES)
    left = [list(column) for column in zip(*left, strict=True)]
    return kronecker(one, through_core(left, core, of.draw("lokr_w2_b", RANK, CHANNELS)))


@pytest.mark.parametrize("family", [locon, locon_with_core, loha, lokr, lokr_of_products])
@pytest.mark.parametrize(
    ("base", "factors", "scale"),
    [
        (DType.F64, DType.F32, Fraction(7, 10)),
        (DType.F32, DType.F16, Fraction(-1, 3)),
        (DType.BF16, DType.F8_E5M2, Fraction(1)),
        (DType.F16, DType.F8_E4M3, Fraction(1, 2**22)),
    ],
    ids=lambda each: getattr(each, "value", str(each)),
)
def test_an_adapter_of_any_family_adds_its_exact_update(family, base, factors, scale):
    of = Factors(factors)
    update = [value for row in family(of) for value in row]
    # without a rank, alpha does not count
    divided = Fraction(1) if family is lokr else ALPHA / RANK
    alpha = rounded([ALPHA], factors)
    assert alpha is not None
    save_raw(Path("l.st"), {**of.stored, "m.alpha": (factors.value, (), alpha)})
    own = scaled_down(base, floats(base, len(update), "own"), 2)
    shape = (ROWS, CHANNELS, 1, PLACES)
    save_raw(Path("b.st"), {"m.weight": (base.value, shape, own)})

    apply("b.st", ("l.st", scale))

    expected = rounded(combined([(1, numbers(base, own)), (scale * divided, update)]), base)
    assert expected is not None
    assert (base.value, shape, expected) == contents(Path("out.st"))["m.weight"]
