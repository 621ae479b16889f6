"""Publishing while killed: an output is whole at every moment."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

from processes import started

KILLS = 12


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


WRITER = """
import itertools, sys
from pathlib import Path
from soupctl.storage.atomic import publish_file
from soupctl.storage.files import write_at
target = Path(sys.argv[1])
for number in itertools.count(1):
    data = bytes([number % 256]) * (200_000 + number)
    with publish_file(target, len(data), replace=True) as fd:
        for start in range(0, len(data), 50_000):
            write_at(fd, data[start : start + 50_000], start)
    if number == 1:
        print(flush=True)
"""


def test_a_kill_at_a_random_moment_leaves_a_whole_output(tmp_path, record_property):
    pauses = random.Random(0)
    for _ in range(KILLS):
        command = (sys.executable, "-c", WRITER, tmp_path / "out")
        with started(*command, stdout=subprocess.PIPE) as writer:
            writer.stdout.readline()
            # it is killed where this block ends
            time.sleep(pauses.uniform(0, 0.03))

        data = (tmp_path / "out").read_bytes()
        assert data == data[:1] * len(data)
        assert (len(data) - 200_000) % 256 == data[0]
        # at most the link that was about to be renamed
        for left in set(names(tmp_path)) - {"out"}:
            assert left.endswith(".partial")
            (tmp_path / left).unlink()
    record_property("kills", KILLS)
