"""Measure cases: `python benchmarks/run.py [CASE...] [--runs N] [--folder DIR] [-o RESULT.json]`.

`python benchmarks/run.py gpu` measures what a GPU must show instead; see gpu.py.

Rule 1: nothing is measured before the gate is green, and nothing is kept of a case whose output
depends on the number of threads.
Rule 2: what runs in turn is compared in pairs; what could not be run is named, with the reason.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from cases import CASES, KEEP_SUM, Case
from compare import result_table
from files import remove_soup
from gate import RedGate, require_right_numbers
from machine import described_machine, described_versions
from measure import CommandFailed
from result import CaseResult
from subjects import Subjects
from trial import measured

RED = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 after measuring, 1 when the gate is red, whatever the targets say."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["gpu"]:
        # imports torch
        from gpu import main as measure_gpu  # noqa: PLC0415

        return measure_gpu(arguments[1:])
    options = _parsed(arguments)
    cases = [case for case in CASES if not options.cases or case.name in options.cases]
    with ExitStack() as stack:
        if options.folder is None:
            made = tempfile.TemporaryDirectory(prefix="soupctl-benchmark-")
            options.folder = Path(stack.enter_context(made))
        subjects = Subjects(tuple(shlex.split(options.soupctl)), options.rival_python)
        try:
            result = _result(cases, subjects, options.folder, options.runs, options.keep)
        except (RedGate, CommandFailed) as refusal:
            print(f"refused, nothing is reported: {refusal}", file=sys.stderr)
            return RED
    print(result_table(result))
    if options.output is not None:
        options.output.write_text(json.dumps(result, indent=2) + "\n")
    return 0


def _result(
    cases: Sequence[Case], subjects: Subjects, folder: Path, runs: int | None, keep: bool
) -> dict[str, object]:
    _say("gate")
    checked = require_right_numbers(subjects.soupctl, folder)
    results: list[CaseResult] = []
    # a soup left by a killed run may have been made by another soupctl
    for soup in _soups(cases, folder):
        remove_soup(soup)
    skipped: list[dict[str, str]] = []
    for position, case in enumerate(cases):
        reason = _obstacle(case, subjects, folder)
        if reason is None:
            _say(f"{case.name}: {case.shows}")
            results.append(measured(case, subjects, folder, runs or case.runs))
        else:
            _say(f"{case.name}: skipped, {reason}")
            skipped.append({"case": case.name, "why": reason})
        _remove_unneeded(case, cases[position + 1 :], folder, keep)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": described_machine(folder),
        "versions": described_versions(subjects.soupctl, subjects.rival_python),
        "gate": {"elements_right": checked},
        "cases": [result.as_json() for result in results],
        "skipped": skipped,
    }


def _obstacle(case: Case, subjects: Subjects, folder: Path) -> str | None:
    """Why `case` cannot be run here, or None."""
    if reason := subjects.missing(case.versus):
        return reason
    if case.ingredients is None or case.ingredients.sparse:
        return None
    absent = sum(not path.exists() for path in case.ingredients.paths(folder))
    soups = sum(not path.exists() for path in _soups([case], folder))
    sums = soups + (KEEP_SUM in case.command)
    # the missing inputs, a soup to start from, and one output at a time
    files = absent + soups + 1
    needed = files * case.ingredients.file_bytes() + sums * case.ingredients.sum_bytes()
    free = shutil.disk_usage(folder).free
    if needed > free:
        return f"needs {needed / 1e9:.1f} GB of disk, {free / 1e9:.1f} GB are free"
    return None


def _remove_unneeded(done: Case, later: Sequence[Case], folder: Path, keep: bool) -> None:
    """Remove what no later case needs; `keep` holds for ingredients, not for soups."""
    soups = _soups(later, folder)
    for soup in _soups([done], folder):
        if soup not in soups:
            remove_soup(soup)
    if keep:
        return
    needed = {path for case in later if case.ingredients for path in case.ingredients.paths(folder)}
    for path in done.ingredients.paths(folder) if done.ingredients else []:
        if path not in needed:
            path.unlink(missing_ok=True)


def _soups(cases: Sequence[Case], folder: Path) -> list[Path]:
    return [
        case.ingredients.soup_path(folder)
        for case in cases
        if case.ingredients is not None and case.needs_soup
    ]


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    names = [case.name for case in CASES]
    beside = str(Path(sys.executable).with_name("soupctl"))
    parser = argparse.ArgumentParser(description="Measure soupctl; without CASE, all cases.")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"any of: {', '.join(names)}")
    parser.add_argument("--runs", type=int, help="timed runs a case (default: the case's own)")
    parser.add_argument("--folder", type=Path, help="where the data goes (default: temporary)")
    parser.add_argument("--keep", action="store_true", help="leave the inputs in the folder")
    parser.add_argument("-o", dest="output", type=Path, help="result file to write")
    parser.add_argument("--soupctl", default=shlex.quote(beside), help="the command to measure")
    parser.add_argument("--rival-python", default=sys.executable, help="a Python that has torch")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.cases if name not in names]:
        parser.error(f"no such case: {', '.join(unknown)}; there are {', '.join(names)}")
    for command in (shlex.split(options.soupctl)[0], options.rival_python):
        if shutil.which(command) is None:
            parser.error(f"no such command: {command}")
    if options.runs is not None and options.runs < 1:
        parser.error("--runs must be at least 1")
    for folder in (options.folder, options.output and options.output.parent):
        if folder is not None and not folder.is_dir():
            parser.error(f"no such folder: {folder}")
    return options


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
