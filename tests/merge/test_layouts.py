"""The weights of a model are found as its folder lists them, and as the libraries name them."""

from __future__ import annotations

import json
import os
import shutil
from hashlib import sha256
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from making import contents, files, save, save_pipeline, save_shards

from soupctl import verbs
from soupctl.checkpoints.layout import find_model
from soupctl.errors import InputError, MismatchError
from soupctl.ledger.locate import checkpoints_in
from soupctl.verbs import Request

APPLE = b"\x00\x05\x16\x07\x00\x02\x00\x00" + bytes(88)


def weights(path: Path, value: float = 1) -> Path:
    save(path, {"format": "pt"}, w=np.full(4, value, np.float32))
    return path


def names(path: Path, **options: str) -> list[str]:
    return [component.name for component in find_model(path, **options).components]


def beside(path: Path) -> None:
    """What macOS writes beside every entry of a folder on another file system."""
    for entry in sorted(path.rglob("*")):
        entry.with_name(f"._{entry.name}").write_bytes(APPLE)


def modules(folder: Path, *paths: str, value: float = 1) -> Path:
    for path in paths:
        weights(folder / path / "model.safetensors", value)
    (folder / "1_Pooling").mkdir()
    listed = [{"idx": 0, "path": path, "type": "x"} for path in (*paths, "1_Pooling")]
    (folder / "modules.json").write_text(json.dumps(listed))
    return folder


def test_folders_that_a_pipeline_does_not_list_are_no_components(tmp_path):
    pipeline = save_pipeline(tmp_path / "a", 1)
    weights(pipeline / "checkpoint-500" / "model.safetensors")
    weights(pipeline / "unet_ema" / "diffusion_pytorch_model.safetensors")

    assert ["text_encoder", "unet", "vae"] == names(pipeline)
    with pytest.raises(MismatchError, match="no component 'unet_ema'"):
        find_model(pipeline, component="unet_ema")


def test_the_modules_of_a_sentence_encoder_are_components(tmp_path):
    for name, value in (("a", 1), ("b", 3)):
        modules(tmp_path / name, "", "2_Dense", value=value)
    verbs.average(Request([tmp_path / "a", tmp_path / "b"], tmp_path / "soup"))

    assert ["", "2_Dense"] == names(tmp_path / "a")
    for path in ("model.safetensors", "2_Dense/model.safetensors"):
        (found,) = contents(tmp_path / "soup" / path).values()
        assert np.full(4, 2, np.float32).tobytes() == found[2]
    assert "modules.json" in files(tmp_path / "soup")
    assert ["2_Dense"] == [find_model(tmp_path / "a", component="2_Dense").components[0].path.name]


@pytest.mark.parametrize("text", ["{}", "[1]", '[{"path": 1}]', '[{"path": "../b"}]', '["", ', "1"])
def test_a_malformed_list_of_modules_is_refused(text, tmp_path):
    weights(tmp_path / "model.safetensors")
    (tmp_path / "modules.json").write_text(text)

    with pytest.raises(InputError, match=r"modules\.json: (is not a valid list|names the module)"):
        find_model(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "dream.safetensors", "flux.sft"])
def test_files_that_macos_writes_beside_others_are_not_seen(name, tmp_path):
    weights(tmp_path / name)
    (tmp_path / "config.json").write_text("{}")
    beside(tmp_path)

    assert (tmp_path / name,) == find_model(tmp_path).components[0].files
    assert [tmp_path / name] == list(checkpoints_in(tmp_path))


def test_a_pipeline_is_found_among_the_hidden_files_of_macos(tmp_path):
    pipeline = save_pipeline(tmp_path / "a", 1)
    expected = find_model(pipeline)
    beside(tmp_path)

    assert expected == find_model(pipeline)


def repository(folder: Path, *commits: str, main: str | None = None) -> Path:
    (folder / "refs").mkdir(parents=True)
    (folder / "snapshots").mkdir()
    for commit in commits:
        weights(folder / "snapshots" / commit / "model.safetensors")
    if main is not None:
        (folder / "refs" / "main").write_text(main)
    return folder


