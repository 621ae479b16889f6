"""Ratios, targets, footprints and tables say what was measured."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import limit
import measure
import pagecache
import pytest
from cases import CASES, INPUTS, OUT, SOUP, Measure, Target, Versus
from compare import comparison_table
from figures import Ratio, paired_ratio, seconds, table
from machine import filesystem
from measure import CommandFailed, timed, watched
from subjects import Subjects

MEGABYTES = 64


def test_ratios_are_taken_pair_by_pair() -> None:
    """A disturbance that hits both of a pair leaves its ratio as it is."""
    assert Ratio(2.0, 1.5, 3.0) == paired_ratio([2, 20, 3, 3], [1, 10, 2, 1])


def test_a_pair_without_its_other_half_is_an_error() -> None:
    """Runs are never dropped in silence."""
    with pytest.raises(ValueError, match="shorter"):
        paired_ratio([1.0, 2.0], [1.0])


def test_a_missed_target_says_by_how_much() -> None:
    """From above and from below."""
    assert "median ratio 2.5, target <= 2: MISSED by 25%" == Target(Measure.RATIO, 2).verdict(2.5)
    assert Target(Measure.RATIO, 3, at_least=True).verdict(1.5).endswith("MISSED by 50%")


@pytest.mark.parametrize(("value", "met"), [(1.9, True), (2.0, True), (2.001, False)])
def test_a_target_is_met_up_to_its_bound(value: float, met: bool) -> None:
    """The bound itself keeps it; for `at_least` the other side does."""
    assert met is Target(Measure.RATIO, 2).met(value)
    assert (not met or value == 2) is Target(Measure.RATIO, 2, at_least=True).met(value)


def test_times_read_well() -> None:
    """Milliseconds below a second."""
    assert ["4 ms", "950 ms", "1.25 s"] == [seconds(value) for value in (0.004, 0.95, 1.25)]


def test_a_table_is_aligned() -> None:
    """Every column begins at one place, and no line ends in blanks."""
    lines = table(["a", "b"], [["long cell", "1"], ["x", ""]]).splitlines()

    assert ["a          b", "---------  -", "long cell  1", "x"] == lines


def test_a_footprint_is_anonymous_memory_and_open_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mapped and touched file is not counted, what the process allocates is."""
    path, holds, looked = (tmp_path / name for name in ("mapped", "holds", "looked"))
    path.write_bytes(bytes(MEGABYTES << 20))
    count, held_before = measure._anonymous_kib, [False]

    def counted(status: str) -> int:
        # this look began after all was held
        if held_before[0]:
            looked.touch()
        held_before[0] = holds.exists() and not looked.exists()
        return count(status)

    monkeypatch.setattr(measure, "_anonymous_kib", counted)
    begin = f"import mmap, os, time; file = open({str(path)!r}, 'rb'); "
    touch = "view = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ); sum(view[::4096]); "
    wait = f"os.mkdir({str(holds)!r})\nwhile not os.path.exists({str(looked)!r}): "
    wait += "time.sleep(0.001)"
    allocate = f"held = b'x' * ({MEGABYTES} << 20); "
    more_files = "files = [os.dup(0) for _ in range(20)]; "
    mapped = watched([sys.executable, "-c", begin + touch + wait])
    holds.rmdir()
    looked.unlink()
    holding = watched([sys.executable, "-c", begin + touch + allocate + more_files + wait])

    assert mapped.anonymous_mib < MEGABYTES / 2
    assert MEGABYTES <= holding.anonymous_mib - mapped.anonymous_mib + 1 <= MEGABYTES + 4
    assert 20 == holding.open_files - mapped.open_files


def test_a_duration_holds_processor_and_waiting_time() -> None:
    """A process that sleeps takes wall time and little of the processor."""
    duration = timed([sys.executable, "-c", "import time; time.sleep(0.3)"])

    assert duration.wall >= 0.3
    assert duration.user + duration.system < duration.wall


@pytest.mark.parametrize("measure", [timed, watched])
def test_a_command_that_fails_is_no_measurement(measure: object) -> None:
    """Its code and its last words are in the refusal."""
    with pytest.raises(CommandFailed, match="ended with 3: broken"):
        measure([sys.executable, "-c", "import sys; print('broken', file=sys.stderr); sys.exit(3)"])  # type: ignore[operator]


def test_an_evicted_file_is_cold_and_a_read_file_warm(tmp_path: Path) -> None:
    """What is called cold or warm has been looked at."""
    path = tmp_path / "file"
    path.write_bytes(os.urandom(1 << 20))
    pagecache.warm([path])

    assert 1.0 == pagecache.resident_share([path])
    if filesystem(tmp_path) == "tmpfs":
        pytest.skip("a filesystem in memory has nothing to evict to")
    assert 0.0 == pagecache.evict([path])


@pytest.mark.skipif(limit.compiler() is None, reason="there is no C compiler")
def test_the_limit_reads_all_inputs_and_writes_as_much_as_one_has(tmp_path: Path) -> None:
    """It ends well only if every input is there, and leaves an output of their size."""
    inputs = [tmp_path / "one", tmp_path / "it's two"]
    for path in inputs:
        path.write_bytes(bytes((3 << 19) + 5))
    command = limit.command(inputs, [tmp_path / "out"])
    timed(command)

    assert (3 << 19) + 5 == (tmp_path / "out").stat().st_size
    inputs[1].unlink()
    with pytest.raises(CommandFailed):
        timed(command)


def test_without_a_compiler_the_limit_is_said_to_be_missing(monkeypatch) -> None:
    """A case that needs it is skipped with that reason."""
    monkeypatch.setenv("CC", "no-such-compiler")

    assert "C compiler" in (Subjects(("soupctl",), sys.executable).missing(Versus.LIMIT) or "")


def test_cases_are_consistent() -> None:
    """Names are unique, placeholders have their files, a ratio target has an opponent."""
    assert len(CASES) == len({case.name for case in CASES})
    for case in CASES:
        reads = bool({INPUTS, SOUP} & {*case.command})
        assert reads is (case.ingredients is not None), case.name
        assert case.needs_soup is (case.versus is Versus.REAVERAGING), case.name
        assert OUT in case.command or case.versus in {None, Versus.PYTHON}, case.name
        if any(target.measure is Measure.RATIO for target in case.targets):
            assert case.versus is not None, case.name
        assert case.runs >= 5, case.name


def test_a_comparison_shows_which_figures_became_faster() -> None:
    """Walls, their ratio, memory, and a warning where the machines differ."""

    def result(wall: float, cpu: str) -> dict[str, object]:
        times = {"median": {"wall_s": wall}}
        case = {"case": "x", "soupctl": times, "ratio": None, "peak_anonymous_mib": 60.0}
        return {"cases": [case], "machine": {"cpu": cpu}}

    text = comparison_table(result(3.0, "a"), result(1.5, "b"))

    assert ["x", "3.00", "s", "1.50", "s", "2.00", "60", "->", "60"] == text.splitlines()[2].split()
    assert "machines differ" in text
