"""Random updates made of factors, as the engine takes them and as fractions."""

from fractions import Fraction

from soupctl.engines.placed_updates import PlacedUpdate
from soupctl.engines.reference import decode, encode
from soupctl.engines.update_mean import widened
from soupctl.engines.updates import Core, Hadamard, Kronecker, Matrix, Product
from soupctl.format.dtypes import DType

STORED = [DType.F32, DType.F16, DType.BF16, DType.F8_E4M3, DType.F8_E5M2]


def drawn(random, dtype, count, *, wild):
    """Bytes of finite elements, and their values: any bit patterns, or small tame numbers."""
    width = dtype.bits // 8
    codes = []
    while len(codes) < count:
        if wild:
            code = random.getrandbits(dtype.bits)
            if random.random() < 0.2:
                code = random.choice([0, 1, 1 << (dtype.bits - 1)])
        else:
            value = Fraction(random.randint(-64, 64), random.choice([16, 32, 4096]))
            code = encode(value, dtype)
        if isinstance(decode(code, dtype), Fraction):
            codes.append(code)
    raw = b"".join(code.to_bytes(width, "little") for code in codes)
    return raw, [decode(code, dtype) for code in codes]


class RandomFactor:
    """A factor as the engine takes it, and as fractions [rows][columns]."""

    def __init__(self, random, shape, *, wild, dtype=None):
        dtype = dtype or random.choice(STORED)
        raw, values = drawn(random, dtype, shape[0] * shape[1], wild=wild)
        self.array = widened(memoryview(raw), dtype).reshape(shape)
        self.exact = [values[n * shape[1] : (n + 1) * shape[1]] for n in range(shape[0])]


def times(one, other):
    """The matrix product of fractions."""
    return [
        [
            sum((a * b for a, b in zip(row, column, strict=True)), Fraction(0))
            for column in zip(*other, strict=True)
        ]
        for row in one
    ]


def tree(random, kind, rows, columns, *, wild):
    """An update of some kind, and its exact elements."""
    rank = random.randint(1, 3)

    def draw(*shape):
        return RandomFactor(random, shape, wild=wild)

    if kind == "lora":
        up, down = draw(rows, rank), draw(rank, columns)
        return Product(Matrix(up.array), Matrix(down.array)), times(up.exact, down.exact)
    if kind == "full":
        whole = draw(rows, columns)
        return Matrix(whole.array), whole.exact
    if kind == "tucker":
        up, down, places = draw(rows, rank), draw(rank, columns // 2), 2
        mid = draw(rank, rank * places)
        core = mid.array.reshape(rank, rank, places)
        inner = [
            [
                sum(
                    (mid.exact[a][b * places + p] * down.exact[b][i] for b in range(rank)),
                    Fraction(0),
                )
                for i in range(columns // 2)
                for p in range(places)
            ]
            for a in range(rank)
        ]
        return Product(Matrix(up.array), Core(core, down.array)), times(up.exact, inner)
    if kind == "loha":
        (one, first), (two, second) = (
            tree(random, inner, rows, columns, wild=wild) for inner in ("lora", "tucker")
        )
        both = [
            [a * b for a, b in zip(*pair, strict=True)] for pair in zip(first, second, strict=True)
        ]
        return Hadamard(one, two), both
    outer, first = tree(random, "lora", rows // 2, 2, wild=wild)
    inner, second = tree(random, random.choice(["full", "tucker"]), 2, columns // 2, wild=wild)
    exact = [
        [
            first[r // 2][c // (columns // 2)] * second[r % 2][c % (columns // 2)]
            for c in range(columns)
        ]
        for r in range(rows)
    ]
    return Kronecker(outer, inner), exact


def placed_trees(random, columns):
    """A LoRA, a LoHa and a LoKr of four rows, in part and at random rows of six.

    With each comes what it adds: its exact rows, its weight, and the first row that it is added to.
    """
    placed, updates = [], []
    for kind in ("lora", "loha", "lokr"):
        update, exact = tree(random, kind, 4, columns, wild=False)
        first = random.randint(0, 2)
        count, target = 4 - first - random.randint(0, 1), random.randint(0, 2)
        weight = random.choice([12, -5])
        placed.append(PlacedUpdate(update, weight, first, count, target))
        updates.append((exact[first : first + count], weight, target))
    return placed, updates
