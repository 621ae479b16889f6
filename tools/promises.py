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
KINDS = "not gpu"
"""What runs: a process compiles kernels or interprets them, so those for a GPU run apart."""
LONGEST = 3600
"""Seconds that one test may take, also on a busy machine."""


@dataclass(frozen=True)
class Promise:
    """What is promised, and the tests that try it.

    A test is a file or folder; after `::` follows a part of the names of those meant in it.
    """

    text: str
    tests: tuple[str, ...]


PROMISES = {
    "P1": Promise(
        "A file is used only if it follows every rule of the format, and no name occurs twice.",
        (
            "tests/format",
            "tests/attacks/test_header_attacks.py",
            "tests/attacks/test_header_fuzz.py",
        ),
    ),
    "P2": Promise(
        "Only safetensors files are opened as weights; no code from an input is run, "
        "soupctl never asks whether to run it, and downloads nothing that no address names.",
        ("tests/attacks/test_foreign_files.py", "tests/training/test_no_code.py"),
    ),
    "P3": Promise(
        "A folder cannot refer to files outside itself; links of the Hugging Face cache work.",
        (
            "tests/format/test_index.py",
            "tests/cli/test_refused_inputs.py::outside",
            "tests/merge/test_companion_files.py",
            "tests/training/test_base_files.py",
        ),
    ),
    "P4": Promise(
        "Only regular files and pipes are read, and nothing hangs.",
        ("tests/cli/test_refused_inputs.py", "tests/checkpoints", "tests/storage/test_files.py"),
    ),
    "P5": Promise(
        "An output appears whole or not at all, and an existing output survives any "
        "failure or kill.",
        ("tests/fault", "tests/cli/test_faults.py", "tests/cli/test_sum_faults.py"),
    ),
    "P6": Promise(
        "When a command returns 0, its output is on the disk: data, then name, then folder.",
        ("tests/fault/test_publishing_faults.py::synced",),
    ),
    "P7": Promise(
        "Inputs are never changed; an input that changes during the work or cannot be "
        "read is an error, not a wrong soup.",
        (
            "tests/cli/test_read_faults.py",
            "tests/cli/test_signals.py::an_input",
            "tests/storage/test_reader.py",
            "tests/checkpoints/test_safetensors.py::changes",
        ),
    ),
    "P8": Promise("Nothing is left behind.", ("tests/storage",)),
    "P9": Promise(
        "A signal ends a command with the documented code; a closed pipe causes no "
        "message, and a full stdout is an error.",
        ("tests/cli/test_signals.py", "tests/cli/test_streams.py"),
    ),
    "P10": Promise(
        "If several commands write one output at the same time, no change is lost: with "
        "`-f` the last one wins, and without it the later ones are refused.",
        (
            "tests/merge/test_concurrent_changes.py",
            "tests/storage/test_lock.py",
            "tests/storage::writers",
            "tests/cli/test_written_files.py::writers_at_once",
        ),
    ),
    "P11": Promise(
        "Permission bits follow the umask, and an existing output keeps its own.",
        ("tests/storage::permission_bits", "tests/cli/test_written_files.py::the_mode"),
    ),
    "P12": Promise(
        "A soup is the exact weighted mean, rounded once, whatever the engine, the kinds of"
        " tensors and their names; nothing is broadcast, and NaN is refused.",
        (
            "tests/engines",
            "tests/property/test_average_property.py",
            "tests/property/test_kinds_property.py",
            "tests/property/test_mixtures_property.py",
        ),
    ),
    "P13": Promise(
        "A ledger is verified, never trusted; altered and forged ones are refused.",
        (
            "tests/ledger",
            "tests/attacks/test_ledger_attacks.py",
            "tests/attacks/test_sum_attacks.py",
            "tests/merge/test_tampering.py",
            "tests/merge/test_forged_choices.py",
            "tests/merge/test_contradicting_ledgers.py",
        ),
    ),
    "P14": Promise(
        "No control character in a file or a name reaches the terminal.",
        ("tests/cli/test_streams.py::terminal", "tests/cli/test_streams.py::shown"),
    ),
    "P15": Promise(
        "Memory and open files do not grow with the size of checkpoints, limits are kept,"
        " and the work grows linearly with the input.",
        (
            "tests/cli/test_limits.py",
            "tests/cli/test_memory_limits.py",
            "tests/cli/test_disks.py",
            "tests/cli/test_descriptors.py",
            "tests/cli/test_many_ingredients.py",
            "tests/merge/test_opened_once.py",
        ),
    ),
    "P16": Promise(
        "The same inputs give the same bytes, from one version of soupctl to the next.",
        ("tests/cli/test_golden_bytes.py", "tests/cli/test_words.py::equal"),
    ),
    "P17": Promise(
        "Any sequence of add, subtract and swap gives the bytes of one avg of what remains.",
        (
            "tests/property/test_lifecycle_property.py",
            "tests/property/test_pipeline_property.py",
            "tests/property/test_block_lifecycle_property.py",
            "tests/property/test_applied_lifecycle_property.py",
            "tests/property/test_scaled_lifecycle_property.py",
            "tests/merge/test_revise.py",
        ),
    ),
    "P18": Promise(
        "Any input and any command line is accepted, or refused in one line with a "
        "documented code, never with a traceback.",
        (
            "tests/attacks/test_reader_fuzz.py",
            "tests/attacks/test_option_fuzz.py",
            "tests/training/test_option_fuzz.py",
            "tests/training/test_base_configs.py",
        ),
    ),
    "P19": Promise(
        "A run trains from what its record names: a base or image that changes is "
        "refused, and so is an image that would take too much memory.",
        (
            "tests/training/test_base_files.py",
            "tests/training/test_image_bounds.py",
            "tests/training/test_resume.py",
        ),
    ),
    "P20": Promise(
        "A soup of checkpoints on servers, or one made in parts, has the bytes of one that is "
        "made at once from files on disk; other answers, versions and parts are refused.",
        (
            *(
                f"tests/checkpoints/test_remote{of}.py"
                for of in ("", "_answers", "_buckets", "_redirects")
            ),
            "tests/merge/test_parts.py",
            "tests/merge/test_parts_from_the_hub.py",
            "tests/merge/test_parts_refused.py",
        ),
    ),
}

