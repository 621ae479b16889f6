"""What a GPU must show: `python benchmarks/run.py gpu [--folder DIR] [-o RESULT.json]`.

Rule 1: nothing is measured before the bits are right: each case's result is compared, element by
element, with that of the engine for processors.
Rule 2: bandwidth is that of a launch alone: bytes read plus written over the median time, beside
that of a copy on the device measured in the same run; rivals are measured in turn with ours.
Rule 3: without a GPU nothing is measured, and nothing is written.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

import torch
from checkpoints import Ingredients
from machine import described_machine, described_versions

from soupctl.engines import operators, resident
from soupctl.engines.contract import WeightedMean
from soupctl.engines.cpu import CpuEngine
from soupctl.engines.grouping import grouped_mean, output_format
from soupctl.kernels.gpu.layout import SUM_BLOCK, UpdateConfig, blocks_in, weight_table
from soupctl.kernels.gpu.mean import launch_mean
from soupctl.kernels.gpu.update import launch_update

ELEMENTS = 1 << 28
"""Far more than any cache holds, and a multiple of every block."""
CHECKED = 1 << 22
RUNS = 21
COUNTS = (2, 4, 8)
DTYPES = (torch.float16, torch.bfloat16, torch.float32)
BANDWIDTH = 0.9
"""The least share of a copy's bandwidth that a kernel must reach."""
FILES = ("1mb", "16mb", "unet")
"""Shapes of the checkpoints that go from file to file."""

Work = Callable[[], object]


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0 after measuring, 1 without a GPU or with wrong bits."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, help="where the data goes (default: temporary)")
    parser.add_argument("-o", dest="output", type=Path, help="result file to write")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("refused, nothing is reported: no GPU was found", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="soupctl-benchmark-") as made:
        folder = options.folder or Path(made)
        try:
            cases, runs = list(kernels()), list(files(folder))
        except WrongBits as refusal:
            print(f"refused, nothing is reported: {refusal}", file=sys.stderr)
            return 1
        result = {
            "date": datetime.now(UTC).date().isoformat(),
            "machine": described_machine(folder) | {"gpu": torch.cuda.get_device_name()},
            "versions": described_versions(["soupctl"], sys.executable),
            "kernels": cases,
            "files": runs,
        }
    for line in lines_of(cases, runs):
        print(line)
    if options.output is not None:
        options.output.write_text(json.dumps(result, indent=2) + "\n")
    return 0


class WrongBits(Exception):
    """A result is not that of the engine for processors."""


def kernels() -> Iterator[dict[str, Any]]:
    """Every kernel beside a copy, and beside what else computes nearly the same."""
    for dtype in DTYPES:
        for count in COUNTS:
            rows = [torch.randn(ELEMENTS, device="cuda").mul_(0.02).to(dtype) for _ in range(count)]
            yield average_case(dtype, rows)
            torch.cuda.empty_cache()
        yield update_case(dtype, rows[:2])


def average_case(dtype: torch.dtype, rows: list[torch.Tensor]) -> dict[str, Any]:
    """The mean of all rows."""
    count, out = len(rows), torch.empty_like(rows[0])
    ones = [1] * count
    resident.average_([out], [[row] for row in rows], ones)
    require_bits(rows, ones, out)
    # beyond a certain number of variants, torch.compile falls back to eager mode
    torch.compiler.reset()
    compiled = torch.compile(plain_mean)
    works = {
        "kernel": mean_kernel(rows, out),
        "with doubts looked at": lambda: resident.average_([out], [[row] for row in rows], ones),
        "foreach": lambda: foreach_mean(rows),
        "compiled": lambda: compiled(rows),
        "plain": lambda: plain_mean(rows),
    }
    size = (count + 1) * ELEMENTS * dtype.itemsize
    return measured(f"average {count} {dtype}".replace("torch.", ""), size, works, rows[0], out)


def mean_kernel(rows: list[torch.Tensor], out: torch.Tensor) -> Work:
    """The launch of the mean alone, with everything that it reads on the device before."""
    dtype = operators.DTYPES[out.dtype]
    grouped = grouped_mean(WeightedMean((dtype,) * len(rows), (1,) * len(rows), dtype))
    addresses = torch.tensor([row.data_ptr() for row in rows], device="cuda")
    table = torch.tensor(grouped.table, dtype=torch.float64, device="cuda")
    doubts = torch.empty(blocks_in(ELEMENTS, grouped.config.block), dtype=torch.int8, device="cuda")
    target = operators.integers(out)
    return lambda: launch_mean(grouped.config, addresses, table, target, doubts, aligned=True)


def update_case(dtype: torch.dtype, rows: list[torch.Tensor]) -> dict[str, Any]:
    """A row added to a kept sum, and the soup rounded from it."""
    soup = torch.empty_like(rows[0])
    kept = resident.KeptSum([soup])
    kept.add_([rows[0]], soup=[soup])
    kept.add_([rows[1]], soup=[soup])
    require_bits(rows, [1, 1], soup)
    total = torch.zeros(ELEMENTS, dtype=torch.float64, device="cuda")

    def plain() -> torch.Tensor:
        total.add_(rows[1])
        return (total / 2).to(dtype)

    works = {
        "kernel": update_kernel(kept.planes[0], rows[1], soup),
        "with marks looked at": kept_update(kept, rows[1], soup),
        "plain": plain,
    }
    # the sum is read and written, the row read, the soup written
    size = ELEMENTS * (16 + 2 * dtype.itemsize)
    return measured(f"update {dtype}".replace("torch.", ""), size, works, rows[0], soup)


