"""What was trained goes into soups with its record, and is found there by the data it learned."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from soupctl import verbs
from soupctl.checkpoints.digest import text_digest
from soupctl.choices import Level, WeightBy
from soupctl.errors import LedgerError, UsageError
from soupctl.format.dtypes import DType
from soupctl.ledger.ledger import Ledger
from soupctl.ledger.ledger_json import encode_ledger
from soupctl.ledger.training_record import TrainingRecord

WEIGHTS = "diffusion_pytorch_model.safetensors"


def trained(path: Path, value: float, data: str, samples: int, kind: str = "raw") -> Path:
    """A checkpoint with a record of training on the data of that name."""
    tensors = {"x": np.full(4, value, np.float32)}
    save_file(tensors, path)
    (found,) = verbs.content_digests(path)
    training = TrainingRecord(
        text_digest("base"), text_digest(data), data, samples, 10, kind, {"seed": "0"}, {}
    )
    ledger = Ledger("trained", found.digest, (), ((DType.F32, 1),), training=training)
    save_file(tensors, path, {"soupctl": encode_ledger(ledger, text_digest)})
    return path


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    """Checkpoints trained on cats, dogs and owls."""
    names = ("cats", "dogs", "owls")
    return [
        trained(tmp_path / f"{name}.st", number, name, 10 * number)
        for number, name in enumerate(names, 1)
    ]


def average(paths: list[Path], output: Path, by: WeightBy | None = None) -> Ledger:
    ingredients = [verbs.Ingredient(path) for path in paths]
    if by is not None:
        ingredients = verbs.weighted_by(ingredients, by)
    (made,) = verbs.average(verbs.Request(ingredients=ingredients, output=output))
    return made.ledger


@pytest.mark.parametrize(
    ("samples", "expected"),
    [(1, 1), (2, Fraction(1414214, 10**6)), (16, 4), (10**12 + 1, 10**6)],
)
def test_weights_by_square_roots_are_rounded_to_six_decimals(tmp_path, samples, expected):
    path = trained(tmp_path / "a.st", 1, "cats", samples)

    (found,) = verbs.weighted_by([path], WeightBy.SQRT_SAMPLES)

    assert expected == found.weight


def test_a_soups_ledger_records_the_data_shards(three, tmp_path):
    ledger = average(three, tmp_path / "soup.st")

    names = {each.training.data_name for each in ledger.ancestors.values() if each.training}
    assert names == {"cats", "dogs", "owls"}


@pytest.mark.parametrize("kind", ["raw", "ema"])
def test_raw_weights_averaged_with_those_of_an_ema_are_told(tmp_path, kind):
    inputs = [
        trained(tmp_path / "a.st", 1, "cats", 1),
        trained(tmp_path / "b.st", 2, "dogs", 1, kind),
    ]
    ingredients = [verbs.Ingredient(path) for path in inputs]
    request = verbs.Request(ingredients=ingredients, output=tmp_path / "soup.st")

    with verbs.open_job(request) as job:
        told = [note for note in job.notes if "raw weights" in note]

    expected = "raw weights of training runs are averaged with EMA weights: use one kind of them"
    assert told == [expected] * (kind == "ema")


def test_an_ingredient_is_removed_by_the_digest_of_its_data(three, tmp_path):
    average(three, tmp_path / "soup.st")
    expected = average(three[1:], tmp_path / "direct.st")
    cats = text_digest("cats")

    assert verbs.holds(tmp_path / "soup.st", cats) is not None
    removal = verbs.Revision(
        "subtract",
        tmp_path / "soup.st",
        tmp_path / "without.st",
        removed=[verbs.Removal(cats)],
    )
    (made,) = verbs.revise(removal)

    assert expected.root == made.ledger.root
    assert verbs.holds(tmp_path / "without.st", cats) is None
    assert cats not in (tmp_path / "without.st").read_bytes().decode("latin-1")


def test_a_data_digest_removes_every_ingredient_trained_on_it(three, tmp_path):
    again = trained(tmp_path / "again.st", 7, "cats", 10)
    average([*three, again], tmp_path / "soup.st")
    expected = average(three[1:], tmp_path / "direct.st")
    cats = text_digest("cats")

    held = verbs.holds(tmp_path / "soup.st", cats)
    assert held is not None
    assert {"cats.st", "again.st"} == {entry.name for entry in held}
    removal = verbs.Revision(
        "subtract",
        tmp_path / "soup.st",
        tmp_path / "without.st",
        removed=[verbs.Removal(cats)],
    )
    (made,) = verbs.revise(removal)
    assert expected.root == made.ledger.root
    assert verbs.holds(tmp_path / "without.st", cats) is None


def test_a_data_digest_swaps_every_ingredient_trained_on_it_for_one(three, tmp_path):
    again = trained(tmp_path / "again.st", 7, "cats", 10)
    average([*three, again], tmp_path / "soup.st")
    new = trained(tmp_path / "new.st", 9, "cats without one", 9)
    exchange = verbs.Revision(
        "swap",
        tmp_path / "soup.st",
        tmp_path / "swapped.st",
        removed=[verbs.Removal(text_digest("cats"))],
        added=[verbs.Addition(new)],
    )

    (made,) = verbs.revise(exchange)

    weights = {entry.name: entry.weight for entry in made.ledger.ingredients}
    assert {"new.st": 2, "dogs.st": 1, "owls.st": 1} == weights
    assert verbs.holds(tmp_path / "swapped.st", text_digest("cats")) is None


def test_data_of_a_soup_that_is_an_ingredient_is_refused_with_its_name(three, tmp_path):
    average(three[:2], tmp_path / "pets.st")
    average([tmp_path / "pets.st", three[2]], tmp_path / "soup.st")
    cats = text_digest("cats")
    removal = verbs.Revision(
        "subtract", tmp_path / "soup.st", tmp_path / "x.st", removed=[verbs.Removal(cats)]
    )

    held = verbs.holds(tmp_path / "soup.st", cats)
    with pytest.raises(LedgerError, match=r"is in the soup as part of pets\.st \(swap replaces"):
        verbs.revise(removal)

    assert held is not None
    assert ["pets.st"] == [entry.name for entry in held]


def test_a_dataset_is_removed_from_a_pipeline_with_an_untrained_vae(tmp_path):
    models = []
    for value, (name, data) in enumerate({"a": "cats", "b": "cats", "c": "dogs"}.items(), 1):
        folder = tmp_path / name
        (folder / "unet").mkdir(parents=True)
        (folder / "vae").mkdir()
        trained(folder / "unet" / WEIGHTS, value, data, 10)
        save_file({"x": np.full(4, 7, np.float32)}, folder / "vae" / WEIGHTS)
        index = {"unet": ["diffusers", "UNet2DModel"], "vae": ["diffusers", "AutoencoderKL"]}
        (folder / "model_index.json").write_text(json.dumps(index))
        models.append(verbs.Ingredient(folder))
    verbs.average(verbs.Request(ingredients=models, output=tmp_path / "soup"))
    cats = verbs.Removal(text_digest("cats"))

    verbs.revise(
        verbs.Revision("subtract", tmp_path / "soup", tmp_path / "without", removed=[cats])
    )

    held = [ledger.ingredients for _, ledger in verbs.history(tmp_path / "without")]
    assert [[("c", Fraction(1))], [("c", Fraction(1))]] == [
        [(entry.name, entry.weight) for entry in entries] for entries in held
    ]


def test_a_weight_for_several_ingredients_of_one_data_shard_is_refused(three, tmp_path):
    again = trained(tmp_path / "again.st", 7, "cats", 10)
    average([*three, again], tmp_path / "soup.st")
    removal = verbs.Revision(
        "subtract",
        tmp_path / "soup.st",
        tmp_path / "without.st",
        removed=[verbs.Removal(text_digest("cats"), Fraction(1, 2))],
    )

    with pytest.raises(
        LedgerError, match=r"is the training data of 2 ingredients.*name one of again\.st, cats\.st"
    ):
        verbs.revise(removal)


def test_a_trained_model_is_added_with_its_training_record(three, tmp_path):
    average(three[:2], tmp_path / "soup.st")
    addition = verbs.Revision(
        "add", tmp_path / "soup.st", tmp_path / "more.st", added=[verbs.Addition(three[2])]
    )

    (made,) = verbs.revise(addition)

    assert verbs.holds(tmp_path / "more.st", text_digest("owls")) is not None
    assert len(made.ledger.ingredients) == 3


def test_a_trained_model_cannot_be_changed_like_a_soup(three, tmp_path):
    addition = verbs.Revision("add", three[0], tmp_path / "x", added=[verbs.Addition(three[1])])

    with pytest.raises(LedgerError, match="is a trained checkpoint, not a soup"):
        verbs.revise(addition)


def test_a_trained_model_is_verified_to_its_digest(three):
    (found,) = verbs.verify(three[0])

    assert (Level.DIGEST, False) == (found.level, found.refuted)
    assert found.problem == "is a trained checkpoint and has no ingredients"


def test_weights_by_samples_are_the_images_that_each_was_trained_on(three, tmp_path):
    ledger = average(three, tmp_path / "soup.st", WeightBy.SAMPLES)

    assert {Fraction(10), Fraction(20), Fraction(30)} == {x.weight for x in ledger.ingredients}


def test_weights_by_samples_need_records_and_no_other_weights(three, tmp_path):
    plain = tmp_path / "plain.st"
    save_file({"x": np.zeros(4, np.float32)}, plain)

    with pytest.raises(LedgerError, match=r"plain\.st: has no single training record"):
        verbs.weighted_by([verbs.Ingredient(three[0]), verbs.Ingredient(plain)], WeightBy.SAMPLES)
    with pytest.raises(UsageError, match="weights are given twice"):
        verbs.weighted_by([verbs.Ingredient(three[0], Fraction(2))], WeightBy.SAMPLES)
