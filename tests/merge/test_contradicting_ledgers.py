"""A ledger that lies about another soup takes nothing from what that soup is known to hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from blake3 import blake3
from making import save
from revising import average, revise, verified

from soupctl import verbs
from soupctl.errors import UsageError
from soupctl.ledger.ledger import LEDGER_KEY, IngredientEntry, Ledger
from soupctl.ledger.ledger_json import encode_ledger
from soupctl.verbs import Level


@pytest.fixture(autouse=True)
def checkpoints(tmp_path, monkeypatch):
    """Five checkpoints, and the honest soup of two."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(3)
    for name in ("secret", "other", "c", "d", "e"):
        save(Path(f"{name}.st"), w=generator.standard_normal(16).astype(np.float16))
    average("inner.st", "secret.st", "other.st")


def digest(text: str) -> str:
    return "blake3:" + blake3(text.encode()).hexdigest()


def ledger_of(path: str) -> Ledger:
    ((_, ledger),) = verbs.history(path)
    return ledger


def put_ledger(path: str, ledger: Ledger) -> None:
    loaded = safetensors.numpy.load_file(path)
    text = encode_ledger(ledger, digest)
    safetensors.numpy.save_file(loaded, path, {LEDGER_KEY: text})


def false_ledger(path: str) -> Ledger:
    """The ledger of a soup with other ingredients than it has."""
    ledger = ledger_of(path)
    entries = [
        IngredientEntry("blake3:" + "0" * 63 + str(number), "clean.st", None, each.weight, ())
        for number, each in enumerate(ledger.ingredients)
    ]
    return replace(ledger, ingredients=tuple(entries), ancestors={})


def make_liar(*ingredients: str, about: str) -> str:
    """A soup of these that fits its own tensors, and lies about another soup."""
    average("liar.st", *ingredients, force=True)
    ledger = ledger_of("liar.st")
    lie = false_ledger(about)
    put_ledger("liar.st", replace(ledger, ancestors={**ledger.ancestors, lie.root: lie}))
    return "liar.st"


def orders(*paths: str) -> Iterator[Path]:
    """Soups of these in every order, equal bit for bit."""
    made = set()
    for order in permutations(paths):
        average("out.st", *order, force=True)
        made.add(Path("out.st").read_bytes())
        yield Path("out.st")
    assert 1 == len(made)


def test_a_false_ledger_is_not_believed_about_a_soup_that_is_no_ancestor():
    liar = make_liar("c.st", about="inner.st")
    for soup in orders("inner.st", liar, "d.st"):
        assert verbs.holds(soup, "secret.st")
        assert not verbs.holds(soup, "e.st")
        assert Level.REBUILD is verified(soup).level


def test_the_ledger_of_a_soup_is_believed_over_that_of_a_soup_made_of_it():
    liar = make_liar("inner.st", "c.st", about="inner.st")
    for soup in orders("inner.st", liar):
        assert verbs.holds(soup, "secret.st")
        # one of the two lies, and who does is not known
        with pytest.raises(UsageError, match=r"contradict each other about inner\.st"):
            verbs.holds(soup, "e.st")


@pytest.mark.parametrize("what", ["secret.st", "e.st"])
def test_of_two_soups_that_contradict_each_other_about_a_third_none_is_believed(what):
    average("honest.st", "inner.st", "d.st")
    liar = make_liar("inner.st", "c.st", about="inner.st")
    for soup in orders("honest.st", liar):
        assert verbs.holds(soup, "inner.st")
        assert verbs.holds(soup, "d.st")
        with pytest.raises(UsageError, match=r"cannot tell whether out\.st holds it"):
            verbs.holds(soup, what)
        assert Level.REBUILD is verified(soup).level


def test_a_copy_of_a_soup_with_a_false_ledger_hides_nothing_that_it_holds():
    average("honest.st", "inner.st", "d.st")
    Path("copy.st").write_bytes(Path("inner.st").read_bytes())
    put_ledger("copy.st", false_ledger("inner.st"))
    for inputs in (("honest.st", "copy.st"), ("inner.st", "copy.st")):
        for soup in orders(*inputs):
            with pytest.raises(UsageError, match="contradict each other"):
                verbs.holds(soup, "secret.st")


def test_disputed_content_stays_disputed_in_every_soup_until_it_is_removed():
    average("honest.st", "inner.st", "d.st")
    liar = make_liar("inner.st", "c.st", about="inner.st")
    average("soup.st", "honest.st", liar)
    average("again.st", "soup.st", "honest.st")
    added = revise("add", "soup.st", Path("added.st"), ["e.st"])
    taken = revise("subtract", "added.st", Path("taken.st"), (), ["honest.st", liar])
    disputed = (ledger_of("inner.st").root,)

    assert disputed == ledger_of("again.st").disputed == added.ledger.disputed
    with pytest.raises(UsageError, match="contradict each other"):
        verbs.holds("again.st", "secret.st")
    assert () == taken.ledger.disputed
    assert not verbs.holds("taken.st", "secret.st")


@pytest.mark.parametrize("operation", ["add", "swap"])
def test_adding_a_soup_removes_no_known_ancestor(operation):
    average("honest.st", "inner.st", "d.st")
    removed = ["d.st"] if operation == "swap" else []
    liar = make_liar("c.st", about="inner.st")
    revise(operation, "honest.st", Path("more.st"), [liar], removed)

    assert verbs.holds("more.st", "secret.st")
    assert not verbs.holds("more.st", "e.st")


def test_an_added_soup_that_contradicts_the_soup_about_an_ancestor_leaves_it_unknown():
    average("middle.st", "inner.st", "e.st")
    average("honest.st", "inner.st", "d.st")
    liar = make_liar("middle.st", "c.st", about="inner.st")
    revise("add", "honest.st", Path("more.st"), [liar])

    assert verbs.holds("more.st", "inner.st")
    with pytest.raises(UsageError, match=r"contradict each other about inner\.st"):
        verbs.holds("more.st", "secret.st")
    assert Level.REBUILD is verified(Path("more.st")).level
