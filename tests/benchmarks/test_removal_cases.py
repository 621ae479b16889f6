"""Removal is measured against re-averaging, from the same soup and in clean surroundings."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import run
import trial
from cases import CASES, Case, Versus
from checkpoints import Ingredients
from files import Files, sums_of, total_bytes
from gate import RedGate
from subjects import Subjects

# a soupctl in which a soup is the XOR of its ingredients, and so is its sum: removal is exact
FAKE = """
import argparse, hashlib, json, sys
from functools import reduce
from operator import xor
from pathlib import Path
fault, verb = sys.argv[1:3]
parser = argparse.ArgumentParser()
parser.add_argument("paths", nargs="+", type=Path)
parser.add_argument("-o", type=Path)
parser.add_argument("--keep-sum", action=argparse.BooleanOptionalAction)
parser.add_argument("--threads", default="2")
parser.add_argument("--json", action="store_true")
options = parser.parse_args(sys.argv[3:])
contents = [path.read_bytes() for path in options.paths]
if verb == "hash":
    digest = hashlib.sha256(contents[0]).hexdigest()
    print(json.dumps({"digests": [{"digest": digest, "path": ""}]}))
    sys.exit()
if options.o.exists() or list(options.o.parent.glob(options.o.name + ".*")):
    sys.exit("the run before has left something")
if verb == "subtract":
    (kept,) = options.paths[0].parent.glob(options.paths[0].name + ".*.sum")
    contents[0] = kept.read_bytes()
soup = bytearray(reduce(xor, (int.from_bytes(content) for content in contents)).to_bytes(1 << 21))
if verb == "subtract" and fault == "a trace":
    soup[-1] ^= 1
if verb == "avg" and fault == "another average" and not options.keep_sum:
    soup[-1] ^= 1
options.o.write_bytes(soup)
if options.keep_sum:
    if fault == "threads":
        soup += options.threads.encode()
    options.o.with_name(options.o.name + ".0123.sum").write_bytes(soup)
"""


def small(name: str) -> Case:
    """A case of the registry, on checkpoints of 1 MB."""
    case = next(case for case in CASES if case.name == name)
    assert case.ingredients is not None
    return replace(case, ingredients=replace(case.ingredients, layout="1mb"))


def faulty(folder: Path, fault: str) -> Subjects:
    """The subjects with a soupctl that has one fault."""
    script = folder / "fake.py"
    script.write_text(FAKE)
    return Subjects((sys.executable, str(script), fault), sys.executable)


REMOVALS = [case.name for case in CASES if case.versus is Versus.REAVERAGING]
KEEPINGS = [case.name for case in CASES if case.versus is Versus.PLAIN]


@pytest.mark.parametrize("name", REMOVALS)
def test_a_case_that_leaves_a_trace_of_the_removed_ingredient_is_refused(
    name: str, tmp_path: Path
) -> None:
    with pytest.raises(RedGate, match=f"{name}: re-averaging gives another content"):
        trial.measured(small(name), faulty(tmp_path, "a trace"), tmp_path, runs=1)


@pytest.mark.parametrize("name", KEEPINGS)
def test_a_soup_that_depends_on_whether_its_sum_is_kept_refuses_the_case(
    name: str, tmp_path: Path
) -> None:
    with pytest.raises(RedGate, match=f"{name}: plain average gives another content"):
        trial.measured(small(name), faulty(tmp_path, "another average"), tmp_path, runs=1)


@pytest.mark.parametrize("name", ["keep-sum-2", "subtract-8-keep"])
def test_a_sum_that_depends_on_the_threads_refuses_the_case(name: str, tmp_path: Path) -> None:
    with pytest.raises(RedGate, match=f"{name}: the output depends on the threads"):
        trial.measured(small(name), faulty(tmp_path, "threads"), tmp_path, runs=1)


@pytest.mark.parametrize("name", [*REMOVALS, *KEEPINGS])
def test_every_run_begins_with_no_output_and_no_sum(name: str, tmp_path: Path) -> None:
    """The fake refuses otherwise; what it left at the end is gone as well."""
    result = trial.measured(small(name), faulty(tmp_path, "none"), tmp_path, runs=2)

    assert 2 == len(result.ours) == len(result.theirs)
    assert [] == sorted(tmp_path.glob("benchmark-out*"))


@pytest.mark.parametrize(
    ("name", "read", "written"), [("subtract-8", 2, 1), ("subtract-8-keep", 2, 2)]
)
def test_removal_reads_the_soup_its_sum_and_the_removed_ingredient_only(
    name: str, read: int, written: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cold from the byte on at which both sides' files exceed half of memory."""
    case = small(name)
    assert case.ingredients is not None
    soup = 1 << 21
    size = case.ingredients.file_bytes()
    both = 8 * size + (2 + written) * soup
    found = {}
    for memory in (2 * both, 2 * both - 2):
        monkeypatch.setattr(trial, "memory_bytes", lambda memory=memory: memory)
        result = trial.measured(case, faulty(tmp_path, "none"), tmp_path, runs=1)
        found[memory] = result.page_cache.split()[0]

    assert read * soup + size == result.bytes_read
    assert written * soup == result.bytes_written
    assert {2 * both: "warm", 2 * both - 2: "cold"} == found


