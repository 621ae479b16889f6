"""How time grows: `python benchmarks/growth.py [SERIES...] -o RESULT.json --plot PLOT.png`.

All series take about ten minutes and 8 GB of disk.

Rule 1: each point is an average by soupctl and the limit (limit.c) on the same files, in turn, warm
unless the series is cold; a ratio is the median over its pairs.
Rule 2: what is compared lies in one series, so that only one thing changes from point to point.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import limit
import pagecache
from checkpoints import write_checkpoint
from figures import paired_ratio, seconds, table
from growth_plot import draw
from machine import described_machine, described_versions
from measure import Duration, timed
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
    options: tuple[str, ...] = ()
    cold: bool = False
    sparse: bool = False
    most_pairs: int = 9
    """Fewer runs where each takes long."""

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
        series, options = f"gigabytes, {threads} threads", ("--threads", str(threads))
        found += [
            Point(series, gb, ((round(gb * 500), MEGA),), options=options, sparse=True)
            for gb in (0.1, 0.4, 1.6)
        ]
    found += [
        Point(
            "one tensor, gigabytes", gb, ((1, round(gb * 500) * MEGA),), sparse=True, most_pairs=n
        )
        for gb, n in ((0.4, 3), (4.0, 1))
    ]
    for dtype in ("F16", "BF16", "F32"):
        found += [Point(f"ingredients of {dtype}", n, large, n, dtype) for n in (2, 4, 8)]
    found += [Point("U-Net", n, (), n) for n in (2, 3)]
    found += [Point("U-Net, cold", 2, (), 2, cold=True)]
    return [*found, Point("kept sum", 2, (), 2, options=("--keep-sum",))]


@dataclass(frozen=True, slots=True)
class Measured:
    """A point with its runs."""

    point: Point
    ours: tuple[Duration, ...]
    limits: tuple[Duration, ...]
    page_cache: str

    def as_json(self) -> dict[str, object]:
        """The record of a result file."""
        ratio = paired_ratio([run.wall for run in self.ours], [run.wall for run in self.limits])
        return {
            "series": self.point.series,
            "x": self.point.x,
            "page_cache": self.page_cache,
            "wall_s": median(run.wall for run in self.ours),
            "cpu_s": median(run.user + run.system for run in self.ours),
            "limit_wall_s": median(run.wall for run in self.limits),
            "ratio": asdict(ratio),
        }


def measure(point: Point, soupctl: Sequence[str], folder: Path, pairs: int) -> Measured:
    """The runs of a point: `pairs` of each side, in turn, after one of each that does not count."""
    with tempfile.TemporaryDirectory(dir=folder) as inside:
        inputs = point.write(Path(inside))
        out = Path(inside) / "out" / "soup.safetensors"
        ours = [*soupctl, "avg", *map(str, inputs), "-o", str(out), "--quiet", *point.options]
        limits = [str(limit.program()), str(out), *map(str, inputs)]
        left = 0.0
        durations: dict[int, list[Duration]] = {0: [], 1: []}
        for _ in range(min(pairs, point.most_pairs) + 1):
            for side, command in enumerate((ours, limits)):
                for old in out.parent.glob("*"):
                    old.unlink()
                out.parent.mkdir(exist_ok=True)
                # pending writes of the previous run must not slow down this one
                os.sync()
                if point.cold:
                    left = max(left, pagecache.evict(inputs))
                durations[side].append(timed(command))
        state = f"cold, but for {left:.0%}" if point.cold else "warm"
        return Measured(point, tuple(durations[0][1:]), tuple(durations[1][1:]), state)


def rows(records: Sequence[dict[str, object]]) -> Iterator[tuple[str, ...]]:
    """Each record as the cells of a line."""
    for each in records:
        ratio = each["ratio"]
        assert isinstance(ratio, dict)
        shown = f"{ratio['median']:.2f} ({ratio['smallest']:.2f}-{ratio['largest']:.2f})"
        times = (seconds(float(str(each[name]))) for name in ("wall_s", "cpu_s", "limit_wall_s"))
        yield (str(each["series"]), f"{each['x']:g}", *times, shown, str(each["page_cache"]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the series that are named, by default all, and print, keep and plot them."""
    every = points()
    series = list(dict.fromkeys(point.series for point in every))
    beside = str(Path(sys.executable).with_name("soupctl"))
    parser = argparse.ArgumentParser(description="Measure how time grows.")
    parser.add_argument("series", nargs="*", metavar="SERIES", help=f"any of: {', '.join(series)}")
    parser.add_argument("--pairs", type=int, default=3, help="timed runs of each side")
    parser.add_argument("--folder", type=Path, help="where the data goes (default: temporary)")
    parser.add_argument("-o", dest="output", type=Path, help="result file to write")
    parser.add_argument("--plot", type=Path, help="PNG file to draw")
    parser.add_argument("--soupctl", default=shlex.quote(beside), help="the command to measure")
    options = parser.parse_args(arguments)
    if unknown := set(options.series) - {*series}:
        parser.error(f"no such series: {', '.join(sorted(unknown))}")
    if limit.compiler() is None:
        parser.error("the limit needs a C compiler (CC)")
    soupctl = shlex.split(options.soupctl)
    with ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        records = []
        for point in every:
            if not options.series or point.series in options.series:
                print(f"{point.series}: {point.x:g}", file=sys.stderr, flush=True)
                records.append(measure(point, soupctl, folder, options.pairs).as_json())
        result = {
            "date": datetime.now(UTC).date().isoformat(),
            "machine": described_machine(folder),
            "versions": described_versions(soupctl, sys.executable),
            "points": records,
        }
    headings = ("series", "x", "soupctl", "its CPU", "limit", "soupctl / limit", "inputs")
    print(table(headings, [*rows(records)]))
    if options.output is not None:
        options.output.write_text(json.dumps(result, indent=2) + "\n")
    if options.plot is not None:
        options.plot.write_bytes(draw(records))
    return 0


if __name__ == "__main__":
    sys.exit(main())
