"""A checkpoint that another trainer made gets the training record that `finetune` writes."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from making import contents, files, metadata, save, save_pipeline
from revising import root
from trained import save_shard

from soupctl import verbs
from soupctl.choices import WeightBy
from soupctl.errors import InputError, LedgerError, MismatchError, OutputError, UsageError
from soupctl.ledger.data_shard import data_digest, read_data_folder
from soupctl.verbs import Ingredient, Level, RecordRequest, Request


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(Path("base.st"), w=np.zeros(6, np.float16))
    save(Path("kohya.st"), {"ss_steps": "7"}, w=np.ones(6, np.float16))
    save_shard("data/cats", b"one", b"two", b"three")


def record(source="kohya.st", output="cats.st", *, force=False, **options):
    facts = {"data": Path("data/cats"), "base": "base.st", "steps": 500, **options}
    with verbs.open_record(RecordRequest(source, output, **facts)) as job:
        verbs.convert_tensors(job, force=force)


def training(path="cats.st"):
    ((_, ledger),) = verbs.history(path)
    return ledger.training


def test_the_record_has_digests_names_and_counts_and_the_tensors_stay():
    before = files(Path())

    record(trainer="kohya-25.2", is_average=True)

    found = training()
    images = read_data_folder(Path("data/cats")).images()
    assert (root("base.st"), data_digest(images)) == (found.base, found.data)
    assert ("cats", 3, 500, "ema") == (found.data_name, found.samples, found.steps, found.weights)
    assert ({"trainer": "kohya-25.2"}, {}) == (found.options, found.versions)
    assert contents(Path("kohya.st")) == contents(Path("cats.st"))
    assert "7" == metadata(Path("cats.st"))["ss_steps"]
    assert before == {name: data for name, data in files(Path()).items() if name != "cats.st"}


def test_a_trainer_whose_name_is_not_utf_8_is_recorded_with_escapes():
    record(trainer="kohya\udcff")

    assert {"trainer": "kohya\\xff"} == training().options


def test_a_recorded_ingredient_is_weighted_found_and_proven():
    record()
    save_shard("data/dogs", b"four")
    save(Path("other.st"), w=np.full(6, 2, np.float16))
    record("other.st", "dogs.st", data=Path("data/dogs"))

    weighted = verbs.weighted_by([Ingredient("cats.st"), Ingredient("dogs.st")], WeightBy.SAMPLES)
    verbs.average(Request(ingredients=weighted, output="soup.st"))

    assert [3, 1] == [each.weight for each in weighted]
    answer = verbs.ask("soup.st", "data/dogs")
    assert (True, ["dogs.st"]) == (answer.holds, [each.name for each in answer.entries])
    assert [("cats", ("2.png",))] == [
        (each.name, each.images) for each in verbs.ask("soup.st", "data/cats/2.png").data
    ]
    (proven,) = verbs.verify("soup.st", level=Level.REBUILD)
    assert Level.REBUILD is proven.level
    verbs.describe(verbs.DescribeRequest(soup="soup.st", output=Path("bom.json")))
    listed = json.loads(Path("bom.json").read_text())["components"]
    assert "cats" in {each.get("name") for each in listed}


def test_the_base_may_be_given_by_its_digest():
    record(base=root("base.st"))

    assert root("base.st") == training().base


def test_of_a_pipeline_the_components_that_differ_from_the_base_are_recorded():
    save_pipeline(Path("base"), 1)
    shutil.copytree("base", "run")
    save(
        Path("run/unet/diffusion_pytorch_model.safetensors"),
        **{"conv_in.weight": np.ones((4, 4, 3, 3), np.float16)},
    )

    record("run", "out", base="base")

    for name in ("vae", "text_encoder"):
        assert root(f"run/{name}") == root(f"out/{name}")
    assert files(Path("run/tokenizer")) == files(Path("out/tokenizer"))
    assert root("base/unet") == training("out/unet").base
    assert [None, None] == [
        verbs.inspect(f"out/{name}")[0].ledger for name in ("vae", "text_encoder")
    ]


def test_a_component_alone_is_recorded_with_that_component_of_the_base():
    save_pipeline(Path("base"), 1)
    save_pipeline(Path("run"), 2)

    record("run/unet", "out", base="base")

    assert root("base/unet") == training("out").base


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"base": "kohya.st"}, MismatchError, "kohya.st: has the tensors of its base"),
        ({"base": "nowhere"}, InputError, "nowhere: cannot be read"),
        ({"data": Path("nowhere")}, InputError, "nowhere: "),
        ({"data": Path()}, InputError, "is not a folder of images"),
        ({"output": "kohya.st", "force": True}, OutputError, "kohya.st: is also an input"),
        ({"output": "base.st", "force": True}, OutputError, "base.st: is the base"),
        ({"output": "base.st"}, OutputError, "base.st: is the base"),
        ({"output": "data/cats/new.st"}, OutputError, "new.st: is within the data"),
        ({"output": "data/cats", "force": True}, OutputError, "cats: is within the data"),
        ({"steps": 0}, UsageError, "a training needs at least one step"),
        ({"source": "-"}, UsageError, "a checkpoint is read twice"),
    ],
)
def test_what_cannot_be_recorded_is_refused_and_nothing_is_written(options, error, said):
    before = files(Path())

    with pytest.raises(error) as raised:
        record(**options)

    assert said in str(raised.value)
    assert before == files(Path())


def test_a_base_without_the_component_is_refused():
    save_pipeline(Path("base"), 1)

    with pytest.raises(UsageError, match=r"base: has no component kohya\.st, only text_encoder"):
        record(base="base")


def test_a_pipeline_is_not_recorded_with_one_digest():
    save_pipeline(Path("run"), 1)

    with pytest.raises(UsageError, match="run: is a pipeline, of which each component has a base"):
        record("run", "out", base=root("base.st"))


def test_a_ledger_is_replaced_only_on_request():
    record()

    with pytest.raises(LedgerError, match=r"cats\.st: has a ledger already"):
        record("cats.st", "again.st", steps=600)
    record("cats.st", "again.st", steps=600, ignore_ledger=True)

    assert 600 == training("again.st").steps


def test_captions_of_another_field_are_recorded_so_that_the_folder_is_found_again():
    rows = [{"file_name": f"{number}.png", "caption": "a cat"} for number in range(3)]
    for text in Path("data/cats").glob("*.txt"):
        text.unlink()
    Path("data/cats/metadata.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))

    record(column="caption")
    verbs.average(Request(ingredients=["cats.st", "base.st"], output="soup.st"))

    assert {"caption_column": "caption"} == training().options
    assert verbs.ask("soup.st", "data/cats").holds


def test_an_existing_output_is_kept_without_force():
    Path("cats.st").write_bytes(b"mine")

    with pytest.raises(OutputError, match=r"cats\.st: exists"):
        record()

    assert b"mine" == Path("cats.st").read_bytes()
    assert ["base.st", "cats.st", "data", "kohya.st"] == sorted(os.listdir())
