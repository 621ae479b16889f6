"""`soupctl diff`: its exit code, its words and its pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from making import save

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def models(soupctl):
    """A base and two fine-tuned checkpoints in the current folder, one of which lost a tensor."""
    random = np.random.default_rng(0)
    names = [f"blocks.{number}.{part}" for number in range(3) for part in ("attn", "mlp")]
    base = {name: random.normal(size=(8, 8)).astype(np.float16) for name in names}
    save(Path("base.st"), None, **base)
    moved = {name: array + np.float16(0.25) for name, array in base.items()}
    save(Path("cats.st"), None, **base | {"blocks.1.mlp": moved["blocks.1.mlp"]})
    empty = {"blocks.2.mlp": np.zeros((8, 8), np.float16), "blocks.0.attn": base["blocks.0.attn"].T}
    kept = {name: array for name, array in (base | empty).items() if name != "blocks.2.attn"}
    save(Path("dogs.st"), None, **{name: np.ascontiguousarray(each) for name, each in kept.items()})


@pytest.mark.usefixtures("models")
def test_the_exit_code_tells_whether_two_checkpoints_are_equal(soupctl):
    Path("same.st").write_bytes(Path("base.st").read_bytes())

    equal = soupctl("diff", "base.st", "same.st")
    assert (0, "base.st and same.st: equal, 6 tensors\n") == (equal.code, equal.text)
    assert 1 == soupctl("diff", "base.st", "cats.st").code
    quiet = soupctl("diff", "base.st", "cats.st", "-q")
    assert (1, b"", b"") == (quiet.code, quiet.out, quiet.err)
    assert 3 == soupctl("diff", "base.st", "none.st").code


@pytest.mark.usefixtures("models")
def test_differences_read_as_expected(soupctl, golden):
    lines = []
    for command in (
        "diff base.st cats.st",
        "diff base.st dogs.st",
        "diff base.st dogs.st --by block",
        "diff cats.st dogs.st --base base.st --matrix",
    ):
        done = soupctl(*command.split())
        assert "" == done.message
        lines += [f"$ soupctl {command}", done.text]
    golden("diff", "\n".join(lines))


@pytest.mark.usefixtures("models")
def test_json_holds_what_the_lines_say(soupctl):
    done = soupctl("diff", "base.st", "dogs.st", "--json")
    (found,) = done.json["components"]

    assert (1, False) == (done.code, done.json["equal"])
    assert [["blocks.2.attn"], []] == found["only_in"]
    tensors = {each["tensor"]: each for each in found["differences"]}
    assert "dogs.st" == tensors["blocks.2.mlp"]["zeros_in"]
    assert tensors["blocks.0.attn"]["transposed"]
    assert ["blocks.0", "blocks.1", "blocks.2"] == [each["block"] for each in found["blocks"]]


@pytest.mark.usefixtures("models")
def test_a_matrix_in_json_has_the_cosine_of_each_two_deltas(soupctl):
    done = soupctl("diff", "cats.st", "dogs.st", "--base", "base.st", "--matrix", "--json")
    (found,) = done.json["components"]

    assert 0 == done.code
    assert pytest.approx(1.0) == found["cosines"][1][1]
    assert 0.0 == found["cosines"][0][1]
    assert (["dogs.st"], ["blocks.2.attn"]) == (found["unrelated"], found["not_compared"])


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("diff base.st", "two checkpoints are compared, not 1"),
        ("diff base.st cats.st dogs.st", "--base BASE --matrix compares the deltas of several"),
        ("diff cats.st dogs.st --matrix", "--base and --matrix go together"),
        ("diff cats.st dogs.st --base base.st", "--base and --matrix go together"),
        ("diff cats.st dogs.st --base base.st --matrix --by block", "--by does not apply"),
        ("diff cats.st --base base.st --matrix", "a matrix is of 2 to 64 checkpoints, not 1"),
        ("diff base.st cats.st -f", "-f needs --plot"),
    ],
)
def test_a_request_that_means_nothing_is_refused(soupctl, command, text):
    done = soupctl(*command.split())

    assert (2, b"") == (done.code, done.out)
    assert text in done.message


@pytest.mark.usefixtures("models")
def test_differences_are_drawn(soupctl):
    pytest.importorskip("matplotlib")
    pytest.importorskip("torch")
    pair = soupctl("diff", "base.st", "dogs.st", "--plot", "pair.png", "-q")
    several = ("diff", "cats.st", "dogs.st", "--base", "base.st", "--matrix", "--plot")
    matrix = soupctl(*several, "matrix.png", "-q")

    assert (1, 0) == (pair.code, matrix.code)
    assert {PNG} == {Path(name).read_bytes()[:8] for name in ("pair.png", "matrix.png")}
    again = soupctl(*several, "matrix.png")
    assert (6, b"") == (again.code, again.out)
    assert 2 == soupctl(*several, "matrix.jpg").code


def test_figures_show_every_block_and_every_cosine():
    pytest.importorskip("matplotlib")
    plots = pytest.importorskip("soupctl.images.difference_plot")
    blocks = [plots.BlockChange("IN00", 0.5, 0.75), plots.BlockChange("OUT", None, None)]

    changes, angles = plots.change_figure("a and b", blocks).get_axes()
    assert ["IN00", "OUT"] == [label.get_text() for label in changes.get_yticklabels()]
    assert [0.5, 0.0] == [bar.get_width() for bar in changes.patches]
    assert [0.25, 1.0] == [bar.get_width() for bar in angles.patches]

    figure = plots.cosine_figure("deltas", ["a" * 50, "b"], [[1.0, -0.5], [-0.5, None]])
    (axes, _scale) = figure.get_axes()
    assert ["1.00", "-0.50", "-0.50"] == [text.get_text() for text in axes.texts]
    assert "..." + "a" * 37 == axes.get_xticklabels()[0].get_text()
