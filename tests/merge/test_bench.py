"""A benchmark tells medians of its own work beside plain loops, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from making import files, save, save_pipeline

from soupctl import verbs
from soupctl.errors import InputError, MismatchError, OutputError, UsageError
from soupctl.merge import bench

SIZE = 100


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("made").mkdir()
    for number, name in enumerate("ab"):
        save(Path(f"{name}.st"), w=np.full(SIZE, number, np.float32))


def measured(*paths, rounds=1):
    found = verbs.measure_speed(paths or ("a.st", "b.st"), rounds=rounds, folder=Path("made"))
    return {each.work: each for each in found}


def test_every_byte_that_is_read_or_written_counts():
    before = files(Path())

    found = measured()

    read = sum(Path(name).stat().st_size for name in ("a.st", "b.st"))
    assert [read, read] == [found["read"].size, found["hash"].size]
    assert found["write"].size > 4 * SIZE
    assert read + found["write"].size == found["average"].size
    assert ["read", "write"] == [each.work for each in found.values() if each.is_plain]
    assert before == files(Path())
    assert [] == [*Path("made").iterdir()]


def test_figures_are_medians_beside_the_plain_loops_of_the_same_run(monkeypatch):
    # three rounds of read, write, hash and average; the second is slow
    seconds = [1, 2, 4, 6, 90, 90, 90, 90, 1, 2, 4, 6]
    moments = [0.0]
    for each in seconds:
        moments += [moments[-1], moments[-1] + each]
    clock = iter(moments[1:])
    monkeypatch.setattr(bench, "perf_counter", lambda: next(clock))

    found = measured(rounds=3)

    assert [1, 2, 4, 6] == [each.seconds for each in found.values()]
    assert [1, 1, 1 / 4, 3 / 6] == [each.share for each in found.values()]
    assert found["hash"].rate == found["hash"].size / 4


def test_the_plain_loop_reads_every_byte_of_every_file(monkeypatch):
    monkeypatch.setattr(bench, "PIECE", 128)
    read = []
    preadv = bench.os.preadv

    def counted(fd, buffers, start):
        read.append(preadv(fd, buffers, start))
        return read[-1]

    monkeypatch.setattr(bench.os, "preadv", counted)
    bench._read([Path("a.st"), Path("b.st")], 2)

    assert sum(Path(name).stat().st_size for name in ("a.st", "b.st")) == sum(read)
    assert len(read) > 2


def test_pipelines_are_measured_with_all_components():
    for seed, name in enumerate(("one", "two")):
        save_pipeline(Path(name), seed)

    found = measured("one", "two")

    weights = [path for name in ("one", "two") for path in Path(name).rglob("*.safetensors")]
    assert sum(path.stat().st_size for path in weights) == found["read"].size
    assert [] == [*Path("made").iterdir()]


def test_no_rounds_are_refused():
    with pytest.raises(UsageError, match="at least one round"):
        verbs.measure_speed(["a.st"], rounds=0)


@pytest.mark.parametrize(
    ("paths", "folder", "error", "said"),
    [
        (("a.st", "-"), "made", UsageError, "standard input is read once"),
        (("nowhere.st",), "made", InputError, "nowhere.st: cannot be read"),
        (("a.st", "c.st"), "made", MismatchError, "c.st"),
        (("a.st",), "nowhere", OutputError, "nowhere: cannot be written"),
    ],
)
def test_what_cannot_be_measured_is_refused(paths, folder, error, said):
    save(Path("c.st"), other=np.ones(3, np.float32))

    with pytest.raises(error) as raised:
        verbs.measure_speed(paths, folder=Path(folder))

    assert said in str(raised.value)
    assert [] == [*Path("made").iterdir()]
