"""On a device, the bytes are those of the processor, in every size and with every pattern.

Rule 1: what is compared with is computed by the engine for processors, never by the device.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from soupctl.engines.contract import NonFinite, WeightedMean
from soupctl.engines.cpu import CpuEngine
from soupctl.errors import InputError, LimitError
from soupctl.format.dtypes import FLOATS, DType

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from soupctl.engines import operators, resident  # noqa: E402
from soupctl.engines.choice import open_engine  # noqa: E402
from soupctl.engines.devices import TorchDevice, open_devices  # noqa: E402
from soupctl.engines.triton import TritonEngine  # noqa: E402

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1800)]

GIGABYTE = 1 << 30
PIECE = 1 << 24
NAMES = {dtype: name for name, dtype in operators.DTYPES.items()}
FINITE = {
    # the highest bit of the exponent is cleared: any such pattern is finite
    dtype: ~(1 << (dtype.bits - 2)) & (2**dtype.bits - 1)
    for dtype in FLOATS
}


@pytest.fixture(scope="module")
def engine():
    return open_engine([0], 256 << 20)


def random_bits(dtype, count, seed):
    """Any finite pattern, as integers of the dtype's width."""
    words = np.random.default_rng(seed).bit_generator.random_raw(-(-count * dtype.bits // 64))
    integers = np.asarray(words).view(f"<u{dtype.bits // 8}")[:count]
    return integers & np.array(FINITE[dtype], integers.dtype)


def usual_bits(dtype, count, seed):
    """Values that weights have: N(0, 0.02)."""
    numbers = torch.Generator().manual_seed(seed)
    values = torch.empty(count).normal_(0, 0.02, generator=numbers).to(NAMES[dtype])
    return operators.integers(values).numpy()


def view(integers):
    return memoryview(np.ascontiguousarray(integers)).cast("B")


def combined(engine, mean, sources):
    count = len(sources[0]) * 8 // mean.dtypes[0].bits
    out = bytearray(count * mean.out.bits // 8)
    combine = engine.prepare(mean, sources)
    width = mean.out.bits // 8
    for start in range(0, count, PIECE):
        stop = min(start + PIECE, count)
        combine(start, stop, memoryview(out)[start * width : stop * width])
    return out


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("make", [usual_bits, random_bits])
@pytest.mark.parametrize("weights", [(1, 1), (700001, -3, 8)], ids=str)
def test_a_gigabyte_is_averaged_bit_for_bit(engine, dtype, make, weights):
    count = GIGABYTE // len(weights) // (dtype.bits // 8) + 13
    sources = [view(make(dtype, count, seed)) for seed in range(len(weights))]
    mean = WeightedMean((dtype,) * len(weights), weights, dtype)
    if make is random_bits:
        # sums of patterns near the largest may leave the range: a wider dtype holds them
        mean = WeightedMean((dtype,) * len(weights), weights, DType.F64)

    assert combined(CpuEngine(), mean, sources) == combined(engine, mean, sources)


@pytest.mark.parametrize("out", FLOATS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_every_dtype_becomes_every_other(engine, dtype, out):
    sources = [view(usual_bits(dtype, 3_000_001, seed)) for seed in range(3)]
    mean = WeightedMean((dtype,) * 3, (1, 1, 1), out)

    assert combined(CpuEngine(), mean, sources) == combined(engine, mean, sources)


@pytest.mark.parametrize("dtype", [DType.F16, DType.BF16])
@pytest.mark.parametrize("weights", [(1, 1), (3, -1), (5, 2)], ids=str)
def test_every_16_bit_pattern_meets_many_others(engine, dtype, weights):
    every = np.arange(2**16, dtype=np.uint16)
    first = np.tile(every, 97)
    second = np.concatenate([np.roll(every, 977 * turn) for turn in range(97)])
    mean = WeightedMean((dtype, dtype), weights, DType.F32, allow_nonfinite=True)

    assert combined(CpuEngine(), mean, [view(first), view(second)]) == combined(
        engine, mean, [view(first), view(second)]
    )


def test_mixtures_and_many_ingredients_are_averaged_bit_for_bit(engine):
    for dtypes, weights in ((tuple(FLOATS) * 2, range(1, 13)), ((DType.BF16,) * 64, (1,) * 64)):
        sources = [view(usual_bits(dtype, 1_000_003, i)) for i, dtype in enumerate(dtypes)]
        mean = WeightedMean(dtypes, tuple(weights), DType.BF16)
        assert combined(CpuEngine(), mean, sources) == combined(engine, mean, sources)


def test_the_lowest_failing_element_is_reported(engine):
    spoilt = usual_bits(DType.F16, 5_000_000, 0).copy()
    spoilt[[4_000_001, 4_500_000]] = 0x7E00
    good = view(usual_bits(DType.F16, 5_000_000, 1))
    mean = WeightedMean((DType.F16,) * 2, (1, 1), DType.F16)

    with pytest.raises(NonFinite, match="source 1, element 4000001"):
        combined(engine, mean, [good, view(spoilt)])


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there are fewer than two GPUs")
def test_two_gpus_share_the_work_bit_for_bit(engine):
    sources = [view(usual_bits(DType.F16, 40_000_003, seed)) for seed in range(3)]
    mean = WeightedMean((DType.F16,) * 3, (3, 1, 2), DType.F16)
    before = [torch.cuda.memory_allocated(gpu) for gpu in (0, 1)]
    both = open_engine([0, 1], 64 << 20)
    with ThreadPoolExecutor(4) as pool:
        made = [*pool.map(lambda _: combined(both, mean, sources), range(4))]

    assert [combined(CpuEngine(), mean, sources)] * 4 == made
    taken = [torch.cuda.memory_allocated(gpu) - was for gpu, was in enumerate(before)]
    assert all(0 < each <= 64 << 20 for each in taken)


def test_more_than_2_to_the_31_elements_are_addressed():
    count = 2**31 + 5003
    if torch.cuda.mem_get_info()[0] < 4 * count:
        pytest.skip("the device has less than 8 GiB free")
    rows = [torch.full((count,), 0x38, dtype=torch.uint8, device="cuda") for _ in range(2)]
    # 1.0 everywhere, 2.0 at both ends of one row
    for place in (0, 1, 2**31 - 1, 2**31, count - 1):
        rows[0][place] = 0x40
    tensors = [row.view(torch.float8_e4m3fn) for row in rows]
    resident.average_([tensors[1]], [[tensor] for tensor in tensors], [1, 1])

    changed = [int(rows[1][place]) for place in (0, 1, 2**31 - 1, 2**31, count - 1)]
    assert [0x3C] * 5 == changed
    assert 5 == int((rows[1] != 0x38).sum())


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("start", [0, 1, 3])
def test_tensors_on_the_device_are_averaged_wherever_they_begin(dtype, start):
    sources = [usual_bits(dtype, 1_000_013, seed) for seed in range(3)]
    tensors = [torch.from_numpy(each).cuda().view(NAMES[dtype])[start:] for each in sources]
    out = torch.empty(1_000_013 + 1, dtype=NAMES[dtype], device="cuda")[1 : 1_000_014 - start]
    resident.average_([out], [[tensor] for tensor in tensors], [1, 1, 1])
    mean = WeightedMean((dtype,) * 3, (1, 1, 1), dtype)

    assert combined(CpuEngine(), mean, [view(each[start:]) for each in sources]) == bytes(
        operators.bytes_of(operators.integers(out))
    )


@pytest.mark.parametrize("dtype", [DType.F16, DType.BF16, DType.F32])
@pytest.mark.parametrize("planes", [1, 2])
def test_kept_sums_give_the_soup_of_the_remaining_ingredients(dtype, planes):
    sources = [usual_bits(dtype, 2_000_011, seed) for seed in range(4)]
    parts = [[torch.from_numpy(each).cuda().view(NAMES[dtype])] for each in sources]
    soup = [torch.empty_like(parts[0][0])]
    kept = resident.KeptSum(soup, planes)
    for part in parts:
        kept.add_(part, soup=soup)
    before = [plane.clone() for plane in kept.planes]
    kept.subtract_(parts[2], soup=soup)
    mean = WeightedMean((dtype,) * 3, (1, 1, 1), dtype)
    remaining = [view(sources[index]) for index in (0, 1, 3)]

    assert combined(CpuEngine(), mean, remaining) == bytes(
        operators.bytes_of(operators.integers(soup[0]))
    )
    kept.add_(parts[2])
    assert all(torch.equal(*pair) for pair in zip(before, kept.planes, strict=True))


def test_a_refused_addition_changes_nothing_on_the_device():
    soup = [torch.zeros(5000, dtype=torch.float16, device="cuda")]
    kept = resident.KeptSum(soup)
    kept.add_([torch.linspace(-1, 1, 5000, device="cuda")], soup=soup)
    before = soup[0].clone(), kept.planes[0].clone()
    part = torch.ones(5000, device="cuda")
    part[4321] = float("nan")

    with pytest.raises(InputError, match="element 4321"):
        kept.add_([part], soup=soup)
    assert torch.equal(before[0], soup[0])
    assert torch.equal(before[1], kept.planes[0])


@pytest.mark.parametrize("dtype", FLOATS)
def test_figures_are_within_the_bound_of_their_sums(dtype):
    count = 3_000_001
    pair = [torch.from_numpy(usual_bits(dtype, count, seed)).view(NAMES[dtype]) for seed in (0, 1)]
    here = resident.compare(*pair)
    there = resident.compare(*(tensor.cuda() for tensor in pair))
    magnitude = (pair[0].double() * pair[1].double()).abs().sum().item()
    # both are off by at most the bound, the square and the difference taking a rounding each
    bound = 2 * (count + 3) * 2.0**-53

    assert (here.largest_difference, here.nonfinite) == (there.largest_difference, 0)
    assert abs(here.distance_squared - there.distance_squared) <= bound * here.distance_squared
    assert abs(here.one_squared - there.one_squared) <= bound * here.one_squared
    assert abs(here.dot - there.dot) <= bound * magnitude


# what compilers warn of is no concern of ours
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_function_gives_the_same_bits():
    def step(soup, *others):
        resident.average_(soup, others, [2, 1])
        return soup[0].double() * 2

    rows = [[torch.randn(100_001, device="cuda").bfloat16()] for _ in range(2)]
    outs = [[torch.empty_like(rows[0][0])] for _ in range(2)]

    assert torch.equal(step(outs[0], *rows), torch.compile(step, fullgraph=True)(outs[1], *rows))
    assert torch.equal(outs[0][0], outs[1][0])


def test_a_full_device_is_given_less_and_then_refused():
    sources = [view(usual_bits(DType.F16, 100_000, seed)) for seed in range(2)]
    mean = WeightedMean((DType.F16,) * 2, (1, 1), DType.F16)
    # what is cached would be given out before anything is refused
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    hog = torch.empty(free - 200 * 2**20, dtype=torch.uint8, device="cuda")
    small = TritonEngine([TorchDevice("cuda")], budget=4 << 30)

    assert combined(CpuEngine(), mean, sources) == combined(small, mean, sources)
    del hog


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(LimitError, match="there is no GPU 99"):
        open_devices([0, 99])
