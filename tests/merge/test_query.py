"""What is asked of a soup is answered from what was checked, and what was altered is found."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from making import save, save_pipeline, save_shards
from revising import average, revise, root, save_changed_soup, verified

from soupctl import verbs
from soupctl.choices import OnInt, OnMissing
from soupctl.errors import InputError, LedgerError, MismatchError, UsageError
from soupctl.verbs import Level

F16 = np.float16


@pytest.fixture
def soup(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return save_changed_soup()


def test_a_sound_soup_is_proven_to_the_asked_level(soup):
    for level in (Level.HEADER, Level.DIGEST, Level.REBUILD):
        found = verified(soup, level=level)
        assert (level, None, True) == (found.level, found.problem, found.exact)
    assert Level.REBUILD is verified(soup).level


def test_a_missing_ingredient_leaves_the_digests_proven(soup):
    Path("a.st").rename("moved.st")
    found = verified(soup)

    assert (Level.DIGEST, True) == (found.level, found.exact)
    assert found.problem.startswith("a.st: is not found, and an exact soup needs it")
    assert Level.REBUILD is verified(soup, "moved.st").level
    assert Level.REBUILD is verified(soup, search=[Path()]).level


def test_an_ingredient_that_the_soup_lacks_proves_nothing(soup):
    found = verified(soup, "b.st")

    assert (Level.DIGEST, "b.st: is not in soup.st") == (found.level, found.problem)


def test_other_content_at_a_hint_is_reported(soup):
    save(Path("a.st"), w=np.zeros(20, F16), ids=np.arange(3))
    found = verified(soup)

    assert Level.DIGEST is found.level
    assert "a.st: has other content than the ledger records" in found.problem


def test_a_missing_ingredient_is_reported_with_the_option_of_verify(soup):
    Path("a.st").unlink()
    expected = "is not found, and an exact soup needs it (--search DIR looks for it elsewhere)"

    assert f"a.st: {expected}" == verified(soup).problem


def test_verify_refutes_a_rebuild_of_a_rounded_soup(soup):
    revise("subtract", "1.st", Path("rounded.st"), (), ["b.st"], approximate=True)
    found = verified(Path("rounded.st"))

    assert (Level.DIGEST, False) == (found.level, found.exact)
    assert "rounded.st: is not the soup of its ingredients" == found.problem


def test_a_checkpoint_is_no_soup(soup):
    found = verified(Path("a.st"))

    assert (Level.NOTHING, None) == (found.level, found.exact)
    assert "a.st: has no ledger: it is not a soup" == found.problem
    with pytest.raises(LedgerError, match="it is not a soup"):
        verbs.history("a.st")
    with pytest.raises(InputError):
        verbs.verify("none.st")


def test_integers_taken_from_the_first_ingredient_are_rebuilt(tmp_path):
    for number, name in enumerate("abc"):
        save(tmp_path / f"{name}.st", w=F16([number]), ids=np.array([number]))
    for first, second in ("ab", "ba", "ca"):
        output = tmp_path / f"{first}{second}.st"
        average(output, tmp_path / f"{first}.st", tmp_path / f"{second}.st", on_int=OnInt.FIRST)

        assert Level.REBUILD is verified(output).level


# what is in it


def test_an_ingredient_is_found_by_path_digest_and_name(soup):
    (entry,) = verbs.holds(soup, "a.st")
    shutil.copy("a.st", "renamed.st")

    assert ("a.st", Fraction(1)) == (entry.name, entry.weight)
    assert (entry,) == verbs.holds(soup, root("a.st")) == verbs.holds(soup, "renamed.st")
    Path("a.st").unlink()
    assert (entry,) == verbs.holds(soup, "a.st")
    for what in ("b.st", root("b.st")):
        assert verbs.holds(soup, what) is None


def test_ingredients_of_a_soup_among_the_ingredients_are_held(soup):
    average(Path("deeper.st"), "soup.st", "b.st")
    for path, way in ((soup, "inner.st"), (Path("deeper.st"), "soup.st")):
        for what in ("c.st", root("c.st")):
            (entry,) = verbs.holds(path, what)
            assert way == entry.name
    Path("c.st").unlink()
    (entry,) = verbs.holds(soup, "c.st")
    assert "inner.st" == entry.name


def test_all_paths_to_an_ingredient_are_reported(soup):
    average(Path("twice.st"), "c.st", "inner.st", "b.st")

    assert {"c.st", "inner.st"} == {entry.name for entry in verbs.holds("twice.st", "c.st")}


def test_a_name_of_several_ingredients_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, folder in enumerate("xy"):
        save(Path(folder, "a.st"), w=F16([number]))
        average(Path(folder, "soup.st"), f"{folder}/a.st")
    revise("add", "x/soup.st", Path("soup.st"), ["y/soup.st"])

    with pytest.raises(UsageError, match=r"a\.st: is the name of several ingredients"):
        verbs.holds("soup.st", "a.st")
    with pytest.raises(LedgerError, match=r"a\.st: is the name of several ingredients"):
        revise("subtract", "soup.st", Path("out.st"), (), ["a.st"])


def test_a_pipeline_holds_an_ingredient_in_each_component(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate("abc"):
        save_pipeline(Path(name), seed)
    average(Path("soup"), "a", "b")

    assert 3 == len(verbs.holds("soup", "a"))
    assert verbs.holds("soup", "c") is None
    assert [Level.REBUILD] * 3 == [each.level for each in verbs.verify("soup", ["b"])]
    assert ["soup/text_encoder", "soup/unet", "soup/vae"] == [
        shown for shown, _ in verbs.history("soup")
    ]
    with pytest.raises(MismatchError):
        verbs.holds("soup", "a/unet")


def test_of_a_shard_alone_no_is_never_said(tmp_path, monkeypatch):
    """It may be a part of an ingredient, whose digest is that of all shards together."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(2)
    tensors = {name: generator.normal(0, 1, 5).astype(F16) for name in "uvw"}
    save_shards(Path("shards"), "model", {"u": tensors["u"]}, {"v": tensors["v"]})
    save(Path("a.st"), u=tensors["w"], v=tensors["u"])
    average("soup.st", "shards", "a.st")
    first, second = sorted(Path("shards").glob("*.safetensors"))
    save(Path("other-00001-of-00002.safetensors"), u=tensors["v"])

    for asked in ("shards", "shards/model.safetensors.index.json"):
        assert verbs.ask("soup.st", asked).holds
    for asked in (first, second):
        with pytest.raises(UsageError, match=r"cannot tell .* it is a shard of shards/model"):
            verbs.ask("soup.st", str(asked))
    with pytest.raises(UsageError, match=r"cannot tell .* its index is not there"):
        verbs.ask("soup.st", "other-00001-of-00002.safetensors")
    # a shard that is an ingredient itself is found
    average("of-a-shard.st", first, second.rename("plain.st"), on_missing=OnMissing.KEEP)
    assert verbs.ask("of-a-shard.st", str(first)).holds
