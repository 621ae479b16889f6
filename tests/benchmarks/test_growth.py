"""The growth of time is measured against the limit, point by point, and drawn."""

from __future__ import annotations

import json
import sys
from shlex import quote

import growth
import growth_plot
import limit
import pytest


@pytest.mark.skipif(limit.compiler() is None, reason="the limit needs a C compiler")
def test_a_point_is_measured_against_the_limit(tmp_path, monkeypatch, capsys):
    small = growth.Point("tensors", 3, ((2, 8), (1, 5)), options=("--keep-sum",), cold=True)
    monkeypatch.setattr(growth, "points", lambda: [small, growth.Point("others", 1, ())])
    result, plot = tmp_path / "result.json", tmp_path / "plot.png"
    words = ["--pairs", "1", "--folder", str(tmp_path), "-o", str(result), "--plot", str(plot)]
    assert growth.main(["tensors", *words, "--soupctl", f"{quote(sys.executable)} -m soupctl"]) == 0
    shown = capsys.readouterr().out
    assert "wall ratio" in shown
    assert "tensors" in shown
    (point,) = json.loads(result.read_text())["points"]
    assert point["series"] == "tensors"
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert not [*tmp_path.glob("*/*.safetensors")]

    again = tmp_path / "again.png"
    assert growth.main(["--redraw", str(result), "--plot", str(again)]) == 0
    assert again.read_bytes() == plot.read_bytes()
    assert capsys.readouterr().out == shown


def test_each_panel_has_points_and_each_point_is_of_one_series():
    points = growth.points()
    series = {point.series for point in points}
    assert {name for panel in growth_plot.PANELS for name, _ in panel.series} <= series
    assert len({(point.series, point.x) for point in points}) == len(points)


def test_a_series_that_is_not_there_is_refused(capsys):
    with pytest.raises(SystemExit):
        growth.main(["elephants"])
    assert "elephants" in capsys.readouterr().err