def test_the_last_is_taken_out_and_the_others_are_averaged_again(tmp_path: Path) -> None:
    case = small("subtract-4")
    files = Files.of(case, tmp_path)
    subjects = Subjects(("soupctl",), sys.executable)
    names = [f"{tmp_path}/1mb-f16-{index:03}.safetensors" for index in range(4)]
    soup, out = f"{tmp_path}/1mb-f16-soup-of-4.safetensors", str(files.out)

    assert ["soupctl", "avg", *names[:3], "-o", out] == subjects.theirs(Versus.REAVERAGING, files)
    ours = subjects.ours(case.command, files)
    assert ["soupctl", "subtract", soup, names[3], "-o", out, "--no-keep-sum"] == ours


def test_a_removal_is_compared_by_gain_and_a_kept_sum_by_cost() -> None:
    assert "re-averaging / soupctl" == Versus.REAVERAGING.ratio_name
    assert "soupctl / plain average" == Versus.PLAIN.ratio_name


def test_soupctl_itself_takes_an_ingredient_out_as_measured(tmp_path: Path) -> None:
    """From the soup that was made, with its sum, to the bytes of the average of the others."""
    case = replace(small("subtract-8-keep"), ingredients=Ingredients("1mb", "F16", 3))
    subjects = Subjects((sys.executable, "-m", "soupctl"), sys.executable)
    result = trial.measured(case, subjects, tmp_path, runs=1)
    files = Files.of(case, tmp_path)
    assert files.soup is not None
    (kept,) = sums_of(files.soup)

    assert total_bytes([files.soup, kept, files.inputs[-1]]) == result.bytes_read
    assert kept.stat().st_size < result.bytes_written
    assert 1 == len(result.ours) == len(result.theirs)


def test_a_soup_is_made_anew_in_every_run_and_does_not_outlive_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also with --keep: the next run may measure another soupctl."""
    monkeypatch.setattr(run, "CASES", (small("subtract-8"), small("subtract-8-keep")))
    monkeypatch.setattr(run, "require_right_numbers", lambda soupctl, folder: 1)
    soupctl = shlex.join(faulty(tmp_path, "none").soupctl)
    data = tmp_path / "data"
    data.mkdir()
    (data / "1mb-f16-soup-of-8.safetensors").write_bytes(b"of an earlier soupctl")
    arguments = ["--runs", "1", "--keep", "--folder", str(data), "--soupctl", soupctl]

    assert 0 == run.main([*arguments, "-o", str(tmp_path / "result.json")])
    capsys.readouterr()
    assert 8 == len(list(data.iterdir()))
    assert [] == list(data.glob("*soup*"))
    result = json.loads((tmp_path / "result.json").read_text())
    assert ["subtract-8", "subtract-8-keep"] == [case["case"] for case in result["cases"]]


def test_not_enough_disk_for_a_soup_and_its_sum_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight inputs, a soup and an output, and a sum of at most one float64 an element of each."""
    case = small("subtract-8-keep")
    assert case.ingredients is not None
    sums = 2 * 8 * 16 * 128 * 256
    needed = 10 * case.ingredients.file_bytes() + sums
    subjects = Subjects(("soupctl",), sys.executable)
    usage = SimpleNamespace(free=needed)
    monkeypatch.setattr(run.shutil, "disk_usage", lambda folder: usage)

    assert run._obstacle(case, subjects, tmp_path) is None
    usage.free -= 1
    assert "GB of disk" in (run._obstacle(case, subjects, tmp_path) or "")
