"""Soups that workers make in parts: the same bytes, and refused where workers see other files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inline_workers import InlineWorkers
from making import save
from safetensors.numpy import load_file
from soup_parts import F16, request, save_ingredients, save_quantised

from soupctl import verbs
from soupctl.choices import Level, OnInt
from soupctl.errors import InputError, LedgerError, OutputError, UsageError
from soupctl.merge.parts import spread
from soupctl.verbs import (
    Addition,
    Application,
    DeltaRequest,
    Ingredient,
    Opening,
    ProofQuestion,
    Removal,
    Revision,
)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Three checkpoints of ten tensors, their soup with a kept sum, and one without."""
    monkeypatch.chdir(tmp_path)
    save_ingredients(".weight")
    verbs.average(request("summed.st", keep_sum=True))
    verbs.average(request("plain.st"))
    return tmp_path


def at_once(opening: Callable[..., Any], asked: Any) -> bytes:
    """The bytes of the soup that one process makes, which is removed again."""
    with opening(asked) as job:
        verbs.carry_out(job)
    made = Path("soup.st").read_bytes()
    Path("soup.st").unlink()
    return made


def on_workers(opening: Callable[..., Any], asked: Any, **more: Any) -> Any:
    shared = Opening(opening, asked)
    with shared.job() as job:
        return verbs.make_on_workers(InlineWorkers(), shared, job, **more)


def lora(path: str) -> str:
    """An adapter of one linear layer of the checkpoints."""
    draw = np.random.default_rng(9)
    down, up = draw.normal(0, 1, (2, 7)), draw.normal(0, 1, (4, 2))
    factors = {"lora_A.weight": down.astype(F16), "lora_B.weight": up.astype(F16)}
    save(Path(path), **{f"w3.{name}": each for name, each in factors.items()})
    return path


def delta(path: str) -> str:
    verbs.make_delta(DeltaRequest("b.st", "a.st", path))
    return path


CHANGES = {
    "add": lambda: Revision("add", "plain.st", "soup.st", [Addition("d.st", Fraction(1, 3))]),
    "subtract": lambda: Revision("subtract", "plain.st", "soup.st", removed=[Removal("b.st")]),
    "swap": lambda: Revision("swap", "plain.st", "soup.st", ["d.st"], [Removal("a.st")]),
    "subtract by the sum": lambda: Revision(
        "subtract", "summed.st", "soup.st", removed=[Removal("b.st")], keep_sum=False
    ),
    "approximate": lambda: Revision(
        "subtract", "plain.st", "soup.st", removed=[Removal("b.st")], approximate=True
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_workers_change_a_soup_to_the_same_bytes(place, name):
    save(Path("d.st"), {"format": "pt"}, **dict(safetensors_of("c.st")))
    asked = CHANGES[name]()
    whole = at_once(verbs.open_revision, asked)
    (made,) = on_workers(verbs.open_revision, asked)

    assert whole == Path("soup.st").read_bytes()
    assert "count" in safetensors_of("soup.st")
    assert made.ledger.root == verbs.content_digests("soup.st")[0].digest
    assert not Path("soup.st.parts").exists()


def safetensors_of(path: str) -> dict[str, Any]:
    found = load_file(path)
    return {**found, "w0.weight": found["w0.weight"] * 2}


@pytest.mark.parametrize("what", [delta, lora])
def test_workers_apply_deltas_and_adapters_to_the_same_bytes(place, what):
    given = [Ingredient(what("more.st"), Fraction(2, 3))]
    asked = Application("a.st", given, "soup.st", on_int=OnInt.FIRST)
    whole = at_once(verbs.open_application, asked)
    on_workers(verbs.open_application, asked)

    assert whole == Path("soup.st").read_bytes()


def test_more_workers_than_tensors_make_the_same_bytes(place):
    whole = at_once(verbs.open_job, request())
    shared = Opening(verbs.open_job, request())
    with shared.job() as job:
        verbs.make_on_workers(InlineWorkers(50), shared, job, threads=2)

    assert whole == Path("soup.st").read_bytes()


def test_progress_counts_the_parts_and_joining_them(place):
    done: list[int] = []
    with verbs.open_job(request()) as job:
        (component,) = job.components
        expected = component.read + 3 * component.written
    on_workers(verbs.open_job, request(), execution=verbs.ExecutionOptions(1, progress=done.append))

    assert expected == sum(done)


def test_the_next_run_uses_the_parts_of_one_that_was_killed(place, monkeypatch):
    whole = at_once(verbs.open_job, request())
    made = made_by(monkeypatch, killed_after=3)
    assert 3 == len(made)
    assert len(made) == len(os.listdir("soup.st.parts"))
    again = made_by(monkeypatch)

    assert 8 == len(again) + 3
    assert whole == Path("soup.st").read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        lambda: os.utime("b.st", ns=(1, 1)),
        lambda: shutil.copy("c.st", "b.st"),
        lambda: [path.write_bytes(b"half") for path in Path("soup.st.parts").iterdir()],
    ],
    ids=["times", "content", "parts"],
)
def test_stale_parts_of_a_killed_run_are_made_again(place, monkeypatch, change):
    made_by(monkeypatch, killed_after=3)
    change()
    whole = at_once(verbs.open_job, request())

    assert 8 == len(made_by(monkeypatch))
    assert whole == Path("soup.st").read_bytes()


