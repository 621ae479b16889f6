"""soupctl and its rivals on the same files: `python benchmarks/against_rivals.py FOLDER`.

FOLDER is that of rival_environments.py; a rival that is not in it is left out.

Rule 1: the sides take turns. Bytes read and written, and memory, are measured in a separate run,
after its inputs were evicted from the page cache.
Rule 2: an element is right if it has the bits of soupctl's, which the gate checks first.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import pagecache
from checkpoints import SEED, write_checkpoint
from figures import seconds, table
from files import total_bytes
from gate import require_right_numbers
from machine import described_machine, described_versions
from measure import timed, watched
from rival_sides import Side, installed_sides
from unet import SD15, SDXL, stable_diffusion_unet
from wrong_elements import wrong_elements

MODELS = {"sd15": SD15, "sdxl": SDXL}
SETTINGS = {"HF_HUB_OFFLINE": "1"}
HEADINGS = (
    "case", "side", "wall", "CPU", "memory MiB", "GB read", "GB written", "not the mean"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RivalCase:
    """Ingredients that every side averages."""

    model: str
    dtype: str
    ingredients: int
    part: int = 1
    """One of so many tensors of the model is taken, at random, where all would take much disk."""

    @property
    def name(self) -> str:
        """Its name on the command line."""
        return f"{self.model}-{self.dtype.lower()}-{self.ingredients}"

    def write(self, folder: Path) -> list[Path]:
        """The paths of the ingredients, which are written."""
        every = stable_diffusion_unet(MODELS[self.model])
        chosen = Random(SEED).sample(every, len(every) // self.part)
        tensors = sorted(chosen, key=lambda tensor: tensor.name)
        paths = [folder / f"{number}.safetensors" for number in range(self.ingredients)]
        for number, path in enumerate(paths):
            write_checkpoint(path, tensors, self.dtype, number)
        return paths


DTYPES = ("F16", "BF16", "F32")
CASES = (
    RivalCase("sd15", "F16", 2),
    *(RivalCase("sd15", dtype, 2, 4) for dtype in DTYPES[1:]),
    *(RivalCase("sd15", dtype, n, 8) for n in (4, 8) for dtype in DTYPES),
    *(RivalCase("sdxl", dtype, 2, 4) for dtype in DTYPES),
)


class Round:
    """The runs of all sides on the files of one case."""

    def __init__(self, inputs: Sequence[Path], sides: Sequence[Side]) -> None:
        self.inputs = inputs
        self.exact = inputs[0].with_name("exact.safetensors")
        self._out = inputs[0].with_name("out.safetensors")
        self.records = {
            side: {"name": side.name, "version": side.version, "wall_s": [], "cpu_s": []}
            for side in sides
        }
        self.loads: list[float] = []

    def prepare(self, soupctl: Side) -> None:
        """Make the exact mean, by soupctl."""
        timed(self._command(soupctl), SETTINGS)
        self._out.rename(self.exact)

    def time(self, side: Side) -> None:
        """Run a side for its time."""
        command = self._command(side)
        self.loads.append(os.getloadavg()[0])
        duration = timed(command, SETTINGS)
        record = self.records[side]
        record["wall_s"].append(round(duration.wall, 3))
        record["cpu_s"].append(round(duration.user + duration.system, 3))

    def watch(self, side: Side) -> None:
        """Run a side for its memory, its bytes and its mistakes."""
        command = self._command(side)
        pagecache.evict(self.inputs)
        record = self.records[side]
        record |= asdict(watched(command, SETTINGS))
        if side.averages:
            record["wrong"], record["elements"] = wrong_elements(self.exact, self._out)

    def _command(self, side: Side) -> list[str]:
        """The command of a side, before which the output of the last one is removed."""
        if self._out.is_dir():
            shutil.rmtree(self._out)
        self._out.unlink(missing_ok=True)
        # pending writes of the run before must not slow down this one
        os.sync()
        return side.command(self.inputs, self._out)


def measure(case: RivalCase, sides: Sequence[Side], folder: Path, runs: int) -> dict[str, Any]:
    """The record of a case: `runs` timed runs of each side, in turn, then a watched one of each."""
    with tempfile.TemporaryDirectory(dir=folder) as inside:
        turns = Round(case.write(Path(inside)), sides)
        turns.prepare(sides[0])
        for _ in range(runs):
            for side in sides:
                turns.time(side)
        # last, so that the libraries of each side are in the page cache
        for side in sides:
            turns.watch(side)
        return {
            "case": case.name,
            **asdict(case),
            "input_bytes": total_bytes(turns.inputs),
            "output_bytes": turns.exact.stat().st_size,
            "load": round(median(turns.loads), 1),
            "sides": list(turns.records.values()),
        }


def rows(cases: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """A line for each side of each case."""
    return [
        (
            case["case"],
            side["version"] or side["name"],
            *(seconds(median(side[name])) for name in ("wall_s", "cpu_s")),
            f"{side['anonymous_mib']:.0f}",
            *(f"{side[name] / 1e9:.2f}" for name in ("bytes_read", "bytes_written")),
            f"{side['wrong'] / side['elements']:.2%}" if "wrong" in side else "",
        )
        for case in cases
        for side in case["sides"]
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the cases that are named, by default all, and print and keep them."""
    options = _parsed(arguments)
    soupctl = shlex.split(options.soupctl)
    sides = installed_sides(soupctl, options.environments)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        print("gate", file=sys.stderr, flush=True)
        result: dict[str, Any] = {
            "date": datetime.now(UTC).date().isoformat(),
            "machine": described_machine(Path(folder)),
            "versions": described_versions(soupctl, sys.executable),
            "gate": {"elements_right": require_right_numbers(soupctl, Path(folder))},
            "cases": [],
        }
        for case in CASES:
            if not options.cases or case.name in options.cases:
                print(case.name, file=sys.stderr, flush=True)
                result["cases"].append(measure(case, sides, Path(folder), options.runs))
                # after each case, since all of them take long
                if options.output is not None:
                    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(table(HEADINGS, rows(result["cases"])))
    return 0


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    names = [case.name for case in CASES]
    beside = str(Path(sys.executable).with_name("soupctl"))
    parser = argparse.ArgumentParser(description="Measure soupctl and its rivals in turn.")
    parser.add_argument("environments", type=Path, help="the folder of rival_environments.py")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"any of: {', '.join(names)}")
    parser.add_argument("--runs", type=int, default=3, help="timed runs of each side")
    parser.add_argument("--folder", type=Path, help="where the data goes (default: temporary)")
    parser.add_argument("-o", dest="output", type=Path, help="result file to write")
    parser.add_argument("--soupctl", default=shlex.quote(beside), help="the command to measure")
    options = parser.parse_args(arguments)
    if unknown := set(options.cases) - {*names}:
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    return options


if __name__ == "__main__":
    sys.exit(main())
