"""Compile what the launchers launch, for devices that need not be there, and say what came of it.

Rule 1: it runs in a process of its own, in which kernels are not interpreted.
Rule 2: a kernel is compiled as it is launched, from the arguments themselves; it is only not run.

`python compiling.py TARGET` prints a JSON list with one object a kernel.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from soupctl.engines.contract import WeightedMean
from soupctl.engines.grouping import grouped_mean, output_format
from soupctl.format.dtypes import FLOATS, DType
from soupctl.kernels.gpu import layout, mean, statistics, update

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


class AbsentDevice:
    """A driver of a device that only has a name."""

    def __init__(self, target: GPUTarget) -> None:
        self.target = target

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


class Compiled:
    """Everything that was launched, compiled and not run."""

    def __init__(self) -> None:
        self.kernels: list[tuple[str, str, object]] = []
        self.case = ""
        run = JITFunction.run

        def compile_only(function, *arguments, grid, warmup, **options):
            kernel = run(function, *arguments, grid=grid, warmup=True, **options)
            if all(kernel is not each for _, _, each in self.kernels):
                self.kernels.append((self.case, function.__name__, kernel))
            return kernel

        JITFunction.run = compile_only


def launch_mean(weighted_mean: WeightedMean, size: int, aligned: bool = True) -> None:
    """Launch what the mean of a weighted_mean of `size` elements takes."""
    grouped = grouped_mean(weighted_mean)
    out = torch.empty(size, dtype=layout.INTEGERS[weighted_mean.out.bits])
    doubts = torch.empty(layout.blocks_in(size, grouped.config.block), dtype=torch.int8)
    table = torch.tensor(grouped.table, dtype=torch.float64)
    addresses = torch.empty(grouped.config.count, dtype=torch.int64)
    sums = torch.empty(3, size, dtype=torch.float64)
    mean.launch_mean(grouped.config, addresses, table, out, doubts, sums, aligned)


def launch_updates() -> None:
    """Launch what updates of kept sums take, with every dtype in and out."""
    row, marks = torch.empty(4096, dtype=torch.float64), torch.empty(4, dtype=torch.int8)
    planes, table = torch.empty(2, 4096, dtype=torch.float64), torch.empty(6, dtype=torch.float64)
    for number, dtype in enumerate(FLOATS):
        config = layout.UpdateConfig(
            dtype.value, 1 + number % 2, output_format(dtype), number % 3 == 0, number % 4 == 1
        )
        part = row.view(layout.INTEGERS[dtype.bits])[:4096]
        update.launch_update(config, planes[: config.planes], part, table, part, marks)
    part = row.view(torch.int32)[:4096]
    config = layout.UpdateConfig("F32", 2, output_format(DType.F32), False, wide=True, terms=3)
    update.launch_update(config, planes, part, table, part, marks)
    config = layout.UpdateConfig("F64", 1, None, True)
    update.launch_update(config, planes[:1], row[:100], table, None, marks)


def launch_figures() -> None:
    """Launch what figures of two tensors take."""
    row = torch.empty(4096, dtype=torch.float64)
    for dtype in FLOATS:
        part = row.view(layout.INTEGERS[dtype.bits])[:4096]
        statistics.launch_statistics((dtype.value, dtype.value), part, part)
    statistics.launch_statistics(("F64", "F64"), row[:100], row[:100])


def cases() -> Iterator[tuple[str, WeightedMean, int]]:
    """Blends that take every dtype, in and out, and every way through the kernels."""
    for dtype in FLOATS:
        yield "whole", WeightedMean((dtype,) * 3, (1, 1, 1), dtype), 4096
        yield "mixture", WeightedMean((DType.F16, DType.BF16), (1, 2), dtype), 4096
    # by their weights, these are not bounded
    yield "whole", WeightedMean((DType.F8_E5M2,) * 3, (2**24, -(2**24), 3), DType.F8_E5M2), 4096
    for dtype in FLOATS:
        yield "wide", WeightedMean((dtype,) * 2, (123456789, 10**9), dtype), 4096
    yield "mixture", WeightedMean((DType.F16, DType.F32), (2**61 - 1, 3), DType.BF16), 4096
    for dtype in (DType.F16, DType.BF16, DType.F32):
        yield "power", WeightedMean((dtype,) * 2, (1, 1), dtype), 4096
    yield "tail", WeightedMean((DType.BF16,) * 3, (1, 1, 1), DType.BF16), 100
    yield "mixture", WeightedMean(tuple(FLOATS), (1,) * 6, DType.F16), 4096


def described(case: str, name: str, kernel, target: str) -> dict[str, object]:
    """What the tests ask of a compiled kernel."""
    constants = {
        function: value
        for function, value in kernel.src.constants.items()
        if isinstance(value, bool | int | str)
    }
    names = kernel.src.fn.arg_names
    facts = {
        "case": case,
        "kernel": name,
        "target": target,
        "constants": {names[place[0]]: value for place, value in constants.items()},
        "fusion": kernel.metadata.enable_fp_fusion,
        "threads": kernel.metadata.num_warps * TARGETS[target].warp_size,
    }
    return facts | (of_amd(kernel) if target.startswith("gfx") else of_nvidia(kernel))


def of_nvidia(kernel) -> dict[str, object]:
    text = kernel.asm["ptx"]
    divisions = sorted(set(re.findall(r"\b(?:div|rcp|sqrt)\.[\w.]+", text)))
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        usage = told_by("cuobjdump", "-res-usage", file.name)
        # a division has fused steps of its own, and disassembling takes longest
        machine = "" if divisions else told_by("nvdisasm", file.name)
    return {
        "moves": sorted(set(re.findall(r"\b(?:ld|st)\.global[\w.]*", text))),
        "divisions": divisions,
        "fused": len(re.findall(r"\b(?:fma|mad)\.(?!lo|wide|hi)[\w.]*f\d", text)),
        "flushed": ".ftz" in text,
        "spilled": sum(map(int, re.findall(r"\b(?:STACK|LOCAL):(\d+)", usage))),
        "machine_fused": len(re.findall(r"\b[DFH]FMA", machine)),
    }


def told_by(tool: str, *arguments: str) -> str:
    """What a tool that comes with triton prints."""
    command = [TOOLS / tool, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def of_amd(kernel) -> dict[str, object]:
    text = kernel.asm["amdgcn"]
    # a scalar register that is spilled goes to a lane of a vector register, not to memory
    numbers = re.findall(r"(?:vgpr_spill_count|private_segment_fixed_size): *(\d+)", text)
    return {
        "moves": sorted(set(re.findall(r"\b(?:global|buffer|flat)_(?:load|store)_\w+", text))),
        "spilled": sum(map(int, numbers)),
        "machine_fused": len(re.findall(r"\bv_(?:pk_)?(?:fma|mad|mac|fmac)_f\d+", text)),
    }


def main(target: str) -> None:
    driver.set_active(AbsentDevice(TARGETS[target]))
    compiled = Compiled()
    for compiled.case, weighted_mean, size in cases():
        launch_mean(weighted_mean, size)
    compiled.case = "update"
    launch_updates()
    compiled.case = "figures"
    launch_figures()
    compiled.case = "unaligned"
    launch_mean(WeightedMean((DType.F16,), (1,), DType.F16), 4096, aligned=False)
    json.dump([described(*each, target) for each in compiled.kernels], sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