HEAD = """# Promises

What soupctl promises, the tests that check it, and how much they tried in the last run.

- A case is a test that passed, and an example is an input that Hypothesis made.
- A fault is a failing file operation; kills and signals are those sent to a running command.
- A forged field is a changed value in a ledger, or in the record of a kept sum, with all digests
  recomputed; an altered text has a wrong digest.

`FILE::TEXT` stands for the tests in that file whose names contain the text. Tests that need a GPU
are not counted. [tests/attacks](../tests/attacks/README.md) describes longer searches and what they
found.

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
    ordered = sorted(counts.items(), key=lambda each: (each[0] != "cases", each[0]))
    often = ", ".join(f"{count:,} {what}" for what, count in ordered if count)
    return f"| {name}. {promise.text} | {tests} | {often or 'not counted'} |\n"


def counted(reports: Iterable[Path]) -> dict[str, dict[str, int]]:
    """The counts of each promise whose tests all ran, and passed, in runs with --junitxml."""
    cases = [case for path in reports for case in ElementTree.parse(path).iter("testcase")]  # noqa: S314
    found = {}
    for name, promise in PROMISES.items():
        own = [[case for case in cases if _is_of(case, test)] for test in promise.tests]
        # a case that two of them mean is one
        flat = {id(case): case for some in own for case in some}.values()
        failed = any(case.find(kind) is not None for case in flat for kind in ("failure", "error"))
        if all(own) and not failed:
            found[name] = _counts(flat)
    return found


def _is_of(case: ElementTree.Element, test: str) -> bool:
    file, _, part = test.partition("::")
    place = file.removesuffix(".py").split("/")
    own = case.get("classname", "").split(".")
    return own[: len(place)] == place and part in case.get("name", "")


def _counts(cases: Iterable[ElementTree.Element]) -> dict[str, int]:
    counts = Counter[str]()
    for case in cases:
        counts["skipped" if case.find("skipped") is not None else "cases"] += 1
        for each in case.iter("property"):
            counts[each.get("name", "")] += int(each.get("value", "0"))
    return dict(counts)


def run(names: Iterable[str]) -> Path:
    """The report of the tests of these promises."""
    wanted = {test.partition("::")[0] for name in names for test in PROMISES[name].tests}
    # a folder holds its files
    tests = [test for test in sorted(wanted) if not wanted & {*map(str, Path(test).parents)}]
    report = Path(tempfile.mkdtemp(), "report.xml")
    words = ["-n", "2", "-q", "-m", KINDS, "-o", f"timeout={LONGEST}", f"--junitxml={report}"]
    subprocess.run([sys.executable, "-m", "pytest", *words, *tests], cwd=ROOT, check=False)  # noqa: S603
    return report


def main(words: list[str]) -> str | None:
    """Count anew, and write the page; what to say if a promise is left without a count."""
    given = words[:1] == ["--from"]
    reports = [*map(Path, words[1:])] if given else [run(words or PROMISES)]
    # what ran now and did not pass keeps no count of a run before
    anew = () if given else words or PROMISES
    before = json.loads(COUNTS.read_text()) if COUNTS.exists() else {}
    kept = {name: before[name] for name in before if name in PROMISES and name not in anew}
    counts = kept | counted(reports)
    COUNTS.write_text(json.dumps(counts, indent=2, sort_keys=True) + "\n")
    PAGE.write_text(page(counts))
    missing = [name for name in PROMISES if name not in counts]
    return f"no run of all tests passed for {', '.join(missing)}" if missing else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