@pytest.mark.parametrize(
    ("commits", "main"), [("a", None), ("ab", "a"), ("a", "gone"), ("a", "../../a"), ("ab", "a\n")]
)
def test_a_repository_of_the_cache_leads_to_its_snapshot(commits, main, tmp_path):
    folder = repository(tmp_path / "models--x--y", *commits, main=main)

    assert folder / "snapshots" / "a" == find_model(folder).folder


def test_a_repository_with_several_snapshots_is_refused_unless_main_names_one(tmp_path):
    folder = repository(tmp_path / "models--x--y", "a", "b")

    with pytest.raises(InputError, match=r"2 snapshots, .* \(name one, such as .*/snapshots/a\)$"):
        find_model(folder)


def test_a_repository_without_a_snapshot_is_refused(tmp_path):
    with pytest.raises(InputError, match="without a snapshot"):
        find_model(repository(tmp_path / "models--x--y"))


def test_a_folder_of_several_models_says_which_it_holds(tmp_path):
    for name in ("high_noise_model", "low_noise_model"):
        save_shards(
            tmp_path / name, "diffusion_pytorch_model", {"a": np.ones(2)}, {"b": np.ones(2)}
        )
    (tmp_path / "Wan2.1_VAE.pth").write_bytes(b"PK")

    with pytest.raises(InputError, match=r"\(high_noise_model, low_noise_model\).*one by one"):
        find_model(tmp_path)


def test_a_pickled_component_says_how_to_take_the_others(tmp_path):
    pipeline = save_pipeline(tmp_path / "a", 1)
    (pipeline / "vae" / "diffusion_pytorch_model.safetensors").rename(pipeline / "vae" / "old.bin")

    with pytest.raises(InputError) as caught:
        find_model(pipeline)
    (issue,) = caught.value.issues
    assert "holds only pickled weights (old.bin)" in issue.what
    assert issue.advice is not None
    assert issue.advice.endswith("--component text_encoder or --component unet")
    assert [""] == names(pipeline, component="unet")


@pytest.mark.parametrize("mark", ["aria2", "part", "incomplete", "crdownload", "download", "!qB"])
def test_a_file_that_is_still_downloaded_is_refused(mark, tmp_path):
    file = weights(tmp_path / "model.safetensors")
    (tmp_path / f"model.safetensors.{mark}").touch()

    for path in (file, tmp_path):
        with pytest.raises(InputError, match=rf"is not downloaded completely: .*\.{mark} lies"):
            find_model(path)


def test_a_blob_that_is_still_downloaded_is_refused(tmp_path):
    blob = weights(tmp_path / "blobs" / "0123")
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / "model.safetensors").symlink_to(blob)
    assert find_model(tmp_path / "snapshot").components
    (tmp_path / "blobs" / "0123.incomplete").touch()

    with pytest.raises(InputError, match="is not downloaded completely"):
        find_model(tmp_path / "snapshot")


