"""Folders in, folders out: the same files under the same names, loadable as the inputs are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from making import contents, files, mean, metadata, save, save_pipeline, save_shards

from soupctl import verbs
from soupctl.checkpoints.digest import text_digest
from soupctl.errors import InputError, LimitError, MismatchError, OutputError, UsageError
from soupctl.ledger.ledger_json import parse_ledger
from soupctl.verbs import ComponentResult, Ingredient, Request

F16 = np.float16
UNET = "unet/diffusion_pytorch_model.safetensors"
SHARDS = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
INDEX = "model.safetensors.index.json"


def soup(
    *paths: Path, output: Path, force: bool = False, **options: object
) -> tuple[ComponentResult, ...]:
    return verbs.average(Request(list(map(Ingredient, paths)), output, **options), force=force)


@pytest.fixture
def pipelines(tmp_path):
    return [save_pipeline(tmp_path / name, seed) for seed, name in enumerate("ab")]


@pytest.fixture
def sharded(tmp_path):
    return [
        save_shards(
            tmp_path / name,
            "model",
            {"a": np.full(5, value, F16), "c": np.full(3, value, F16)},
            {"b": np.full(4, value, np.float32)},
        )
        for value, name in enumerate("xy")
    ]


def half(*names: str, path: Path, like: list[Path]) -> None:
    """Check that `path` has the mean of the tensors `names` of the files `like`."""
    loaded = [contents(each) for each in like]
    found = contents(path)
    for name in names:
        arrays = [np.frombuffer(each[name][2], F16) for each in loaded]
        assert mean(arrays, [1, 1]).tobytes() == found[name][2]


def test_every_component_of_a_pipeline_is_averaged_and_other_files_go_along(pipelines, tmp_path):
    made = soup(*pipelines, output=tmp_path / "soup")
    found = files(tmp_path / "soup")
    ours = files(pipelines[0])

    assert ["text_encoder", "unet", "vae"] == [each.name for each in made]
    code = {"pipeline.py", "unet/diffusion_pytorch_model.bin"}
    assert set(ours) - code == set(found)
    for name in found:
        if name.endswith("config.json") or name in ("model_index.json", "tokenizer/vocab.json"):
            assert ours[name] == found[name]
    half("conv_in.weight", path=tmp_path / "soup" / UNET, like=[p / UNET for p in pipelines])


def link_elsewhere(pipeline: Path, name: str) -> None:
    """Move a folder of a pipeline out of it, and leave a link."""
    shared = pipeline.with_name(f"shared-{pipeline.name}-{name}")
    (pipeline / name).rename(shared)
    (pipeline / name).symlink_to(Path("..", shared.name))


def test_components_that_are_links_go_along(pipelines, tmp_path):
    soup(*pipelines, output=tmp_path / "expected")
    for pipeline in pipelines:
        link_elsewhere(pipeline, "vae")
    soup(*pipelines, output=tmp_path / "soup")

    found, expected = files(tmp_path / "soup"), files(tmp_path / "expected")
    assert set(expected) == set(found)
    assert expected["vae/config.json"] == found["vae/config.json"]


def test_a_tokenizer_that_is_a_link_out_of_its_pipeline_is_refused(pipelines, tmp_path):
    link_elsewhere(pipelines[1], "tokenizer")

    with pytest.raises(InputError, match="tokenizer: is a link out of its folder"):
        soup(*pipelines, output=tmp_path / "soup")


def test_weights_and_code_that_do_not_go_along_are_named_beforehand(pipelines, tmp_path):
    with verbs.open_job(Request(list(map(Ingredient, pipelines)), tmp_path / "soup")) as job:
        preview = verbs.preview(job)

    assert preview.left_behind == ("pipeline.py", "unet/diffusion_pytorch_model.bin")


def test_each_component_has_a_ledger_of_its_own(pipelines, tmp_path):
    text_encoder, unet, _ = soup(*pipelines, output=tmp_path / "soup")
    index = json.loads((tmp_path / "soup" / "text_encoder" / INDEX).read_text())
    in_file = metadata(tmp_path / "soup" / UNET)["soupctl"]

    assert unet.ledger == parse_ledger(in_file, "x", text_digest)
    assert text_encoder.ledger == parse_ledger(index["metadata"]["soupctl"], "x", text_digest)
    assert ["../a/unet", "../b/unet"] == sorted(str(e.hint) for e in unet.ledger.ingredients)
    assert ["a", "b"] == sorted(entry.name for entry in unet.ledger.ingredients)


def test_equal_pipelines_give_equal_files(pipelines, tmp_path):
    soup(*pipelines, output=tmp_path / "soup")
    before = files(tmp_path / "soup")
    soup(*pipelines[::-1], output=tmp_path / "other")
    soup(*pipelines, output=tmp_path / "soup", force=True)

    assert before == files(tmp_path / "soup")
    # but for the prose and the harmless fields of the first
    other = files(tmp_path / "other")
    assert set(before) == set(other)
    assert {"unet/config.json"} == {name for name in before if before[name] != other[name]}


def test_a_component_of_a_pipeline_can_be_loaded_alone(pipelines, tmp_path):
    (made,) = soup(*pipelines, output=tmp_path / "soup", component="unet")

    assert {"config.json", "diffusion_pytorch_model.safetensors"} == set(files(tmp_path / "soup"))
    assert "" == made.name
    (whole,) = [each for each in soup(*pipelines, output=tmp_path / "w") if each.name == "unet"]
    assert whole.ledger.root == made.ledger.root


def test_a_component_goes_into_one_file(pipelines, tmp_path):
    soup(*pipelines, output=tmp_path / "unet.st", component="unet")

    half("conv_in.weight", path=tmp_path / "unet.st", like=[p / UNET for p in pipelines])


def test_a_variant_is_preferred_and_the_output_is_plain(pipelines, tmp_path):
    save_pipeline(tmp_path / "v", 5, ".fp16")
    soup(pipelines[0], tmp_path / "v", output=tmp_path / "soup", variant="fp16")

    assert UNET in files(tmp_path / "soup")
    half(
        "conv_in.weight",
        path=tmp_path / "soup" / UNET,
        like=[pipelines[0] / UNET, tmp_path / "v" / UNET.replace(".safe", ".fp16.safe")],
    )


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda folder: shutil.rmtree(folder / "vae"), "has components text_encoder, unet where"),
        (
            lambda folder: (folder / "unet/config.json").write_text('{"in_channels": 9}'),
            "in_channels is 9, but 4 in",
        ),
        (
            lambda folder: (folder / "tokenizer/vocab.json").write_text('{"a": 1}'),
            "a is 1, but 0 in",
        ),
    ],
)
def test_pipelines_that_do_not_fit_each_other_are_refused(pipelines, tmp_path, change, what):
    change(pipelines[1])

    with pytest.raises(MismatchError, match=what):
        soup(*pipelines, output=tmp_path / "soup")
    assert ["a", "b"] == sorted(path.name for path in tmp_path.iterdir())


def test_a_pipeline_and_a_file_are_refused(pipelines, tmp_path):
    with pytest.raises(MismatchError, match="one checkpoint where"):
        soup(pipelines[0], pipelines[1] / UNET, output=tmp_path / "soup")
    with pytest.raises(UsageError, match="one file cannot hold 3 components"):
        soup(*pipelines, output=tmp_path / "soup.st")
    with pytest.raises(MismatchError, match="has no component 'prior'"):
        soup(*pipelines, output=tmp_path / "soup", component="prior")


def test_a_failure_in_a_later_component_leaves_nothing(pipelines, tmp_path):
    save(
        pipelines[1] / "vae" / UNET.rpartition("/")[2],
        **{"quant_conv.weight": np.full((8, 8), F16(np.nan))},
    )

    with pytest.raises(InputError, match="NaN"):
        soup(*pipelines, output=tmp_path / "soup")
    assert ["a", "b"] == sorted(path.name for path in tmp_path.iterdir())


def test_a_sharded_checkpoint_gives_the_same_shards_and_an_index(sharded, tmp_path):
    (made,) = soup(*sharded, output=tmp_path / "soup")
    index = json.loads((tmp_path / "soup" / INDEX).read_text())

    assert {*SHARDS, INDEX} == set(files(tmp_path / "soup"))
    assert {"a": SHARDS[0], "b": SHARDS[1], "c": SHARDS[0]} == index["weight_map"]
    assert 32 == index["metadata"]["total_size"] == made.written
    assert ("F16", (5,), b"\x00\x38" * 5) == contents(tmp_path / "soup" / SHARDS[0])["a"]


def test_a_sharded_checkpoint_goes_into_one_file(sharded, tmp_path):
    (one,) = soup(*sharded, output=tmp_path / "soup.st")
    (other,) = soup(*sharded, output=tmp_path / "soup")

    assert {"a", "b", "c"} == set(contents(tmp_path / "soup.st"))
    assert one.ledger.root == other.ledger.root


def test_the_ledger_of_a_sharded_soup_among_the_ingredients_is_kept(sharded, tmp_path):
    (made,) = soup(*sharded, output=tmp_path / "soup")
    (again,) = soup(tmp_path / "soup", sharded[0], output=tmp_path / "again.st")

    assert {made.ledger.root: made.ledger} == again.ledger.ancestors


def test_a_shard_that_is_left_empty_is_not_written(sharded, tmp_path):
    soup(*sharded, output=tmp_path / "soup", excludes=("b",))

    assert {SHARDS[0], INDEX} == set(files(tmp_path / "soup"))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (10, ["model-00001-of-00003", "model-00002-of-00003", "model-00003-of-00003"]),
        (26, ["model-00001-of-00002", "model-00002-of-00002"]),
        (32, ["model"]),
    ],
)
def test_shards_have_at_most_the_asked_size(sharded, tmp_path, size, expected):
    (made,) = soup(*sharded, output=tmp_path / "soup", shard_size=size)
    found = files(tmp_path / "soup")
    weights = sorted(name.partition(".")[0] for name in found if name.endswith(".safetensors"))

    assert expected == weights
    assert (INDEX in found) == (len(expected) > 1)
    assert ["a", "b", "c"] == sorted(
        tensor
        for name in expected
        for tensor in contents(tmp_path / "soup" / f"{name}.safetensors")
    )
    (whole,) = soup(*sharded, output=tmp_path / "whole.st")
    assert whole.ledger.root == made.ledger.root


def test_a_file_becomes_a_folder_of_shards_on_request(tmp_path):
    save(tmp_path / "a.st", a=np.zeros(4, F16), b=np.zeros(4, F16))
    soup(tmp_path / "a.st", output=tmp_path / "soup", shard_size=8)

    assert {*SHARDS, INDEX} == set(files(tmp_path / "soup"))


def test_more_shards_than_can_be_open_are_refused(tmp_path):
    save(tmp_path / "a.st", **{f"t{number}": F16(0) for number in range(600)})

    with pytest.raises(LimitError, match="shard_size=2 makes 600 files; at most 512"):
        soup(tmp_path / "a.st", output=tmp_path / "soup", shard_size=2)
    assert not (tmp_path / "soup").exists()


def test_the_files_of_all_components_together_are_bounded(tmp_path):
    pipeline = save_pipeline(tmp_path / "p", 0)
    for name in ("unet", "vae"):
        path = pipeline / name / UNET.rpartition("/")[2]
        save(path, **{f"t{number}": F16(0) for number in range(300)})

    with pytest.raises(LimitError, match="the components have 602 files in total; at most 512"):
        soup(pipeline, output=tmp_path / "soup", shard_size=2)
    assert not (tmp_path / "soup").exists()


def test_a_soup_folder_is_replaced_only_by_force(sharded, tmp_path):
    soup(*sharded, output=tmp_path / "soup")

    with pytest.raises(OutputError, match=r"exists \(force=True replaces it\)"):
        soup(*sharded, output=tmp_path / "soup")
    soup(sharded[0], output=tmp_path / "soup", force=True)
    assert contents(sharded[0] / SHARDS[0]) == contents(tmp_path / "soup" / SHARDS[0])


def test_a_folder_that_holds_an_input_is_not_replaced(pipelines, tmp_path):
    soup(*pipelines, output=tmp_path / "soup")
    before = files(tmp_path)

    for path, component in ((tmp_path / "soup", "unet"), (tmp_path / "soup" / "unet", None)):
        with pytest.raises(OutputError, match="holds an input"):
            soup(path, output=tmp_path / "soup", component=component, force=True)
    with pytest.raises(OutputError, match="holds an input"):
        soup(tmp_path / "soup" / UNET, output=tmp_path / "soup", shard_size=99, force=True)
    assert before == files(tmp_path)


def test_a_folder_of_no_tensors_keeps_its_file(tmp_path):
    save(tmp_path / "a" / "model.safetensors")
    soup(tmp_path / "a", output=tmp_path / "soup")

    assert {"model.safetensors"} == set(files(tmp_path / "soup"))
    assert contents(tmp_path / "soup" / "model.safetensors") == {}
