"""Where weights are found, and what of a folder, an index or a shard is not believed."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from making import contents, save, save_pipeline
from weight_folders import INDEX, W, odd, refusal, tensors

from soupctl import verbs
from soupctl.checkpoints.checkpoint import open_checkpoint
from soupctl.checkpoints.layout import ModelFiles, find_model
from soupctl.errors import InputError, MismatchError
from soupctl.merge.revise import revise
from soupctl.merge.revision import Revision
from soupctl.storage.folder import equal_bytes, files_in, other_files
from soupctl.verbs import Request


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors",
        "diffusion_pytorch_model.safetensors",
        "adapter_model.safetensors",
        "soup.st",
        "anything.safetensors",
    ],
)
def test_the_one_checkpoint_of_a_folder_is_found(tmp_path, name):
    save(tmp_path / name, w=W)
    (tmp_path / "config.json").write_text("{}")

    assert {"": ["w"]} == tensors(tmp_path)
    assert {"": ["w"]} == tensors(tmp_path / name)


def test_two_sets_of_weights_are_refused(tmp_path):
    save(tmp_path / "model.safetensors", w=W)
    save(tmp_path / "diffusion_pytorch_model.safetensors", w=W)

    error = refusal(tmp_path)
    assert isinstance(error, InputError)
    assert "holds more than one set of weights" in error.message()


def test_files_that_no_library_looks_for_are_not_guessed_among(tmp_path):
    save(tmp_path / "a.safetensors", w=W)
    save(tmp_path / "b.safetensors", w=W)

    assert "holds 2 safetensors files" in refusal(tmp_path).message()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "v1-5.ckpt", "x.pt", "x.pkl"])
def test_pickles_are_refused_unopened(tmp_path, name):
    os.mkfifo(tmp_path / name)

    assert "holds only pickled weights" in refusal(tmp_path).message()


def test_an_empty_folder_is_refused(tmp_path):
    assert "holds no safetensors weights" in refusal(tmp_path).message()


def test_the_folder_of_a_training_run_is_refused_naming_its_model(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    save_pipeline(tmp_path / "model", 0)

    message = refusal(tmp_path).message()
    assert message.endswith(f"holds no safetensors weights ({tmp_path / 'model'} does)")


@pytest.mark.parametrize("name", ["__0_0.distcp", "model.gguf", "flax_model.msgpack"])
def test_weights_of_another_format_are_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")

    message = refusal(tmp_path).message()
    assert f"holds weights in another format only ({name})" in message
    assert "convert them to safetensors first" in message


def test_a_folder_of_the_hub_s_cache_leads_to_a_repository_in_it(tmp_path):
    snapshot = tmp_path / "models--a--b" / "snapshots" / "1"
    save(snapshot / "model.safetensors", w=W)
    (tmp_path / "models--a--b" / "refs").mkdir()

    message = refusal(tmp_path).message()
    assert message.endswith(f"({tmp_path / 'models--a--b'} does)")
    assert {"": ["w"]} == tensors(tmp_path / "models--a--b")


def test_a_suffix_in_capitals_is_one(tmp_path):
    save(tmp_path / "MODEL.SAFETENSORS", w=W)

    assert {"": ["w"]} == tensors(tmp_path)


def test_a_variant_is_preferred_where_it_is(tmp_path):
    save(tmp_path / "model.safetensors", plain=W)
    save(tmp_path / "model.fp16.safetensors", half=W)

    assert {"": ["half"]} == tensors(tmp_path, variant="fp16")
    assert {"": ["plain"]} == tensors(tmp_path, variant="bf16")
    assert {"": ["plain"]} == tensors(tmp_path)


def test_components_are_those_folders_that_have_weights(tmp_path):
    save_pipeline(tmp_path / "p", 0)

    assert ["text_encoder", "unet", "vae"] == list(tensors(tmp_path / "p"))
    assert {"": ["conv_in.weight"]} == tensors(tmp_path / "p", component="unet")
    error = refusal(tmp_path / "p", component="tokenizer")
    assert isinstance(error, MismatchError)
    assert "it has text_encoder, unet, vae" in error.message()


def test_of_two_sets_of_weights_the_one_of_the_config_s_library_is_read(tmp_path):
    save(tmp_path / "model.safetensors", mine=W)
    save(tmp_path / "diffusion_pytorch_model.safetensors", w=W)
    for text, expected in (
        ('{"_class_name": "UNet2DModel"}', "w"),
        ('{"model_type": "clip_text_model"}', "mine"),
    ):
        (tmp_path / "config.json").write_text(text)
        (component,) = find_model(tmp_path).components
        assert 1 == len(component.passed_over)
        assert {"": [expected]} == tensors(tmp_path)

    save(tmp_path / "adapter_model.safetensors", lora=W)
    assert "holds more than one set of weights" in refusal(tmp_path).message()


def test_the_file_that_is_read_is_said_and_the_others_are_left_behind(tmp_path):
    folders = []
    for value in (1, 2):
        folders.append(odd(tmp_path / str(value), value))
        save(folders[-1] / "model.safetensors", a=W + 10 * value, b=W)
    request = Request(folders, tmp_path / "soup", keep_sum=True)
    with verbs.open_job(request) as job:
        assert [f"model.safetensors is read, as transformers does, and not {INDEX}"] * 2 == [
            note.split(": ", 1)[1] for note in job.notes
        ]
    (found,) = verbs.inspect(folders[0])
    assert [f"model.safetensors is read, as transformers does, and not {INDEX}"] == [
        note.split(": ", 1)[1] for note in found.notes
    ]
    verbs.average(request)

    assert {"model.safetensors"} == {each.name for each in (tmp_path / "soup").iterdir()}
    assert (
        np.float16(15)
        == np.frombuffer(contents(tmp_path / "soup" / "model.safetensors")["a"][2], "f2")[0]
    )
    added, more, back = odd(tmp_path / "3", 3), tmp_path / "more", tmp_path / "back"
    revise(Revision("add", tmp_path / "soup", more, added=[added]))
    revise(Revision("subtract", more, back, removed=[str(added)]))
    assert contents(tmp_path / "soup" / "model.safetensors") == contents(
        tmp_path / "back" / "model.safetensors"
    )


def open_two(first: ModelFiles, other: ModelFiles) -> bool:
    with (
        open_checkpoint(first.components[0]) as one,
        open_checkpoint(other.components[0]) as two,
    ):
        shared = two.share_layout(one)
        assert shared == (two.tensors is one.tensors)
        assert two.stored("w").read()
        return shared


def test_checkpoints_of_equal_layout_share_one_table(tmp_path):
    for number, name in enumerate("ab"):
        save(tmp_path / f"{name}.st", w=W + number, x=W)
    save(tmp_path / "c.st", w=W, y=W)
    found = {name: find_model(tmp_path / f"{name}.st") for name in "abc"}

    assert open_two(found["a"], found["b"])
    assert not open_two(found["a"], found["c"])


def test_nothing_is_read_of_a_closed_checkpoint(tmp_path):
    (component,) = find_model(save(tmp_path / "a.st", w=W + 1)).components
    with open_checkpoint(component) as checkpoint:
        stored = checkpoint.stored("w")
        assert stored.read() == (W + 1).tobytes()

    with pytest.raises(ValueError, match="closed"):
        stored.read()


def test_other_files_are_those_wanted_but_hidden_ones(tmp_path):
    for name in ("a.json", "sub/b.json", "sub/no.py", ".hidden", ".git/c.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "also.json").symlink_to("a.json")
    found = other_files(tmp_path, lambda name: name.endswith(".json"))

    assert {"a.json", "also.json", "sub/b.json"} == set(found)
    assert equal_bytes(tmp_path / "a.json", tmp_path / "also.json")
    assert not equal_bytes(tmp_path / "a.json", tmp_path / "sub/b.json")


def test_links_to_folders_are_followed_where_weights_are_found_through_them(tmp_path):
    (tmp_path / "shared" / "more").mkdir(parents=True)
    (tmp_path / "shared" / "more" / "a.json").write_text("{}")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "vae").symlink_to("../shared")
    (tmp_path / "m" / ".cache").symlink_to("..")

    assert {"vae/more/a.json"} == set(other_files(tmp_path / "m", lambda name: True))
    (tmp_path / "shared" / "deep").symlink_to("more")
    with pytest.raises(InputError, match="vae/deep: is a link to a folder, and not followed"):
        other_files(tmp_path / "m", lambda name: True)


@pytest.mark.parametrize("target", [".", "..", "../..", "../m"])
def test_a_link_that_leads_in_a_circle_is_refused(tmp_path, target):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "again").symlink_to(target)

    with pytest.raises(InputError, match="again: is a link to a folder that it lies in"):
        other_files(tmp_path / "m", lambda name: True)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("nowhere")])
def test_another_file_that_is_none_is_refused(tmp_path, make):
    make(tmp_path / "config.json")

    with pytest.raises(InputError, match="is neither a regular file nor a folder"):
        other_files(tmp_path, lambda name: True)
    with pytest.raises(InputError, match="is neither a regular file nor a folder"):
        files_in(tmp_path, lambda name: True)
    assert {} == files_in(tmp_path, lambda name: name != "config.json")


def test_a_folder_that_vanished_is_refused(tmp_path):
    model = find_model(save(tmp_path / "m" / "model.safetensors", w=W).parent)
    shutil.rmtree(tmp_path / "m")

    with pytest.raises(InputError, match="cannot be read: No such file"):
        open_checkpoint(model.components[0])
