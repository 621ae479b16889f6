"""A sweep makes the files that averages with those weights make, from one pass over the inputs."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from making import files, save, save_pipeline
from revising import average

import soupctl.merge.terms
from soupctl import verbs
from soupctl.errors import OutputError, UsageError
from soupctl.verbs import Request, ShareRange, Sweep, parse_range


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """Two checkpoints of one name in two folders, in the working folder."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(5)
    for name, kind in (("x/m.st", np.float16), ("y/m.st", np.float32)):
        save(Path(name), w=generator.normal(0, 1, 999).astype(kind), v=np.ones((2, 3), np.float16))


def swept(text: str, *inputs: object, **options: object) -> Sweep:
    request = Request(list(inputs or ("x/m.st", "y/m.st")), "mix-{t}.st", **options)
    return Sweep(request, parse_range(text))


def test_every_soup_is_the_file_of_an_average_with_its_weights():
    made = verbs.sweep(swept("-0.5:1:0.25"))

    assert [Fraction(n, 4) for n in range(-2, 5)] == list(made)
    for share in made:
        pairs = [("x/m.st", 1 - share), ("y/m.st", share)]
        average("one.st", *((path, weight) for path, weight in pairs if weight), force=True)
        name = f"mix-{float(share):g}.st"
        assert Path("one.st").read_bytes() == Path(name).read_bytes(), name


def test_every_input_is_read_once(monkeypatch):
    read = []
    inner = soupctl.merge.terms.DenseTerm.read

    def counting(self, start: int, stop: int) -> int:
        moved = inner(self, start, stop)
        read.append(moved)
        return moved

    monkeypatch.setattr(soupctl.merge.terms.DenseTerm, "read", counting)
    verbs.sweep(swept("0.1:0.9:0.1"))
    assert 999 * (2 + 4) + 2 * 6 * 2 == sum(read)


def test_pipelines_are_swept_whole():
    for number, name in enumerate("pq"):
        save_pipeline(Path(name), number)
    request = Request(["p", "q"], "mix-{t}")
    verbs.sweep(Sweep(request, ShareRange(Fraction(0), Fraction(1), Fraction(1, 2))))

    average("half", "p", "q")
    average("first", "p")
    assert files(Path("first")) == files(Path("mix-0"))
    # equal weights of 1/2 are written as they are asked
    assert files(Path("half")).keys() == files(Path("mix-0.5")).keys()
    assert [each.digest for each in verbs.content_digests("half")] == [
        each.digest for each in verbs.content_digests("mix-0.5")
    ]


def test_shares_without_an_exact_decimal_are_named_as_fractions():
    verbs.sweep(swept("0:1:1/3"))

    assert ["mix-0.st", "mix-1-3.st", "mix-1.st", "mix-2-3.st"] == sorted(
        path.name for path in Path().glob("mix*")
    )


def test_nothing_is_made_if_one_output_exists():
    Path("mix-0.5.st").write_text("old")

    with pytest.raises(OutputError, match=r"mix-0\.5\.st: exists"):
        verbs.sweep(swept("0:1:0.5"))
    assert ["mix-0.5.st"] == [path.name for path in Path().glob("mix*")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0:1", "is not START:STOP:STEP"),
        ("0:1:0", "needs a positive step"),
        ("1:0:0.1", "needs a positive step"),
        ("0:1:0.001", "makes 1001 soups, and at most 256 are possible"),
        ("0:1:x", "'x' is not a weight"),
    ],
)
def test_a_range_that_leads_nowhere_or_too_far_is_refused(text, message):
    with pytest.raises(UsageError, match=message):
        parse_range(text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks": "GRAD_V"}, "leave out --blocks"),
        ({"keep_sum": True}, "leave out --keep-sum"),
    ],
)
def test_options_that_a_sweep_cannot_use_are_refused(options, message):
    with pytest.raises(UsageError) as caught:
        swept("0:1:0.5", **options)
    assert message in caught.value.message()


def test_a_sweep_is_of_two_inputs_without_weights_and_with_a_name_for_each_output():
    weighted = verbs.Ingredient("x/m.st", Fraction(2))
    for inputs, message in (
        (["x/m.st"], "a sweep mixes two checkpoints, and 1 are given"),
        (["x/m.st", "y/m.st", "x/m.st"], "a sweep mixes two checkpoints, and 3 are given"),
        ([weighted, "y/m.st"], "range gives the weights"),
    ):
        with pytest.raises(UsageError, match=message):
            swept("0:1:0.5", *inputs)
    for output in ("-", "mix.st"):
        with pytest.raises(UsageError):
            Sweep(Request(["x/m.st", "y/m.st"], output), parse_range("0:1:0.5"))
