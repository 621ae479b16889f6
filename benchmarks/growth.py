"""How time grows: `python benchmarks/growth.py [SERIES...] -o RESULT.json --plot PLOT.png`.

All series take about fifteen minutes and 8 GB of disk; `--redraw RESULT.json` only draws.

Rule 1: each point is an average by soupctl and the limit (limit.c) on the same files with as many
threads, in turn, warm unless the series is cold; a ratio is the median over its pairs.
Rule 2: what is compared lies in one series, so that only one thing changes from point to point.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import limit
import pagecache
from checkpoints import write_checkpoint
from figures import table
from growth_plot import draw
from in_turn import HEADINGS, cells, in_turn
from machine import described_machine, described_versions
from unet import NamedShape, stable_diffusion_unet

MEGA = 1 << 20
MIXED = (64, 1024, 4096, 16_384, 65_536)
"""Elements of the tensors of an expert and its norms, in turn."""


@dataclass(frozen=True, slots=True)
class Point:
    """The files of one average, and how soupctl is run on them."""

    series: str
    x: float
    """Where it lies in its series' plot."""
    shapes: tuple[tuple[int, int], ...]
    """Numbers of tensors of each size in elements; empty for the U-Net of Stable Diffusion 1.5."""
    ingredients: int = 2
    dtype: str = "F16"
    threads: int = 2
    options: tuple[str, ...] = ()
    outputs: int = 1
    """Files as long as an ingredient that the limit writes."""
    cold: bool = False
    sparse: bool = False
    most_pairs: int = 9
    """Fewer runs where each takes long."""
    fits_memory: bool = True
    """Whether it can be warm, after a warm-up."""

    def tensors(self) -> list[NamedShape]:
        """The tensors of each ingredient."""
        if not self.shapes:
            return stable_diffusion_unet()
        sizes = [size for count, size in self.shapes for _ in range(count)]
        return [NamedShape(f"t{place:06}.weight", (size,)) for place, size in enumerate(sizes)]

    def write(self, folder: Path) -> list[Path]:
        """The paths of its ingredients, which are written."""
        paths = [folder / f"{number:03}.safetensors" for number in range(self.ingredients)]
        for number, path in enumerate(paths):
            write_checkpoint(path, self.tensors(), self.dtype, number, sparse=self.sparse)
        return paths


def points() -> list[Point]:
    """All points of all series."""
    large = ((24, MEGA),)
    found = [Point("ingredients", n, large, n) for n in (1, 2, 4, 8, 16, 32, 64)]
    found += [
        Point("tensors", n, ((n, max(8, 24 * MEGA // n) if n < 100_000 else 8),))
        for n in (1, 100, 1000, 10_000, 30_000, 100_000)
    ]
    found += [Point("mixed sizes", 5 * n, tuple((n, size) for size in MIXED)) for n in (200, 6000)]
    for threads in (1, 2):
        series = f"gigabytes, {threads} thread{'s' * (threads > 1)}"
        found += [
            # eight ingredients, so that little is written for what is read
            Point(
                series, gb, ((round(gb * 62.5), MEGA),), 8,
                threads=threads, sparse=True, most_pairs=1 if gb > 10 else 9,
                fits_memory=gb < 10,
            )
            for gb in (0.1, 0.4, 1.6, 6.4, 40)
        ]  # fmt: skip
        series = f"one tensor, {threads} thread{'s' * (threads > 1)}"
        found += [
            Point(series, gb, ((1, round(gb * 500) * MEGA),), threads=threads, sparse=True,
                  most_pairs=3 if gb < 1 else 1)
            for gb in (0.1, 0.4, 1, 4)
        ]  # fmt: skip
    for dtype in ("F16", "BF16", "F32"):
        found += [Point(f"ingredients of {dtype}", n, large, n, dtype) for n in (2, 4, 8)]
    found += [Point("U-Net", n, (), n) for n in (2, 3)]
    found += [Point("U-Net, cold", 2, (), 2, cold=True)]
    # the sum of two in F16 takes four bytes for each element, twice as many as the mean
    return [*found, Point("kept sum", 2, (), 2, options=("--keep-sum",), outputs=3)]


def measure(point: Point, soupctl: Sequence[str], folder: Path, pairs: int) -> dict[str, Any]:
    """The record of a point, whose files are written before and removed after."""
    with tempfile.TemporaryDirectory(dir=folder) as inside:
        inputs = point.write(Path(inside))
        out = Path(inside) / "out" / "soup.safetensors"
        limits = [out.with_suffix(f".{n}") for n in range(point.outputs)]
        options = ("-o", str(out), "--quiet", "--threads", str(point.threads), *point.options)
        left = [0.0]

        def prepare() -> None:
            for old in out.parent.glob("*"):
                old.unlink()
            out.parent.mkdir(exist_ok=True)
            # pending writes of the previous run must not slow down this one
            os.sync()
            if point.cold:
                left.append(pagecache.evict(inputs))

        pairs_run = in_turn(
            [*soupctl, "avg", *map(str, inputs), *options],
            limit.command(inputs, limits, point.threads),
            min(pairs, point.most_pairs),
            prepare,
            point.fits_memory,
        )
        cache = f"cold, but for {max(left):.0%}" if point.cold else "warm"
        named = {"series": point.series, "x": point.x, "page_cache": cache}
        return {**named, **pairs_run.as_json()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the series that are named, by default all, and print, keep and plot them."""
    options = _parsed(arguments)
    if options.redraw is not None:
        result = json.loads(options.redraw.read_text())
    else:
        result = _result(options)
    rows = [
        [point["series"], f"{point['x']:g}", *cells(point), point["page_cache"]]
        for point in result["points"]
    ]
    print(table(["series", "x", *HEADINGS, "inputs"], rows))
    if options.plot is not None:
        options.plot.write_bytes(draw(result["points"]))
    return 0


def _result(options: argparse.Namespace) -> dict[str, Any]:
    soupctl = shlex.split(options.soupctl)
    with ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        result: dict[str, Any] = {
            "date": datetime.now(UTC).date().isoformat(),
            "machine": described_machine(folder),
            "versions": described_versions(soupctl, sys.executable),
            "points": [],
        }
        for point in points():
            if not options.series or point.series in options.series:
                print(f"{point.series}: {point.x:g}", file=sys.stderr, flush=True)
                result["points"].append(measure(point, soupctl, folder, options.pairs))
                # after each point, since all of them take long
                if options.output is not None:
                    options.output.write_text(json.dumps(result, indent=1) + "\n")
        return result


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    series = list(dict.fromkeys(point.series for point in points()))
    beside = str(Path(sys.executable).with_name("soupctl"))
    parser = argparse.ArgumentParser(description="Measure how time grows.")
    parser.add_argument("series", nargs="*", metavar="SERIES", help=f"any of: {', '.join(series)}")
    parser.add_argument("--pairs", type=int, default=3, help="timed runs of each side")
    parser.add_argument("--folder", type=Path, help="where the data goes (default: temporary)")
    parser.add_argument("-o", dest="output", type=Path, help="result file to write")
    parser.add_argument("--plot", type=Path, help="PNG file to draw")
    parser.add_argument("--redraw", type=Path, help="a result to draw instead of measuring")
    parser.add_argument("--soupctl", default=shlex.quote(beside), help="the command to measure")
    options = parser.parse_args(arguments)
    if unknown := set(options.series) - {*series}:
        parser.error(f"no such series: {', '.join(sorted(unknown))}")
    if options.redraw is None and limit.compiler() is None:
        parser.error("the limit needs a C compiler (CC)")
    return options


if __name__ == "__main__":
    sys.exit(main())
