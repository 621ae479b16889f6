"""Read results: one as a table, two side by side; `compare.py BEFORE.json [AFTER.json]`.

Rule 1: seconds of two results are comparable on one machine alone; ratios were taken within a run.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from figures import Ratio, seconds, table

Result = Mapping[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 after printing, 1 if two results have no case in common."""
    parser = argparse.ArgumentParser(description="Print one result, or compare two.")
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path, nargs="?")
    options = parser.parse_args(arguments)
    before = json.loads(options.before.read_text())
    if options.after is None:
        print(result_table(before))
        return 0
    after = json.loads(options.after.read_text())
    if not _common_cases(before, after):
        print("the two results have no case in common", file=sys.stderr)
        return 1
    print(comparison_table(before, after))
    return 0


def result_table(result: Result) -> str:
    """Machine, versions, a line a case, every verdict, and what was skipped, as plain text."""
    headings = ["case", "runs", "cache", "wall", "user", "system", "ratio", "of", "MiB", "files"]
    rows = [_row(case) for case in result["cases"]]
    verdicts = [
        f"{case['case']}: {target['verdict']}"
        for case in result["cases"]
        for target in case["targets"]
    ]
    skipped = [f"{entry['case']}: skipped, {entry['why']}" for entry in result["skipped"]]
    described = [
        "  ".join(f"{name} {value}" for name, value in result[part].items())
        for part in ("machine", "versions")
    ]
    return "\n".join(
        [f"date {result['date']}", *described, "", table(headings, rows), "", *verdicts, *skipped]
    )


def comparison_table(before: Result, after: Result) -> str:
    """The cases that both results have: wall, ratio and memory, before and after."""
    headings = ["case", "wall before", "after", "before / after", "ratio before", "after", "MiB"]
    rows = []
    for old, new in _common_cases(before, after):
        old_wall, new_wall = (case["soupctl"]["median"]["wall_s"] for case in (old, new))
        rows.append(
            [
                old["case"],
                seconds(old_wall),
                seconds(new_wall),
                f"{old_wall / new_wall:.2f}",
                _ratio(old),
                _ratio(new),
                f"{old['peak_anonymous_mib']:.0f} -> {new['peak_anonymous_mib']:.0f}",
            ]
        )
    note = [] if before["machine"] == after["machine"] else ["", "machines differ: trust ratios"]
    return "\n".join([table(headings, rows), *note])


def _common_cases(before: Result, after: Result) -> list[tuple[Result, Result]]:
    later = {case["case"]: case for case in after["cases"]}
    return [(case, later[case["case"]]) for case in before["cases"] if case["case"] in later]


def _row(case: Result) -> list[str]:
    times = case["soupctl"]["median"]
    return [
        case["case"],
        str(len(case["soupctl"]["runs"])),
        case["page_cache"].split()[0],
        seconds(times["wall_s"]),
        seconds(times["user_s"]),
        seconds(times["system_s"]),
        _ratio(case),
        case["ratio"]["of"] if case["ratio"] else "",
        f"{case['peak_anonymous_mib']:.0f}",
        str(case["open_files"]),
    ]


def _ratio(case: Result) -> str:
    ratio = case["ratio"]
    if ratio is None:
        return ""
    return str(Ratio(ratio["median"], ratio["smallest"], ratio["largest"]))


if __name__ == "__main__":
    sys.exit(main())
