"""In-place operators over lists of PyTorch tensors: means, sums, statistics.

Rule 1: tensors on a device use the kernels, tensors on the processor the reference; blocks left in
doubt are computed by the CPU engine, so the bits are the contract's everywhere.
Rule 2: the whole list is launched before waiting, and waiting happens once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import torch
from torch import Tensor

from ..errors import InputError, LimitError, MismatchError, SoupError
from ..format.dtypes import DType
from ..kernels.gpu import reference
from ..kernels.gpu.layout import (
    ALIGNMENT,
    DIVISOR_LENGTH,
    INTEGERS,
    LOST,
    SUM_BLOCK,
    UNROUNDED,
    UpdateConfig,
    blocks_in,
    weight_table,
)
from .contract import NonFinite, OutOfRange, WeightedMean
from .cpu import CpuEngine
from .grouping import GroupedMean, grouped_mean, output_format
from .splitting import NARROW_DIVISOR, split_weight

DTYPES = {
    torch.float64: DType.F64,
    torch.float32: DType.F32,
    torch.float16: DType.F16,
    torch.bfloat16: DType.BF16,
    torch.float8_e5m2: DType.F8_E5M2,
    torch.float8_e4m3fn: DType.F8_E4M3,
}


@torch.library.custom_op("soupctl::average_", mutates_args=("outs",))
def average_(
    outs: Sequence[Tensor], rows: Sequence[Tensor], weights: Sequence[int], divisor: int
) -> None:
    """Put means over rows[k], rows[k + len(outs)], ... into outs[k], rounded to its dtype.

    Raises InputError and MismatchError, which name a tensor by its position.
    """
    means = []
    for position, out in enumerate(outs):
        sources = [row.contiguous() for row in rows[position :: len(outs)]]
        means.append((mean_of(sources, weights, out, divisor), sources, out))
    doubted = queue_means(means)
    doubtful = any_of(doubted)
    for position, ((mean, sources, out), doubts) in enumerate(zip(means, doubted, strict=True)):
        if doubtful[position]:
            block = grouped_mean(mean).config.block
            compute_exactly(position, mean, sources, out, doubts != 0, block)


@torch.library.custom_op("soupctl::add_to_sums_", mutates_args=("sums", "soups"))
def add_to_sums_(
    sums: Sequence[Tensor],
    rows: Sequence[Tensor],
    weight: int,
    divisor: int,
    soups: Sequence[Tensor],
) -> None:
    """Add weighted rows to sums (float64 [planes, size]), and round the sums into `soups`, if any.

    Raises InputError, MismatchError and LimitError, the tensor in them being its position. The sums
    are then what they were, and so are the soups if they were the means of `divisor - weight`.
    """
    targets = list(soups) or [None] * len(sums)
    marks = [
        torch.zeros(blocks_in(row.numel(), SUM_BLOCK), dtype=torch.int8, device=row.device)
        for row in rows
    ]
    everything = list(zip(sums, [row.contiguous() for row in rows], targets, marks, strict=True))
    queue_updates(everything, weight, divisor)
    try:
        finish_updates(everything, divisor)
    except SoupError:
        before = divisor - weight
        undone = [(*each, soup if before > 0 else None, mark) for *each, soup, mark in everything]
        queue_updates(undone, -weight, before)
        for *_, mark in undone:
            mark.bitwise_and_(UNROUNDED)
        finish_updates(undone, before)
        raise


Update = tuple[Tensor, Tensor, Tensor | None, Tensor]
"""The planes, the added row, the rounded soup, and the marks of doubtful blocks."""


def finish_updates(everything: Sequence[Update], divisor: int) -> None:
    """Raise the errors of an addition, and compute the means that are not proved."""
    marked = any_of([marks for *_, marks in everything])
    for position, (planes, row, soup, marks) in enumerate(everything):
        if not marked[position]:
            continue
        lost = (marks & LOST != 0).nonzero()
        if len(lost):
            raise lost_term(position, row, int(lost[0]) * SUM_BLOCK, len(planes))
        assert soup is not None
        mean = mean_of(list(planes), (1,) * len(planes), soup, divisor)
        compute_exactly(position, mean, list(planes), soup, marks != 0, SUM_BLOCK)


def lost_term(position: int, row: Tensor, start: int, planes: int) -> SoupError:
    """The reason why the block from `start` on could not be added."""
    odd = (~row.reshape(-1)[start : start + SUM_BLOCK].double().isfinite()).nonzero()
    if len(odd):
        what = f"holds NaN or infinity (element {start + int(odd[0])})"
        return InputError(what, tensor=str(position))
    what = f"a new sum cannot be held exactly (from element {start} on)"
    advice = "keep two planes" if planes == 1 else "average the ingredients"
    return LimitError(what, tensor=str(position), advice=advice)


@torch.library.custom_op("soupctl::figures", mutates_args=())
def figures(one: Tensor, other: Tensor) -> Tensor:
    """The FIGURES of two tensors of one size, float64 [6]."""
    pair = one.contiguous(), other.contiguous()
    formats = DTYPES[one.dtype].value, DTYPES[other.dtype].value
    if not uses_kernels(one.device):
        return reference.statistics(formats, *map(integers, pair))
    from ..kernels.gpu.statistics import launch_statistics  # noqa: PLC0415

    with on(one.device):
        return launch_statistics(formats, *map(integers, pair))


@figures.register_fake
def _(one: Tensor, _other: Tensor) -> Tensor:
    return one.new_empty(reference.FIGURES, dtype=torch.float64)


def uses_kernels(device: torch.device) -> bool:
    """Whether kernels process tensors on that device."""
    return device.type != "cpu"


def on(device: torch.device) -> torch.cuda.device:
    """The context in which kernels are launched on a device."""
    return torch.cuda.device(device if device.type == "cuda" else -1)


def integers(tensor: Tensor) -> Tensor:
    """The elements as the integers of their bits, [size], in the same memory."""
    flat = tensor.detach().reshape(-1)
    return flat.view(INTEGERS[8 * flat.element_size()])


def mean_of(
    sources: Sequence[Tensor], weights: Sequence[int], out: Tensor, divisor: int
) -> WeightedMean:
    """The same mean as the engines describe it."""
    dtypes = tuple(DTYPES[source.dtype] for source in sources)
    return WeightedMean(dtypes, tuple(weights), DTYPES[out.dtype], divisor=divisor)


def upload_lists(
    lists: Sequence[Sequence[float]], devices: Sequence[torch.device], dtype: torch.dtype
) -> list[Tensor]:
    """The lists, each on its device; uploaded by one copy, without waiting for queued work."""
    if not lists:
        return []
    width, pins = max(map(len, lists)), any(device.type == "cuda" for device in devices)
    # each starts at an aligned offset, because kernels are compiled separately for unaligned
    # addresses
    width += width % 2
    table = torch.zeros(len(lists), width, dtype=dtype, pin_memory=pins)
    table.copy_(torch.tensor([[*row, *[0] * (width - len(row))] for row in lists], dtype=dtype))
    copies = {device: table.to(device, non_blocking=True) for device in set(devices)}
    return [copies[device][row, : len(lists[row])] for row, device in enumerate(devices)]


Mean = tuple[WeightedMean, Sequence[Tensor], Tensor]
"""A mean, its sources, and the tensor that receives it."""


def queue_means(means: Sequence[Mean]) -> list[Tensor]:
    """Queue each of the means; returns their doubts."""
    all_grouped = [grouped_mean(mean) for mean, _, _ in means]
    rows = [
        [integers(sources[grouped.order[row]]) for row in grouped.rows]
        for grouped, (_, sources, _) in zip(all_grouped, means, strict=True)
    ]
    devices = [out.device for _, _, out in means]
    places = [[row.data_ptr() for row in each] for each in rows]
    addresses = upload_lists(places, devices, torch.int64)
    tables = upload_lists([grouped.table for grouped in all_grouped], devices, torch.float64)
    return [
        queue_mean(*each)
        for each in zip(
            all_grouped, rows, addresses, tables, [out for *_, out in means], strict=True
        )
    ]


def queue_mean(
    grouped: GroupedMean, rows: Sequence[Tensor], addresses: Tensor, table: Tensor, out: Tensor
) -> Tensor:
    """Queue a mean into `out`; returns its doubts."""
    target = integers(out)
    blocks = blocks_in(target.numel(), grouped.config.block)
    doubts = torch.zeros(blocks, dtype=torch.int8, device=out.device)
    if not uses_kernels(out.device):
        reference.mean(grouped.config, rows, grouped.table, target, doubts)
        return doubts
    from ..kernels.gpu.mean import launch_mean  # noqa: PLC0415

    sums = None
    if not grouped.config.fused:
        sums = torch.empty(3, target.numel(), dtype=torch.float64, device=out.device)
    aligned = all(row.data_ptr() % ALIGNMENT == 0 for row in rows)
    with on(out.device):
        launch_mean(grouped.config, addresses, table, target, doubts, sums, aligned)
    return doubts


def queue_updates(everything: Sequence[Update], weight: int, divisor: int) -> None:
    """Queue additions to kept sums and their rounding; see `kernels.gpu.update`."""
    # no division where no mean is rounded
    numbers = [
        weight_table(split_weight(weight, DTYPES[row.dtype]), 1 if soup is None else divisor)
        for _, row, soup, _ in everything
    ]
    tables = upload_lists(numbers, [row.device for _, row, _, _ in everything], torch.float64)
    for (planes, row, soup, marks), mine, table in zip(everything, numbers, tables, strict=True):
        out = None if soup is None else output_format(DTYPES[soup.dtype])
        power, wide = divisor & (divisor - 1) == 0, divisor > NARROW_DIVISOR
        dtype, count = DTYPES[row.dtype].value, len(mine) - DIVISOR_LENGTH
        config = UpdateConfig(dtype, len(planes), out, power, wide, count)
        target = None if soup is None else integers(soup)
        if not uses_kernels(row.device):
            reference.update(config, planes, integers(row), mine, target, marks)
            continue
        from ..kernels.gpu.update import launch_update  # noqa: PLC0415

        with on(row.device):
            launch_update(config, planes, integers(row), table, target, marks)


def compute_exactly(
    position: int,
    mean: WeightedMean,
    sources: Sequence[Tensor],
    out: Tensor,
    blocks: Tensor,
    block: int,
) -> None:
    """Compute the mean of the marked blocks on the processor, into `out`."""
    target = integers(out)
    for start, stop in runs_of(blocks.tolist(), block, target.numel()):
        parts = [bytes_of(integers(source)[start:stop]) for source in sources]
        made = torch.empty(stop - start, dtype=target.dtype)
        try:
            CpuEngine().prepare(mean, parts)(0, stop - start, bytes_of(made))
        except NonFinite as found:
            where = f"ingredient {found.source}, element {start + found.element}"
            raise InputError(f"holds NaN or infinity ({where})", tensor=str(position)) from None
        except OutOfRange as found:
            what = f"the mean of element {start + found.element} is beyond the range of"
            raise MismatchError(f"{what} {mean.out.value}", tensor=str(position)) from None
        target[start:stop] = made.to(target.device)


def bytes_of(integers: Tensor) -> memoryview:
    """The bytes of a tensor, in the processor's memory."""
    return memoryview(integers.cpu().numpy()).cast("B")


def runs_of(marked: Sequence[bool], block: int, size: int) -> Iterator[tuple[int, int]]:
    """Start and stop of each run of marked blocks, in elements."""
    for is_marked, run in groupby(range(len(marked)), key=marked.__getitem__):
        places = list(run)
        if is_marked:
            yield places[0] * block, min((places[-1] + 1) * block, size)


def any_of(marks: Sequence[Tensor]) -> list[bool]:
    """Which of the tensors have a nonzero element."""
    if not marks:
        return []
    found: list[bool] = torch.stack([mark.any() for mark in marks]).tolist()
    return found
