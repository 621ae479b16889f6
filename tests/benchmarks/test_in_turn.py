"""Commands are compared in turn, each with its own limit."""

from __future__ import annotations

import json
import sys
from functools import partial
from shlex import quote

import in_turn
import limit
import other_limits
import pytest


@pytest.mark.parametrize(
    ("pairs", "expected"), [(1, [1, 0]), (2, [1, 0, 0, 1]), (4, [1, 0, 0, 1, 1, 0, 0, 1])]
)
def test_neither_side_is_always_the_first(pairs, expected):
    assert in_turn.turns(pairs) == expected


def test_runs_are_paired_in_their_order_without_the_warm_up(monkeypatch):
    clock = iter([5.0, 4.0, 9.0, 8.0, 1.0, 2.0, 3.0, 9.0])

    def timed(command):
        wall = next(clock)
        return in_turn.Duration(wall, wall / 4, wall / 4)

    monkeypatch.setattr(in_turn, "timed", timed)
    cold = in_turn.in_turn(["ours"], ["limit"], 1, lambda: None, warm_up=False)
    assert (cold.ours[0].wall, cold.limits[0].wall) == (4.0, 5.0)
    called = []
    record = in_turn.in_turn(["ours"], ["limit"], 2, lambda: called.append(1)).as_json()
    assert len(called) == 6
    # the second pair begins with soupctl, the third with the limit
    assert (record["wall_s"], record["limit_wall_s"]) == ([1.0, 9.0], [2.0, 3.0])
    assert record["ratio"] == {"median": 1.75, "smallest": 0.5, "largest": 3.0}
    assert record["cpu_s"] == [0.5, 4.5]
    assert in_turn.cells(record)[:3] == ["5.00 s", "2.50 s", "2.50 s"]


@pytest.mark.skipif(limit.compiler() is None, reason="the limit needs a C compiler")
def test_each_command_runs_against_a_limit_that_reads_and_writes_as_it_must(
    tmp_path, capsys, monkeypatch
):
    # a warm-up runs the same once more
    monkeypatch.setattr(other_limits, "in_turn", partial(in_turn.in_turn, warm_up=False))
    result = tmp_path / "result.json"
    words = ["--pairs", "1", "--tensors", "1", "--folder", str(tmp_path), "-o", str(result)]
    assert other_limits.main([*words, "--soupctl", f"{quote(sys.executable)} -m soupctl"]) == 0
    assert "reads the four ingredients, writes four soups" in capsys.readouterr().out
    records = json.loads(result.read_text())["commands"]
    assert [each["command"] for each in records] == [each.name for each in other_limits.COMMANDS]
    # a Python process alone takes some
    assert all(1 < each["anonymous_mib"] < 1000 for each in records)
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_without_a_compiler_nothing_is_measured_and_it_is_said(monkeypatch, capsys):
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(SystemExit):
        other_limits.main([])
    assert "C compiler" in capsys.readouterr().err


@pytest.mark.skipif(limit.compiler() is None, reason="the limit needs a C compiler")
@pytest.mark.parametrize("threads", ["1", "3"])
def test_a_limit_writes_each_output_with_any_number_of_threads(tmp_path, threads):
    paths = [tmp_path / name for name in ("short", "long")]
    for path, size in zip(paths, (700_001, 1_000_003), strict=True):
        path.write_bytes(bytes(size))
    outputs = [tmp_path / "one", tmp_path / "two"]
    in_turn.timed(limit.command(paths, outputs, int(threads)))
    assert [path.stat().st_size for path in outputs] == [700_001] * 2
