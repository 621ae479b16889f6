"""`has` says no only where that is proven; whatever else it is asked, it tells, or tells why not.

Rule 1: no test trains; ledgers of trained checkpoints are written here.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from making import metadata, save, save_pipeline
from revising import average, revise, root
from trained import save_shard, save_trained

from soupctl import verbs
from soupctl.checkpoints.digest import text_digest
from soupctl.errors import LedgerError, UsageError
from soupctl.ledger.ledger_json import encode_ledger, parse_ledger

F16 = np.float16


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(5)
    for name in "abcdx":
        save(Path(f"{name}.safetensors"), w=random.normal(0, 1, 20).astype(F16))


@pytest.fixture
def soup() -> str:
    """A soup of a and of a soup of b and c."""
    average("inner.safetensors", "b.safetensors", "c.safetensors")
    average("soup.safetensors", "a.safetensors", "inner.safetensors")
    return "soup.safetensors"


@pytest.fixture
def trained() -> str:
    """A soup of two runs, on the data shards cats and dogs, that soup with another, and so on."""
    cats = save_shard("shards/cats", b"tom", b"felix")
    dogs = save_shard("shards/dogs", b"rex", b"lassie", b"tom")
    average("pets", save_trained("runs/cats", cats, 1), save_trained("runs/dogs", dogs, 2))
    return "pets"


def answer(soup: str, what: str | Path, **options: object) -> str:
    """Yes, no, or why neither is told."""
    try:
        return "yes" if verbs.ask(soup, str(what), **options).holds else "no"
    except UsageError as error:
        return error.message()


def names(soup: str, what: str | Path, **options: object) -> list[str]:
    """The names of the ingredients that an answer gives."""
    return [entry.name for entry in verbs.ask(soup, str(what), **options).entries]


# what is meant


def test_every_way_to_name_an_ingredient_finds_it(soup):
    digest = root("a.safetensors")
    bare = digest.removeprefix("blake3:")
    Path("a.safetensors").unlink()

    for what in (
        "a.safetensors",
        "a",
        digest,
        bare,
        bare.upper(),
        digest[:19],
        digest[:12],
        bare[:12],
        bare[:8],
    ):
        assert ["a.safetensors"] == names(soup, what), what


def test_every_way_to_name_an_ingredient_of_an_ingredient_finds_it(soup):
    digest = root("c.safetensors")
    for path in ("c.safetensors", "inner.safetensors"):
        Path(path).unlink()

    for what in ("c.safetensors", "c", digest, digest[7:], digest[:14], digest[7:20]):
        assert ["inner.safetensors"] == names(soup, what), what


@pytest.mark.parametrize(
    "what",
    [
        "dogz.safetensors",
        "models/a.safetensors",
        "nothing",
        "x" * 5000,
        "a\0b",
        "",
        "blake3:",
        "blake3:0000",
        "0" * 12,
        "0" * 63,
        "0" * 65,
        "sha256:" + "0" * 64,
        "inner.safetensors.sum",
    ],
)
def test_an_unknown_name_is_never_answered_with_no(soup, what):
    told = answer(soup, what)

    assert "cannot tell whether soup.safetensors holds it" in told
    assert "\n" not in told.replace("a\0b", "")


def test_a_mistyped_name_is_told_the_nearest(soup):
    assert "did you mean inner.safetensors?" in answer(soup, "iner.safetensors")


def test_no_is_for_content_that_is_there_and_for_a_whole_digest(soup):
    digest = root("d.safetensors")

    for what in ("d.safetensors", "./d.safetensors", digest, digest[7:], "blake3:" + "0" * 64):
        assert "no" == answer(soup, what), what


def test_a_start_of_several_digests_is_refused_and_names_them():
    stems = {}
    for seed in range(1000):
        path = Path(f"many/{seed}.safetensors")
        save(path, w=np.array([seed], F16))
        digest = root(path)
        other = stems.setdefault(digest[:11], digest)
        if other != digest:
            break
    average("twins.safetensors", *sorted(Path("many").iterdir()))

    told = answer("twins.safetensors", digest[:11])

    assert f"{digest[:11]}: is the start of several digests" in told
    assert digest[:19] in told
    assert other[:19] in told
    with pytest.raises(LedgerError, match="is the start of several digests"):
        revise("subtract", "twins.safetensors", Path("o.st"), (), [digest[:11]])


def test_subtract_and_swap_and_verify_take_the_same_names(soup):
    for what in ("a", root("a.safetensors")[7:], root("a.safetensors")[:12]):
        made = revise("subtract", soup, Path("o.st"), (), [what], force=True)
        assert ["inner.safetensors"] == [entry.name for entry in made.ledger.ingredients]
        made = revise("swap", soup, Path("o.st"), ["d.safetensors"], [what], force=True)
        assert {"d.safetensors", "inner.safetensors"} == {e.name for e in made.ledger.ingredients}
        (verified,) = verbs.verify(soup, [what])
        assert verbs.Level.REBUILD is verified.level


def test_a_digest_of_one_component_is_in_a_pipeline():
    for seed, name in enumerate("pqr"):
        save_pipeline(Path(name), seed)
    average("pipe", "p", "q")
    digests = {each.path: each.digest for each in verbs.content_digests("p")}

    for path, digest in digests.items():
        assert "yes" == answer("pipe", digest), path
    assert "yes" == answer("pipe", "p")
    assert "no" == answer("pipe", "r")
    for each in verbs.content_digests("r"):
        assert "no" == answer("pipe", each.digest)


def test_a_pipeline_of_which_one_component_is_held_is_no_no():
    for seed, name in enumerate("pqr"):
        save_pipeline(Path(name), seed)
    average("pipe", "p", "q")
    unet = Path("r/unet/diffusion_pytorch_model.safetensors")
    unet.write_bytes(Path("p/unet/diffusion_pytorch_model.safetensors").read_bytes())

    assert "it holds its unet, but not its text_encoder, vae" in answer("pipe", "r")
    assert "yes" == answer("pipe", "r", component="unet")
    assert "no" == answer("pipe", "r", component="vae")


def test_a_soup_that_was_added_is_held_as_its_ingredients(soup):
    revise("add", "soup.safetensors", Path("more.safetensors"), ["inner.safetensors"])
    average("part.safetensors", "d.safetensors", "x.safetensors")
    revise("add", soup, Path("grown.safetensors"), ["part.safetensors"])

    assert {"d.safetensors", "x.safetensors"} == set(names("grown.safetensors", "part.safetensors"))
    assert "no" == answer(soup, "part.safetensors")


# what is not known


def test_an_ingredient_that_is_a_soup_of_unknown_content_leaves_a_no_unproven(soup):
    average("hidden.safetensors", "inner.safetensors", "d.safetensors", ignore_ledger=True)

    told = answer("hidden.safetensors", "b.safetensors")

    assert "inner.safetensors is a soup whose ledger is not part of this one" in told
    assert "has inner.safetensors X answers for that soup" in told
    assert "cannot tell" in answer("hidden.safetensors", "blake3:" + "0" * 64)
    average("deeper.safetensors", "hidden.safetensors", "x.safetensors")
    assert "cannot tell" in answer("deeper.safetensors", "b.safetensors")


def test_a_soup_with_a_declared_weight_leaves_a_no_unproven():
    revise("add", "a.safetensors", Path("o.st"), ["b.safetensors"], total=2, approximate=True)

    assert "yes" == answer("o.st", "b.safetensors")
    assert "a.safetensors was a soup without a ledger" in answer("o.st", "c.safetensors")


def test_ledgers_that_contradict_each_other_leave_a_no_unproven(soup):
    text = metadata(Path(soup))["soupctl"]
    ledger = parse_ledger(text, soup, text_digest)
    ((digest, inner),) = ledger.ancestors.items()
    kept = replace(inner, ingredients=inner.ingredients[:1])
    forged = encode_ledger(replace(ledger, ancestors={digest: kept}), text_digest)
    save(Path(soup), {"soupctl": forged}, **safetensors.numpy.load_file(soup))
    gone = {"b.safetensors", "c.safetensors"} - {inner.ingredients[0].name}

    assert "two ledgers of inner.safetensors contradict each other" in answer(soup, gone.pop())


def test_a_no_about_an_approximate_removal_says_so(soup):
    revise("subtract", soup, Path("o.st"), (), ["a.safetensors"], approximate=True)
    told = verbs.ask("o.st", "a.safetensors")

    assert not told.holds
    assert ("it was taken out, and the soup is approximate: a trace of it may remain",) == (
        told.notes
    )


# what it was trained on


def test_a_data_shard_is_found_by_folder_digest_and_name(trained):
    digest = verbs.images_digest("shards/cats").digest

    for what in ("shards/cats", "cats", digest, digest[7:], digest[:15]):
        assert ["cats/model/unet"] == names(trained, what), what
        (data,) = verbs.ask(trained, what).data
        assert ("cats", digest, 2) == (data.name, data.digest, data.samples)
    average("deeper", trained, "x.safetensors")
    for what in ("shards/cats", "cats", digest):
        assert ["pets"] == names("deeper", what), what


def test_a_data_folder_with_other_images_is_not_in_it(trained):
    birds = save_shard("shards/birds", b"tweety")

    assert "no" == answer(trained, birds)
    average("mixed", trained, "x.safetensors")
    assert "the training data of x.safetensors is not recorded" in answer("mixed", birds)
    assert "yes" == answer("mixed", "shards/cats")


def test_a_folder_that_changed_since_training_is_no_no(trained):
    Path("shards/cats/9.png").write_bytes(b"garfield")

    assert "yes" == answer(trained, "shards/cats")
    Path("shards/cats/0.png").unlink()
    assert "cats has 1 of its images, not all" in answer(trained, "shards/cats")


def test_a_folder_of_which_images_without_captions_were_skipped_is_found():
    shard = save_shard("shards/some", b"tom", b"felix")
    run = save_trained("runs/some", shard, 1, with_list=False)
    average("s", run)
    Path("shards/some/no-caption.png").write_bytes(b"felix")
    assert "yes" == answer("s", shard)


def test_captions_of_another_column_are_found():
    shard = save_shard("shards/rows", b"tom")
    row = {"file_name": "0.png", "text": "no", "long": "yes"}
    Path(shard, "metadata.jsonl").write_text(json.dumps(row))
    average("s", save_trained("runs/r", shard, 1, with_list=False, caption_column="long"))

    assert "yes" == answer("s", shard)


def test_a_data_shard_is_found_in_a_trained_checkpoint_itself(trained):
    for what in ("cats", "shards/cats", verbs.images_digest("shards/cats").digest):
        assert "yes" == answer("runs/cats/model/unet", what)


def test_subtract_and_swap_take_a_data_folder(trained):
    made = revise("subtract", trained, Path("o"), (), ["shards/cats"])

    assert ["dogs/model/unet"] == [entry.name for entry in made.ledger.ingredients]
    with pytest.raises(LedgerError, match="is not training data of anything in o"):
        revise("subtract", "o", Path("p"), (), ["shards/cats"])
    made = revise("swap", trained, Path("q"), ["x.safetensors"], ["shards/dogs"])
    assert "x.safetensors" in [entry.name for entry in made.ledger.ingredients]


def test_which_data_shards_hold_an_image_is_told(trained):
    for moved, images in {
        "shards/cats/1.png": [("cats", ("1.png",))],
        "shards/dogs/2.png": [("cats", ("0.png",)), ("dogs", ("2.png",))],
    }.items():
        data = verbs.ask(trained, moved).data
        assert images == sorted((each.name, each.images) for each in data)
    Path("other.png").write_bytes(b"tom")
    assert ["cats/model/unet", "dogs/model/unet"] == sorted(names(trained, "other.png"))
    Path("other.png").write_bytes(b"garfield")
    assert "no" == answer(trained, "other.png")


def test_an_image_is_found_by_the_folder_it_lies_in_or_by_a_search(trained):
    for run in ("cats", "dogs"):
        Path(f"runs/{run}/data.jsonl").rename(f"{run}.jsonl")
    Path("new.png").write_bytes(b"tweety")

    assert "yes" == answer(trained, "shards/cats/1.png")
    told = answer(trained, "new.png")
    assert "no list of the images in cats, dogs is found (--search DIR looks for data.jsonl" in told
    for run in ("cats", "dogs"):
        Path("kept", run).mkdir(parents=True)
        Path(f"{run}.jsonl").rename(f"kept/{run}/data.jsonl")
    assert "no" == answer(trained, "new.png", search=[Path("kept")])


def test_a_list_of_images_counts_only_with_the_digest_of_the_ledger(trained):
    Path("runs/cats/data.jsonl").write_bytes(Path("runs/dogs/data.jsonl").read_bytes())
    Path("runs/dogs/data.jsonl").write_text("[" * 10_000)
    Path("new.png").write_bytes(b"felix")

    assert "no list of the images in cats is found" in answer(trained, "new.png")


def test_the_base_of_a_training_is_named_with_a_no(trained):
    told = verbs.ask(trained, "x.safetensors")

    assert (False, ("it is the base that ingredients were trained from",)) == (
        told.holds,
        told.notes,
    )
