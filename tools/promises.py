"""Write docs/promises.md: each promise, the tests that try it, and how often they did.

    python tools/promises.py               # runs the tests of all promises
    python tools/promises.py P5 P8         # runs those of two, and keeps the counts of the others
    python tools/promises.py --from x.xml  # takes the counts of runs with --junitxml

Rule 1: a count is that of a run whose tests all passed; what was not run has none.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "promises.md"
COUNTS = ROOT / "tests" / "promises.json"
SKIPPED = "not slow and not gpu"


@dataclass(frozen=True)
class Promise:
    """What is promised, and the tests that try it, by their paths."""

    text: str
    tests: tuple[str, ...]


PROMISES = {
    "P1": Promise(
        "A file is believed only after every rule of the format holds, and no name occurs twice.",
        (
            "tests/format",
            "tests/attacks/test_header_attacks.py",
            "tests/attacks/test_header_fuzz.py",
        ),
    ),
    "P2": Promise(
        "Nothing but safetensors is opened as weights; pickles, archives and pages are refused.",
        ("tests/attacks/test_foreign_files.py",),
    ),
    "P3": Promise(
        "What others wrote is read or refused in one line, never a crash.",
        ("tests/attacks/test_reader_fuzz.py",),
    ),
    "P4": Promise(
        "Only regular files and pipes are read, and nothing hangs.",
        ("tests/cli/test_refused_inputs.py", "tests/cli/test_streams.py"),
    ),
    "P5": Promise(
        "An output appears whole or not at all, and an older one survives any failure or kill.",
        (
            "tests/fault",
            "tests/cli/test_faults.py",
            "tests/cli/test_sum_faults.py",
            "tests/cli/test_read_faults.py",
        ),
    ),
    "P8": Promise(
        "Nothing is left behind, and permissions follow the umask or the older file.",
        ("tests/storage",),
    ),
    "P9": Promise(
        "A signal ends a command with its code and leaves nothing; an input that changes meanwhile"
        " is an error.",
        ("tests/cli/test_signals.py",),
    ),
    "P12": Promise(
        "A soup is the exact weighted mean, rounded once, whatever the engine.",
        ("tests/engines", "tests/property/test_average_property.py"),
    ),
    "P13": Promise(
        "A ledger is verified and never believed; altered and forged ones are refused.",
        (
            "tests/ledger",
            "tests/attacks/test_ledger_attacks.py",
            "tests/attacks/test_sum_attacks.py",
        ),
    ),
    "P14": Promise(
        "No odd word on a command line ends in a traceback or an undocumented code.",
        ("tests/attacks/test_option_fuzz.py",),
    ),
    "P15": Promise(
        "Memory and open files do not grow with the size of checkpoints; limits are kept.",
        ("tests/cli/test_limits.py", "tests/cli/test_many_ingredients.py"),
    ),
    "P16": Promise(
        "The same inputs give the same bytes, from one version of soupctl to the next.",
        ("tests/cli/test_golden_bytes.py",),
    ),
    "P17": Promise(
        "Any sequence of add, subtract and swap gives the bytes of one avg of what remains.",
        ("tests/property/test_lifecycle_property.py", "tests/merge/test_revise.py"),
    ),
}

HEAD = """# Promises

What soupctl promises, the tests that try it, and how often they did in the last run.
A case is a test that passed; examples are inputs that Hypothesis made; faults and kills are file
operations that failed, or at which the process was killed. Tests that take over twenty seconds,
or need a GPU, are not counted. What long runs by hand found is in
[tests/attacks](../tests/attacks/README.md).

`python tools/promises.py` runs the tests and writes this page.

| promise | tried by | how often |
|---|---|---|
"""


def page(counts: Mapping[str, Mapping[str, int]]) -> str:
    """The page with these counts."""
    return HEAD + "".join(_row(name, counts.get(name, {})) for name in PROMISES)


def _row(name: str, counts: Mapping[str, int]) -> str:
    promise = PROMISES[name]
    tests = ", ".join(f"`{test}`" for test in promise.tests)
    often = ", ".join(f"{count:,} {what}" for what, count in counts.items())
    return f"| {name}. {promise.text} | {tests} | {often or 'not counted'} |\n"


def counted(reports: Iterable[Path]) -> dict[str, dict[str, int]]:
    """The counts of each promise whose tests all ran, and passed, in runs with --junitxml."""
    cases = [case for path in reports for case in ElementTree.parse(path).iter("testcase")]  # noqa: S314
    found = {}
    for name, promise in PROMISES.items():
        wanted = [tuple(test.removesuffix(".py").split("/")) for test in promise.tests]
        own: list[list[ElementTree.Element]] = [
            [case for case in cases if _place(case)[: len(each)] == each] for each in wanted
        ]
        flat = [case for some in own for case in some]
        failed = any(case.find(kind) is not None for case in flat for kind in ("failure", "error"))
        if all(own) and not failed:
            found[name] = _counts(flat)
    return found


def _place(case: ElementTree.Element) -> tuple[str, ...]:
    return tuple(case.get("classname", "").split("."))


def _counts(cases: Iterable[ElementTree.Element]) -> dict[str, int]:
    counts = Counter[str]()
    for case in cases:
        counts["cases"] += case.find("skipped") is None
        for each in case.iter("property"):
            counts[each.get("name", "")] += int(each.get("value", "0"))
    return dict(counts)


def run(names: Iterable[str]) -> Path:
    """The report of the tests of these promises."""
    tests = [test for name in names for test in PROMISES[name].tests]
    report = Path(tempfile.mkdtemp(), "report.xml")
    words = ["-n", "2", "-q", "-m", SKIPPED, f"--junitxml={report}"]
    subprocess.run([sys.executable, "-m", "pytest", *words, *tests], cwd=ROOT, check=True)  # noqa: S603
    return report


def main(words: list[str]) -> None:
    """Count anew, and write the page."""
    reports = map(Path, words[1:]) if words[:1] == ["--from"] else [run(words or PROMISES)]
    before = json.loads(COUNTS.read_text()) if COUNTS.exists() else {}
    counts = before | counted(reports)
    COUNTS.write_text(json.dumps(counts, indent=2, sort_keys=True) + "\n")
    PAGE.write_text(page(counts))


if __name__ == "__main__":
    main(sys.argv[1:])