def update_kernel(planes: torch.Tensor, row: torch.Tensor, soup: torch.Tensor) -> Work:
    """The launch of an update alone, with everything that it reads on the device before.

    It adds and takes out in turn: what is only added is soon more than the sums hold.
    """
    dtype = operators.DTYPES[soup.dtype]
    config = UpdateConfig(dtype.value, len(planes), output_format(dtype), power=True)
    tables = cycle(
        torch.tensor(weight_table([weight], 2), dtype=torch.float64, device=row.device)
        for weight in (1, -1)
    )
    marks = torch.zeros(blocks_in(row.numel(), SUM_BLOCK), dtype=torch.int8, device=row.device)
    bits, target = operators.integers(row), operators.integers(soup)
    return lambda: launch_update(config, planes, bits, next(tables), target, marks)


def kept_update(kept: resident.KeptSum, row: torch.Tensor, soup: torch.Tensor) -> Work:
    """An update with all that belongs to it, in turn as above."""
    changes = cycle((kept.add_, kept.subtract_))
    return lambda: next(changes)([row], soup=[soup])


def foreach_mean(rows: list[torch.Tensor]) -> list[torch.Tensor]:
    """The mean in float32, as optimizers and averages over time compute it."""
    total = torch._foreach_add([rows[0].float()], [rows[1].float()])  # noqa: SLF001
    for row in rows[2:]:
        torch._foreach_add_(total, [row.float()])
    torch._foreach_div_(total, len(rows))
    return [each.to(rows[0].dtype) for each in total]


def plain_mean(rows: list[torch.Tensor]) -> torch.Tensor:
    """The mean in float32, row by row."""
    total = rows[0].float()
    for row in rows[1:]:
        total = total + row
    return (total / len(rows)).to(rows[0].dtype)


def require_bits(rows: list[torch.Tensor], weights: list[int], out: torch.Tensor) -> None:
    """Raise WrongBits unless the beginning of `out` is the exact mean."""
    dtype = operators.DTYPES[out.dtype]
    sources = [operators.bytes_of(operators.integers(row[:CHECKED])) for row in rows]
    room = bytearray(CHECKED * out.element_size())
    weighted_mean = WeightedMean((dtype,) * len(rows), tuple(weights), dtype)
    CpuEngine().prepare(weighted_mean, sources)(0, CHECKED, memoryview(room))
    if room != operators.bytes_of(operators.integers(out[:CHECKED])):
        raise WrongBits(f"{len(rows)} rows of {dtype.value}")


def measured(
    name: str, size: int, works: dict[str, Work], row: torch.Tensor, out: torch.Tensor
) -> dict[str, Any]:
    """Median seconds of each work and of a copy, in turn, and what they come to."""
    every = works | {"copy": lambda: out.copy_(row)}
    for work in every.values():
        work()
        work()
    seconds: dict[str, list[float]] = {each: [] for each in every}
    for _ in range(RUNS):
        for each, work in every.items():
            seconds[each].append(seconds_of(work))
    middle = {each: median(times) for each, times in seconds.items()}
    rate = size / middle["kernel"]
    copied = 2 * row.numel() * row.element_size() / middle["copy"]
    return {
        "name": name,
        "bytes": size,
        "seconds": seconds,
        "bytes_a_second": rate,
        "of_a_copy": rate / copied,
        "met": rate / copied >= BANDWIDTH,
        "rivals": {each: middle[each] / middle["kernel"] for each in works if each != "kernel"},
    }


def seconds_of(work: Work) -> float:
    """How long the device takes, as its own clock says."""
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    work()
    last.record()
    torch.cuda.synchronize()
    return first.elapsed_time(last) / 1e3


def files(folder: Path) -> Iterator[dict[str, Any]]:
    """Whole processes from file to file, on the processor and on the device, in turn."""
    for shapes in FILES:
        inputs = list(map(str, Ingredients(shapes, "F16", 2).write(folder)))
        seconds: dict[str, list[float]] = {"cpu": [], "cuda": []}
        made: dict[str, bytes] = {}
        for turn in range(6):
            for device, times in seconds.items():
                out = folder / f"gpu-{device}.safetensors"
                out.unlink(missing_ok=True)
                started = time.perf_counter()
                command = ["soupctl", "avg", *inputs, "-o", str(out), "--device", device, "-q"]
                subprocess.run(command, check=True)
                if turn:
                    times.append(time.perf_counter() - started)
                made[device] = out.read_bytes()
        if made["cpu"] != made["cuda"]:
            raise WrongBits(f"{shapes}, file to file")
        middle = {device: median(times) for device, times in seconds.items()}
        yield {
            "shapes": shapes,
            "seconds": seconds,
            "cuda_over_cpu": middle["cuda"] / middle["cpu"],
        }


def lines_of(cases: Sequence[dict[str, Any]], runs: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The result for people."""
    for case in cases:
        rivals = ", ".join(f"{name} {ratio:.2f} x" for name, ratio in case["rivals"].items())
        verdict = "met" if case["met"] else "MISSED"
        yield (
            f"{case['name']:24} {case['bytes_a_second'] / 1e9:7.0f} GB/s, "
            f"{case['of_a_copy']:.2f} of a copy (at least {BANDWIDTH}: {verdict}); {rivals}"
        )
    for run in runs:
        yield f"file to file, {run['shapes']:6} cuda / cpu {run['cuda_over_cpu']:.2f}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
