"""Commands other than `avg`, each against its own limit: `python benchmarks/other_limits.py`.

Rule 1: a limit reads what the command cannot do without, once, and writes as much as it does.
Rule 2: memory is measured in one more run, whose time does not count.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import limit
from checkpoints import write_checkpoint
from figures import table
from files import remove_soup
from in_turn import HEADINGS, cells, in_turn
from machine import described_machine, described_versions
from measure import watched
from unet import NamedShape

INGREDIENTS = 4
TENSORS, ELEMENTS = 200, 1 << 20


@dataclass(frozen=True, slots=True)
class Limited:
    """A command, and what it must read and write."""

    name: str
    limit: str
    """What the limit does, in words."""
    words: tuple[str, ...]
    """soupctl's arguments, in a folder with soup.st, its sum and its ingredients."""
    reads: tuple[str, ...]
    writes: tuple[str, ...] = ()


MODELS = tuple(f"{number}.st" for number in range(INGREDIENTS))
WITHOUT = tuple(f"without-{number}.st" for number in range(INGREDIENTS))
COMMANDS = (
    Limited("hash", "reads the file", ("hash", "0.st"), ("0.st",)),
    Limited("verify-digest", "reads the soup",
            ("verify", "soup.st", "--level", "digest"), ("soup.st",)),
    Limited("verify-rebuild", "reads the soup and its four ingredients",
            ("verify", "soup.st", "--level", "rebuild"), ("soup.st", *MODELS)),
    Limited("subtract-each", "reads the four ingredients, writes four soups",
            ("subtract", "soup.st", "--each", "-o", "without-{name}.st", "--no-keep-sum"),
            MODELS, WITHOUT),
    Limited("diff", "reads both files", ("diff", "0.st", "same.st"), ("0.st", "same.st")),
    Limited("diff-matrix", "reads the four files",
            ("diff", "1.st", "2.st", "3.st", "--base", "0.st", "--matrix"), MODELS),
    Limited("convert", "reads the file, writes as much",
            ("convert", "0.st", "-o", "bf16.st", "--dtype", "bf16"), ("0.st",), ("bf16.st",)),
    Limited("attest", "reads the soup",
            ("attest", "soup.st", "-o", "proof.json", "--level", "digest"), ("soup.st",)),
    Limited("record", "reads the file and its base, writes a copy",
            ("record", "0.st", "-o", "copy.st", "--data", "images", "--base", "1.st",
             "--steps", "1"),
            ("0.st", "1.st"), ("copy.st",)),
    Limited("report", "reads the soup and its four ingredients",
            ("report", "soup.st", "-o", "page.html", "--level", "digest"), ("soup.st", *MODELS)),
)  # fmt: skip
MADE = (*WITHOUT, "bf16.st", "proof.json", "copy.st", "page.html")
"""What the commands write."""
FILES = (".st", ".json", ".html", "images")
"""Endings of words that name files."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the commands that are named, by default all, and print and keep the result."""
    options = _parsed(arguments)
    soupctl = shlex.split(options.soupctl)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=options.folder)))
        _write(folder, soupctl, options.tensors)
        records = []
        for command in COMMANDS:
            if not options.commands or command.name in options.commands:
                print(command.name, file=sys.stderr, flush=True)
                records.append(measure(command, soupctl, folder, options.pairs))
        result = {
            "date": datetime.now(UTC).date().isoformat(),
            "machine": described_machine(folder),
            "versions": described_versions(soupctl, sys.executable),
            "commands": records,
        }
    rows = [
        [
            record["command"],
            *cells(record),
            f"{record['anonymous_mib']:.0f} MiB",
            record["limit"],
        ]
        for record in records
    ]
    print(table(["command", *HEADINGS, "memory", "the limit"], rows))
    if options.output is not None:
        options.output.write_text(json.dumps(result, indent=1) + "\n")
    return 0


def measure(command: Limited, soupctl: Sequence[str], folder: Path, pairs: int) -> dict[str, Any]:
    """The record of a command, run in the folder of its files."""

    def prepare() -> None:
        for name in MADE:
            remove_soup(folder / name)
        # pending writes of the previous run must not slow down this one
        os.sync()

    words = [str(folder / word) if word.endswith(FILES) else word for word in command.words]
    ours = [*soupctl, *words, "--threads", "2"]
    runs = in_turn(
        ours,
        limit.command(
            [folder / name for name in command.reads], [folder / name for name in command.writes]
        ),
        pairs,
        prepare,
    )
    prepare()
    memory = round(watched(ours).anonymous_mib, 1)
    return {
        "command": command.name,
        "limit": command.limit,
        "anonymous_mib": memory,
        **runs.as_json(),
    }


def _write(folder: Path, soupctl: Sequence[str], tensors: int) -> None:
    """Write the ingredients, a soup of them with its sum, and what else the commands read."""
    shapes = [NamedShape(f"t{number:03}.weight", (ELEMENTS,)) for number in range(tensors)]
    paths = [folder / name for name in MODELS]
    for number, path in enumerate(paths):
        write_checkpoint(path, shapes, "F16", number)
    shutil.copy(paths[0], folder / "same.st")
    (folder / "images").mkdir()
    (folder / "images/0.png").write_bytes(b"not decoded")
    soup = ["-o", str(folder / "soup.st"), "--keep-sum", "--quiet"]
    subprocess.run([*soupctl, "avg", *map(str, paths), *soup], check=True)


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    names = [command.name for command in COMMANDS]
    beside = str(Path(sys.executable).with_name("soupctl"))
    parser = argparse.ArgumentParser(description="Measure commands against their limits.")
    parser.add_argument(
        "commands", nargs="*", metavar="COMMAND", help=f"any of: {', '.join(names)}"
    )
    parser.add_argument("--pairs", type=int, default=5, help="timed runs of each side")
    parser.add_argument("--tensors", type=int, default=TENSORS, help="of 2 MB each")
    parser.add_argument("--folder", type=Path, help="where the data goes (default: temporary)")
    parser.add_argument("-o", dest="output", type=Path, help="result file to write")
    parser.add_argument("--soupctl", default=shlex.quote(beside), help="the command to measure")
    options = parser.parse_args(arguments)
    if unknown := set(options.commands) - {*names}:
        parser.error(f"no such command: {', '.join(sorted(unknown))}")
    if limit.compiler() is None:
        parser.error("the limit needs a C compiler (CC)")
    return options


if __name__ == "__main__":
    sys.exit(main())
