"""Tables and pictures of finished or unfinished studies.

    python benchmarks/replication/report.py SOUP.json DMP.json --page docs/replication.md
    python benchmarks/replication/report.py SOUP.json --folder FOLDER --images docs/images

Rule 1: in a page, only what lies between its two marks is replaced.
Rule 2: pictures need the work folder of the study; nothing is trained for them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from replication.tables import TABLES

BEGIN, END = "<!-- results -->", "<!-- end of results -->"


def with_results(page: str, lines: Sequence[str]) -> str:
    """The page with these lines between its marks; ValueError if it has none."""
    before, begun, rest = page.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not (begun and ended):
        raise ValueError(f"the page has no {BEGIN} followed by {END}")
    return "\n".join([before + BEGIN, "", *lines]) + END + after


def asked(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="+", type=Path)
    parser.add_argument("--page", type=Path, help="write the tables into this page")
    parser.add_argument("--folder", type=Path, help="the work folder of the study")
    parser.add_argument("--images", type=Path, help="draw the pictures into this folder")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables, or write them into a page; draw the pictures."""
    chosen = asked(arguments)
    results: list[dict[str, Any]] = [json.loads(path.read_text()) for path in chosen.results]
    lines = [line for each in results for line in TABLES[each["study"]](each)]
    if chosen.page is not None:
        chosen.page.write_text(with_results(chosen.page.read_text(), lines))
    else:
        print("\n".join(lines))
    if chosen.images is not None:
        from replication.pictures import draw_all  # noqa: PLC0415

        for each in results:
            for name in draw_all(each, chosen.folder, chosen.images):
                print(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