class KilledRun(BaseException):
    """Stands for SIGKILL: nothing is removed."""


def made_by(monkeypatch: pytest.MonkeyPatch, killed_after: int = 1000) -> list[str]:
    """The parts that a run makes, which ends as if it were killed after some of them."""
    made: list[str] = []

    class CountedCalls(InlineWorkers):
        def call(self, function, arguments, name, needs=None):
            for each in super().call(function, arguments, name, needs):
                made.append(name(arguments[each[0]]))
                yield each
                if len(made) == killed_after:
                    raise KilledRun

    shared = Opening(verbs.open_job, request())
    with monkeypatch.context() as patched, shared.job() as job:
        if killed_after < 1000:
            patched.setattr(spread, "_clear", lambda folder: None)
        try:
            verbs.make_on_workers(CountedCalls(), shared, job)
        except KilledRun:
            assert not Path("soup.st").exists()
    return made


def test_a_failing_part_leaves_nothing(place):
    save(Path("nan.st"), **{**safetensors_of("a.st"), "w3.weight": np.full((4, 7), np.nan, F16)})
    before = sorted(os.listdir())
    with pytest.raises(InputError, match=r"nan\.st: w3\.weight"):
        on_workers(verbs.open_job, request("soup.st", "nan.st", "b.st"))

    assert before == sorted(os.listdir())


def test_other_files_beside_the_parts_are_kept(place):
    Path("soup.st.parts").mkdir()
    Path("soup.st.parts", "notes.txt").write_text("mine")
    with pytest.raises(Exception, match=r"notes\.txt: is not a part"):
        on_workers(verbs.open_job, request())

    assert ["notes.txt"] == os.listdir("soup.st.parts")
    assert not Path("soup.st").exists()


def test_an_existing_output_is_kept(place):
    Path("soup.st").write_bytes(b"precious")
    with pytest.raises(OutputError, match=r"soup\.st: exists"):
        on_workers(verbs.open_job, request())
    assert b"precious" == Path("soup.st").read_bytes()
    on_workers(verbs.open_job, request(), force=True)
    assert b"precious" != Path("soup.st").read_bytes()


def test_quantised_weights_are_refused(place):
    save_quantised("x.st", "y.st")
    with pytest.raises(UsageError) as caught:
        on_workers(verbs.open_job, request("soup.st", "x.st", "y.st"))

    assert "--ray does not take quantised weights" in caught.value.message()


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        (lambda: (verbs.open_job, request("-")), "makes files, not a stream"),
        (lambda: (verbs.open_job, request(keep_sum=True)), "keeps no exact sum"),
        (
            lambda: (
                verbs.open_revision,
                Revision("subtract", "summed.st", "soup.st", removed=["b.st"]),
            ),
            "keeps no exact sum",
        ),
    ],
)
def test_what_workers_do_not_make_is_refused(place, asked, what):
    with pytest.raises(UsageError, match=what):
        on_workers(*asked())


def test_workers_that_see_another_file_are_refused(place, monkeypatch):
    """A worker on a machine where the same path is another file."""
    stamps = spread.stamps_of
    monkeypatch.setattr(spread, "stamps_of", lambda job: (("b.st", 1, 1), *stamps(job)))
    with pytest.raises(OutputError, match=r"b\.st: is another file for a worker.*shared disk"):
        on_workers(verbs.open_job, request())

    assert not Path("soup.st").exists()
    assert not Path("soup.st.parts").exists()


def proof(soup: str, **more: Any) -> Any:
    (found,) = verbs.verify_on_workers(InlineWorkers(), ProofQuestion(soup, **more))
    return found


@pytest.mark.parametrize("soup", ["plain.st", "summed.st"])
def test_workers_prove_what_one_process_proves(place, soup):
    (alone,) = verbs.verify(soup)

    assert alone == proof(soup)
    assert Level.REBUILD is alone.level


def test_workers_prove_applied_deltas(place):
    given = [delta("b.delta"), lora("lora.st")]
    verbs.apply(Application("a.st", given, "soup.st", on_int=OnInt.FIRST))

    assert verbs.verify("soup.st") == (proof("soup.st"),)
    assert Level.REBUILD is proof("soup.st").level


def test_workers_disprove_a_soup_of_other_ingredients(place):
    raw = Path("plain.st").read_bytes()
    Path("plain.st").unlink()
    verbs.average(request("plain.st", "a.st", "b.st"))
    other = Path("plain.st").read_bytes()
    # the ledger of one soup with the tensors of another
    size = int.from_bytes(raw[:8], "little") + 8
    Path("plain.st").write_bytes(raw[:size] + other[-(len(raw) - size) :])
    found = proof("plain.st")

    assert verbs.verify("plain.st") == (found,)
    assert found.refuted


def test_a_missing_ingredient_proves_nothing_on_workers(place):
    Path("b.st").unlink()

    assert verbs.verify("plain.st") == (proof("plain.st"),)
    assert Level.DIGEST is proof("plain.st").level
    with pytest.raises(LedgerError, match=r"b\.st"):
        on_workers(
            verbs.open_revision, Revision("subtract", "plain.st", "soup.st", removed=["a.st"])
        )
