"""A soup of two checkpoints on a server, against a plain client that reads the same bytes.

Rule 1: the server is on loopback, in this process, whose CPU time is nobody's.
Rule 2: nothing is measured unless the soup is that of the same checkpoints on disk.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from checkpoints import write_checkpoint
from figures import table
from files import remove_soup
from in_turn import HEADINGS, cells, in_turn
from machine import described_run
from measure import watched
from ranged_server import RangedServer, serving
from unet import NamedShape

NAMES = ("a.safetensors", "b.safetensors")
ELEMENTS = 1 << 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print and keep the result; returns 1 for a wrong soup."""
    options = _parsed(arguments)
    soupctl = shlex.split(options.soupctl)
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        folder = Path(place)
        shapes = [NamedShape(f"t.{n}.weight", (ELEMENTS,)) for n in range(options.tensors)]
        for number, name in enumerate(NAMES):
            write_checkpoint(folder / name, shapes, "F16", number)
        with serving(folder, options.delay / 1000) as server:
            if not _is_right(soupctl, folder, server):
                print("the soup is not that of the files on disk", file=sys.stderr)
                return 1
            record = measure(soupctl, folder, server, options.pairs)
        record |= {"tensors": options.tensors, "delay_ms": options.delay}
        result = {**described_run(folder), "remote": record}
    facts = [str(record[name]) for name in ("fetched_a_byte", "requests", "anonymous_mib")]
    headings = [*HEADINGS, "fetched/needed", "requests", "MiB"]
    print(table(headings, [[*cells(record), *facts]]))
    if options.output is not None:
        options.output.write_text(json.dumps(result, indent=1) + "\n")
    return 0


def measure(
    soupctl: Sequence[str], folder: Path, server: RangedServer, pairs: int
) -> dict[str, Any]:
    """The record of a soup of the files on the server, which lie in a folder."""
    soup = folder / "soup.safetensors"

    def prepare() -> None:
        remove_soup(soup)
        # pending writes of the previous run must not slow down this one
        os.sync()

    urls = [server.url(name) for name in NAMES]
    ours = [*soupctl, "avg", *urls, "-o", str(soup)]
    plain = [sys.executable, str(Path(__file__).with_name("plain_client.py")), *urls]
    runs = in_turn(ours, plain, pairs, prepare)
    prepare()
    server.requests = server.sent = 0
    memory = watched(ours).anonymous_mib
    needed = sum((folder / name).stat().st_size for name in NAMES)
    return {
        "anonymous_mib": round(memory, 1),
        "bytes_needed": needed,
        "fetched_a_byte": round(server.sent / needed, 6),
        "requests": server.requests,
        **runs.as_json(),
    }


def _is_right(soupctl: Sequence[str], folder: Path, server: RangedServer) -> bool:
    """Whether the soup from the server has the tensors of the one from disk."""
    digests = set()
    for inputs in ([folder / name for name in NAMES], [server.url(name) for name in NAMES]):
        soup = folder / "checked.safetensors"
        words = ["avg", *map(str, inputs), "-o", str(soup), "-f", "-q"]
        subprocess.run([*soupctl, *words], check=True)
        told = subprocess.run([*soupctl, "hash", str(soup)], check=True, capture_output=True)
        digests.add(told.stdout)
        remove_soup(soup)
    return len(digests) == 1


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    beside = str(Path(sys.executable).with_name("soupctl"))
    parser = argparse.ArgumentParser(description="Measure reads of a server against a client.")
    parser.add_argument("--pairs", type=int, default=5, help="timed runs of each side")
    parser.add_argument("--tensors", type=int, default=100, help="of 2 MB each")
    parser.add_argument("--delay", type=float, default=0.0, help="ms before each answer")
    parser.add_argument("--folder", type=Path, help="where the data goes (default: temporary)")
    parser.add_argument("-o", dest="output", type=Path, help="result file to write")
    parser.add_argument("--soupctl", default=shlex.quote(beside), help="the command to measure")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
