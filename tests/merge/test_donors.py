"""Tensors taken from a file that is not an ingredient: recorded, found, and kept by changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from making import metadata, save, save_pipeline
from revising import assert_proven, average, revise, root, verified

from soupctl import verbs
from soupctl.choices import Level
from soupctl.errors import LedgerError, MismatchError, UsageError

U = "model.diffusion_model.out.2.weight"
D, E = "first_stage_model.decoder.conv_in.weight", "first_stage_model.encoder.conv_in.weight"
VAE = "first_stage_model.*"


def arrays(seed: int, *names: str) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {name: random.normal(0, 1, (3, 4)).astype("f2") for name in names}


def loaded(path: Path) -> dict[str, np.ndarray]:
    return dict(safetensors.numpy.load_file(path))


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and one[name].tobytes() == other[name].tobytes()
        for name in one
    )


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Three whole checkpoints, a UNet alone, and a VAE under names of its own."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate("abc"):
        save(Path(f"{name}.st"), **arrays(seed, U, D, E))
    save(Path("unet.st"), **arrays(4, U))
    bare = {name.removeprefix("first_stage_model."): each for name, each in _vae().items()}
    save(Path("vae.st"), **bare, **arrays(6, "loss.weight"))


def _vae() -> dict[str, np.ndarray]:
    return arrays(5, D, E)


def soup(*names: str, output: str = "soup.st", **options: Any) -> Path:
    given = {"take": ((VAE, "vae.st"),), "force": True, **options}
    average(Path(output), *names, **given)
    return Path(output)


def ledger(path: Path) -> verbs.Ledger:
    ((_, found),) = verbs.history(path)
    return found


def test_the_tensors_come_from_the_file_under_the_names_of_the_soup(files):
    made = soup("a.st", "b.st", take=(("first_stage_model.[de]*", "vae.st"),))

    plain = loaded(soup("a.st", "b.st", take=(), output="plain.st"))
    assert same({U: plain[U], **_vae()}, loaded(made))
    assert_proven(made)


def test_a_whole_checkpoint_is_made_of_a_unet_alone_and_a_vae(files):
    made = soup("unet.st", take=(("first_stage_model.[de]*", "vae.st"),))

    assert same({**arrays(4, U), **_vae()}, loaded(made))
    assert_proven(made)


def test_the_ledger_names_the_donor_with_its_content_hint_and_globs(files):
    made = ledger(soup("a.st", "b.st"))

    (donor,) = made.donors
    assert ("vae.st", "vae.st", root("vae.st"), 0) == (
        donor.name,
        donor.hint,
        donor.digest,
        donor.weight,
    )
    assert "the prefix 'first_stage_model.'" == donor.renamed
    assert ((VAE, donor.digest),) == made.takes
    assert ["a.st", "b.st"] == sorted(entry.name for entry in made.ingredients)


def test_an_input_that_tensors_are_taken_from_is_an_ingredient_by_whatever_path(files):
    Path("link.st").symlink_to("a.st")

    made = ledger(soup("a.st", "b.st", take=((VAE, Path.cwd() / "link.st"),)))

    assert () == made.donors
    assert ((VAE, root("a.st")),) == made.takes


@pytest.mark.parametrize("what", ["vae.st", "digest"])
def test_a_soup_holds_its_donor_and_the_donors_ingredients(files, what):
    bare = [name.removeprefix("first_stage_model.") for name in (D, E)]
    save(Path("more.st"), **arrays(9, *bare, "loss.weight"))
    soup("vae.st", "more.st", take=(), output="vae2.st")
    made = soup("a.st", "b.st", take=(("first_stage_model.[de]*", "vae2.st"),))
    outer = soup(str(made), "c.st", take=(), output="outer.st")
    asked = root("vae.st") if what == "digest" else what

    for path in (made, outer):
        assert verbs.holds(path, asked)
    assert verbs.holds(made, root("vae2.st"))
    assert verbs.holds(made, root("c.st")) is None
    with pytest.raises(LedgerError, match=r"is not an ingredient of soup\.st, which only takes"):
        revise("subtract", made, Path("x.st"), (), ["vae2.st"])
    with pytest.raises(LedgerError, match=r"make the soup again with avg take and another file"):
        revise("subtract", made, Path("x.st"), (), [root("vae2.st")])
    with pytest.raises(LedgerError, match=r"part of vae2\.st \(make the soup again with avg"):
        revise("subtract", made, Path("x.st"), (), [root("vae.st")])


@pytest.mark.parametrize("keep_sum", [False, True])
def test_changes_keep_taken_tensors_and_give_the_bytes_of_one_average(files, keep_sum):
    made = soup("a.st", "b.st", keep_sum=keep_sum)
    steps: list[tuple[str, tuple[Any, ...], tuple[Any, ...], tuple[str, ...]]] = [
        ("add", ("c.st",), (), ("a.st", "b.st", "c.st")),
        ("subtract", (), ("a.st",), ("b.st", "c.st")),
        ("swap", ("a.st",), ("c.st",), ("b.st", "a.st")),
    ]
    for operation, added, removed, left in steps:
        revise(operation, made, made, added, removed, force=True)
        expected = soup(*left, output="expected.st")

        assert same(loaded(expected), loaded(made))
        assert ledger(expected).donors == ledger(made).donors
        assert_proven(made)


def test_each_ingredient_is_left_out_in_turn_and_the_donor_stays(files):
    made = soup("a.st", "b.st", "c.st")

    verbs.leave_one_out(verbs.LeaveOneOut(made, "without-{name}"))

    assert same(loaded(soup("b.st", "c.st", output="expected.st")), loaded(Path("without-a.st")))
    assert_proven("without-a.st", "without-b.st", "without-c.st")


def test_a_donor_is_added_as_an_ingredient_and_removed_again(files):
    made = soup("a.st", "b.st", take=((VAE, "c.st"),))
    before = loaded(made)

    revise("add", made, Path("more.st"), ["c.st"])
    revise("subtract", Path("more.st"), Path("again.st"), (), ["c.st"])

    assert same(before, loaded(Path("again.st")))
    assert verbs.holds(Path("again.st"), "c.st")
    assert_proven("more.st", "again.st")


def test_the_donor_is_found_elsewhere_by_a_search_and_missed_where_it_is_not(files):
    made = soup("a.st", "b.st")
    elsewhere = Path("deep/er")
    elsewhere.mkdir(parents=True)
    Path("vae.st").rename(elsewhere / "other name.st")

    found = verified(made)
    assert found.level is Level.DIGEST
    assert "vae.st: is not found, and an exact soup needs it" in str(found.problem)
    assert verified(made, search=[elsewhere]).level is Level.REBUILD
    assert verified(made, str(elsewhere / "other name.st")).level is Level.REBUILD
    with pytest.raises(LedgerError, match=r"search=DIR looks for it"):
        revise("add", made, Path("more.st"), ["c.st"])
    revise("add", made, Path("deep/more.st"), ["c.st"], search=(elsewhere,))
    assert_proven("deep/more.st")
    ((entry),) = ledger(Path("deep/more.st")).donors
    assert "er/other name.st" == entry.hint


def test_a_donor_of_other_content_is_not_the_donor(files):
    made = soup("a.st", "b.st")
    save(Path("vae.st"), **arrays(9, "decoder.conv_in.weight", "encoder.conv_in.weight"))

    assert verified(made).level is Level.DIGEST
    with pytest.raises(LedgerError, match=r"vae\.st"):
        revise("add", made, Path("more.st"), ["c.st"])


def test_an_approximate_change_keeps_taken_tensors(files):
    made = soup("a.st", "b.st")
    Path("vae.st").unlink()

    revise("add", made, Path("more.st"), ["c.st"], approximate=True)

    more = loaded(Path("more.st"))
    assert same({D: _vae()[D], E: _vae()[E]}, {D: more[D], E: more[E]})
    assert ledger(made).takes == ledger(Path("more.st")).takes


def test_a_pipeline_gives_its_component_to_a_pipeline(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate("abx"):
        save_pipeline(Path(name), seed)
    average(Path("soup"), "a", "b", take=(("quant_conv.*", "x"),))

    file = "vae/diffusion_pytorch_model.safetensors"
    assert same(loaded(Path("x", file)), loaded(Path("soup", file)))
    by_name = {path: found.donors for path, found in verbs.history(Path("soup"))}
    assert [1, 0, 0] == sorted((len(donors) for donors in by_name.values()), reverse=True)
    assert_proven("soup")
    revise("subtract", Path("soup"), Path("less"), (), ["b"])
    assert same(loaded(Path("x", file)), loaded(Path("less", file)))
    assert_proven("less")


def test_a_donor_that_cannot_be_is_refused_with_a_way_out(files):
    save_pipeline(Path("pipe"), 1)
    save_pipeline(Path("pipe2"), 2)
    with pytest.raises(UsageError, match=r"'decoder\.\*' matches no tensor.*\*decoder\.\*"):
        soup("a.st", "b.st", take=(("decoder.*", "vae.st"),))
    with pytest.raises(UsageError, match=r"pipe: has several components.*pipe/vae"):
        soup("a.st", "b.st", take=((VAE, "pipe"),))
    with pytest.raises(UsageError, match=r"component picks one"):
        average(Path("o"), "pipe", "pipe2", take=(("quant_conv.*", "vae.st"),))
    with pytest.raises(UsageError, match="standard input"):
        soup("a.st", "b.st", take=((VAE, "-"),))
    save(Path("half.st"), **arrays(5, D))
    with pytest.raises(MismatchError, match=r"half\.st: first_stage_model\.encoder.*is not in the"):
        soup("a.st", "b.st", take=((VAE, "half.st"),))


def test_a_ledger_without_its_donor_or_with_a_donor_of_nothing_is_refused(files):
    made = soup("a.st", "b.st")
    document = json.loads(metadata(made)["soupctl"])

    assert [root("vae.st")] == [donor["digest"] for donor in document["donors"]]
    assert "weight" not in document["donors"][0]