def test_an_index_of_one_file_is_no_second_set_of_weights(tmp_path):
    file = weights(tmp_path / "model.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"w": "./model.safetensors"}}))
    assert (file,) == find_model(tmp_path).components[0].files

    weights(tmp_path / "other.safetensors")
    index.write_text(json.dumps({"weight_map": {"w": "other.safetensors"}}))
    (component,) = find_model(tmp_path).components
    assert ((file,), (index.name,)) == (component.files, component.passed_over)


def test_a_mark_that_appears_and_goes_is_seen_though_folders_are_listed_once(tmp_path):
    paths = [save(tmp_path / f"{n}.safetensors", w=np.ones(3, "f4")) for n in range(3)]
    os.utime(tmp_path, (1, 1))
    mark = tmp_path / "1.safetensors.part"
    with mock.patch("os.scandir", wraps=os.scandir) as scandir:
        for path in paths:
            find_model(path)
    assert 1 == scandir.call_count

    mark.touch()
    with pytest.raises(InputError, match="not downloaded completely"):
        find_model(paths[1])
    mark.unlink()
    find_model(paths[1])


def test_a_blob_with_another_sha256_than_its_name_is_refused_on_request(tmp_path):
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "main"
    file = save(tmp_path / "plain.safetensors", w=np.ones(3, "f4"))
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    true = blobs / sha256(file.read_bytes()).hexdigest()
    false = blobs / ("0" * 64)
    for blob in (true, false):
        shutil.copy(file, blob)
        (snapshot / f"{blob.name[:4]}.safetensors").symlink_to(blob)
    paths = [snapshot / f"{blob.name[:4]}.safetensors" for blob in (true, false)]

    verbs.average(Request([paths[0], file], tmp_path / "o.safetensors", check_blobs=True))
    verbs.average(Request(paths, tmp_path / "p.safetensors"))
    with pytest.raises(InputError, match=r"0000\.safetensors: is damaged: its SHA-256") as caught:
        verbs.average(Request(paths, tmp_path / "q.safetensors", check_blobs=True))
    assert str(false) in caught.value.message()


def test_every_control_net_of_several_is_averaged(tmp_path):
    for value in (1, 3):
        pipeline = save_pipeline(tmp_path / str(value), value)
        for name in ("controlnet", "controlnet_1", "controlnet_2"):
            weights(pipeline / name / "diffusion_pytorch_model.safetensors", value)
        listing = json.loads((pipeline / "model_index.json").read_text())
        listing["controlnet"] = ["diffusers", "MultiControlNetModel"]
        (pipeline / "model_index.json").write_text(json.dumps(listing))
    verbs.average(Request([tmp_path / "1", tmp_path / "3"], tmp_path / "soup"))

    for name in ("controlnet", "controlnet_1", "controlnet_2"):
        (found,) = contents(
            tmp_path / "soup" / name / "diffusion_pytorch_model.safetensors"
        ).values()
        assert np.full(4, 2, np.float32).tobytes() == found[2]


def test_a_component_that_no_input_has_is_said_to_be_missing(tmp_path):
    for seed in (1, 2):
        shutil.rmtree(save_pipeline(tmp_path / str(seed), seed) / "vae")
    with verbs.open_job(Request([tmp_path / "1", tmp_path / "2"], tmp_path / "soup")) as job:
        assert ["vae" in note and "model_index.json lists it" in note for note in job.notes] == [
            True
        ]


def test_a_scheduler_beside_a_denoiser_in_the_root_folder_is_not_missing(tmp_path):
    for value in (1, 2):
        folder = tmp_path / str(value)
        weights(folder / "diffusion_pytorch_model.safetensors", value)
        listing = {
            "unet": ["diffusers", "UNet2DModel"],
            "scheduler": ["diffusers", "DDPMScheduler"],
        }
        for name in ("config.json", "scheduler_config.json"):
            (folder / name).write_text("{}")
        (folder / "model_index.json").write_text(json.dumps(listing))
    request = Request([tmp_path / "1", tmp_path / "2"], tmp_path / "soup")

    with verbs.open_job(request) as job:
        assert job.notes == ()
    (tmp_path / "1" / "scheduler_config.json").unlink()
    with verbs.open_job(request) as job:
        assert ["has no scheduler, though" in note for note in job.notes] == [True]


def test_a_lone_variant_becomes_a_file_that_loads_by_default(tmp_path):
    for value in (1, 2):
        weights(tmp_path / str(value) / "diffusion_pytorch_model.fp16.safetensors", value)
    verbs.average(Request([tmp_path / "1", tmp_path / "2"], tmp_path / "soup"))

    assert {"diffusion_pytorch_model.safetensors"} == files(tmp_path / "soup").keys()


def test_no_shard_is_taken_for_a_model_or_for_another_shard(tmp_path):
    save_shards(tmp_path, "model", {"a": np.ones(2)}, {"b": np.ones(2)}, {"c": np.ones(2)})
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(InputError) as caught:
        find_model(tmp_path)
    assert "model-00002-of-00003.safetensors: is a missing shard" in caught.value.message()
    assert "did you mean" not in caught.value.message()

    (tmp_path / "model.safetensors.index.json").unlink()
    with pytest.raises(InputError, match="download their index too"):
        find_model(tmp_path)


@pytest.mark.parametrize("name", ["model_index.json", "modules.json", "config.json"])
def test_the_config_of_a_model_leads_to_its_folder(name, tmp_path):
    (tmp_path / name).write_text("{}")
    with pytest.raises(InputError, match=f"is not a weights file \\(give its folder, {tmp_path}"):
        find_model(tmp_path / name)
