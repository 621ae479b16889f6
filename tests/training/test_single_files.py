"""Single files in the layout of LDM are bases, and results, like the pipelines of diffusers."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from edited_bases import edit
from family_images import PROMPTS, drawn, require_exact_soup
from tiny_families import save_family

pytest.importorskip("diffusers")

import diffusers
import torch
import transformers

from soupctl import verbs
from soupctl.choices import Layout, Prediction, SaveAs
from soupctl.convert.configs.tokenizers import tokenizer_files
from soupctl.diffusion.loading import load_scheduler
from soupctl.diffusion.single_file import make_single_file
from soupctl.errors import InputError, MismatchError, SoupError, UsageError
from soupctl.images.compare import ASSUMED, sample_models
from soupctl.images.request import SampleRequest
from soupctl.verbs import ConvertRequest, content_digests

FAMILIES = ("sd1", "sd2", "sdxl")


def as_single_file(folder: Path) -> Path:
    file = folder.with_suffix(".safetensors")
    verbs.convert(ConvertRequest(folder, file, layout=Layout.LDM))
    return file


@pytest.fixture(scope="module")
def saved(tiny, tmp_path_factory):
    """Pipelines without tokenizers, each also as a single file, and a tokenizer."""
    folder = tmp_path_factory.mktemp("single")
    for name in FAMILIES:
        as_single_file(save_family(name, folder / name))
    tiny.tokenizer().save_pretrained(folder / "words")
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_a_single_file_is_the_same_base_as_its_pipeline(running, saved, family):
    base = running.read_base(saved / f"{family}.safetensors", None, saved / "words")
    assert base.given == saved / f"{family}.safetensors"

    models = running.load_models(base)

    for name in ("unet", "vae"):
        (own,), (theirs,) = map(content_digests, (base.folder / name, saved / family / name))
        assert own.digest == theirs.digest
    for name, encoder in models.text_encoders.items():
        theirs = type(encoder).from_pretrained(saved / family / name).state_dict()
        assert theirs.keys() == encoder.state_dict().keys()
        assert all(torch.equal(each, theirs[key]) for key, each in encoder.state_dict().items())
    for name, tokens in models.tokenizers.items():
        assert tokens("a red bar").input_ids[-1] == tokens.eos_token_id, name


def test_a_single_file_may_have_the_configs_of_another_pipeline(running, saved, tmp_path, tiny):
    other = save_family("sd1", tmp_path / "other")
    tiny.tokenizer().save_pretrained(other / "tokenizer")
    listing = json.loads((other / "model_index.json").read_text())
    listing["tokenizer"] = ["transformers", "CLIPTokenizer"]
    (other / "model_index.json").write_text(json.dumps(listing))

    base = running.read_base(saved / "sd1.safetensors", None, other)

    assert base.config["sample_size"] == 8
    assert base.scheduler_class == "DDIMScheduler"


def test_a_single_file_is_converted_once_until_it_changes(running, saved, tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes((saved / "sd1.safetensors").read_bytes())

    first, second = (running.read_base(file, None, saved / "words").folder for _ in range(2))
    kept = (first / "unet" / "diffusion_pytorch_model.safetensors").stat().st_mtime_ns
    os.utime(file, ns=(1, 1))
    third = running.read_base(file, None, saved / "words").folder

    assert (first, "model") == (second, first.name)
    assert kept == (second / "unet" / "diffusion_pytorch_model.safetensors").stat().st_mtime_ns
    assert third != first


@pytest.fixture(scope="module")
def run(tiny, running, saved, tmp_path_factory):
    """A run on a single file that publishes one."""
    folder = tmp_path_factory.mktemp("trained")
    options = {"steps": 1, "resolution": 16, "save_as": SaveAs.SINGLE_FILE}
    chosen = running.Options(**{**running.SHORT, **options})
    data = tiny.captioned_shard(folder / "data", size=16)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("soupctl.storage.cache.user_cache", lambda: folder / "cache")
        request = running.RunRequest(
            saved / "sd1.safetensors",
            data,
            folder / "cats",
            chosen,
            config_from=saved / "words",
        )
        (prepared,) = running.prepare([request], running.start_accelerator(chosen))
        # a plan names what the user named, not the folder in the cache
        assert prepared.plan.base == str(saved / "sd1.safetensors")
        running.finetune(prepared, running.ReporterSpy())
    return folder / "cats"


def test_a_run_names_the_file_that_it_publishes_like_its_folder(run):
    assert [run / "single-file" / "cats.safetensors"] == list((run / "single-file").iterdir())


def test_a_run_on_a_single_file_is_of_the_base_that_its_pipeline_is(run, saved):
    (base,) = content_digests(saved / "sd1" / "unet")

    ((_, ledger),) = verbs.history(run / "model" / "unet")

    assert ledger.training.base == base.digest


def test_diffusers_loads_a_published_single_file_as_the_model(run):
    model = diffusers.StableDiffusionPipeline.from_pretrained(run / "model")
    found = diffusers.StableDiffusionPipeline.from_single_file(
        run / "single-file" / "cats.safetensors", config=str(run / "model"), local_files_only=True
    )

    for name in ("unet", "vae", "text_encoder"):
        expected = getattr(model, name).state_dict()
        own = getattr(found, name).state_dict()
        assert own.keys() == expected.keys()
        assert all(torch.equal(own[key], expected[key]) for key in expected), name


@pytest.mark.parametrize("family", FAMILIES)
def test_runs_on_a_single_file_average_draw_and_one_is_removed_exactly(
    tiny, running, saved, tmp_path, family
):
    base, spy = saved / f"{family}.safetensors", running.ReporterSpy()
    options = {"config_from": saved / "words", "steps": 1, "resolution": 16}
    for count, name in enumerate(("one", "two"), 1):
        data = tiny.captioned_shard(tmp_path / f"{name} data", count, size=16)
        running.run(base, data, tmp_path / name, spy, **options)

    soup = require_exact_soup(
        [tmp_path / name / "model" for name in ("one", "two")], tmp_path, running
    )

    found = drawn(soup, prompts=PROMPTS)
    assert not torch.equal(found, drawn(base, prompts=PROMPTS, config_from=saved / "words"))


@pytest.mark.parametrize(
    ("marks", "metadata", "expected"),
    [
        ((), {}, ("epsilon", False)),
        (("v_pred",), {}, ("v_prediction", False)),
        (("v_pred", "ztsnr"), {}, ("v_prediction", True)),
        ((), {"modelspec.prediction_type": "v"}, ("v_prediction", False)),
        ((), {"prediction_type": "epsilon", "ss_v2": "True"}, ("epsilon", False)),
        ((), {"prediction_type": "?"}, ("epsilon", False)),
        (("v_pred",), {"ss_zero_terminal_snr": "True"}, ("v_prediction", True)),
    ],
)
def test_a_single_file_says_itself_what_it_predicts(
    running, saved, tmp_path, marks, metadata, expected
):
    file = with_marks(running, saved, tmp_path, marks, metadata)

    base = running.read_base(file, None, saved / "words")

    scheduler = load_scheduler(base).config
    assert expected == (scheduler.prediction_type, scheduler.rescale_betas_zero_snr)


@pytest.mark.parametrize("family", ["sd1", "sd2"])
@pytest.mark.parametrize("fields", [{}, {"prediction_type": "v_prediction"}])
def test_a_published_single_file_says_what_it_predicts(running, saved, tmp_path, family, fields):
    pipeline = shutil.copytree(saved / family, tmp_path / "pipeline")
    config = pipeline / "scheduler" / "scheduler_config.json"
    edit(config, rescale_betas_zero_snr=bool(fields), **fields)

    make_single_file(pipeline, tmp_path / "model.safetensors")

    base = running.read_base(tmp_path / "model.safetensors", None, saved / "words")
    scheduler = load_scheduler(base).config
    assert scheduler.prediction_type == fields.get("prediction_type", "epsilon")
    assert scheduler.rescale_betas_zero_snr == bool(fields)


def test_a_single_file_of_sd2_that_does_not_say_what_it_predicts_is_told(running, saved, tmp_path):
    def notices(file, **options):
        chosen = running.Options(**{**running.SHORT, "resolution": 16, **options})
        setup = running.read_base_setup(file, chosen, None, config_from=saved / "words")
        return [each for each in setup.notices if "v is assumed" in each]

    said = tmp_path / "said.safetensors"
    metadata = {"modelspec.prediction_type": "v"}
    running.save_file(running.load_file(saved / "sd2.safetensors"), said, metadata)

    (told,) = notices(saved / "sd2.safetensors")
    assert told == (
        "the file does not say what the model predicts, and v is assumed"
        " (prediction = epsilon in --config changes that)"
    )
    assert notices(saved / "sd2.safetensors", prediction=Prediction.EPSILON) == []
    assert notices(saved / "sd1.safetensors") == notices(said) == []


def test_sample_tells_that_it_assumes_what_a_single_file_predicts(running, saved):
    request = SampleRequest(
        images=1, steps=2, resolution=8, prompts=PROMPTS, config_from=saved / "words"
    )

    files = [saved / "sd1.safetensors", saved / "sd2.safetensors"]
    told = [each.notice for each in sample_models(files, [], request, torch.device("cpu"))]

    assert told == ["", ASSUMED]


def test_a_single_file_trained_with_the_noise_of_edm_is_refused(running, saved, tmp_path):
    file = with_marks(running, saved, tmp_path, ("edm_mean",), {})

    with pytest.raises(MismatchError, match="edm_mean: says that the model was trained with the"):
        running.read_base(file, None, saved / "words")


def test_a_text_encoder_in_a_single_file_may_lack_the_wrapper_of_its_names(
    running, saved, tmp_path
):
    tensors = running.load_file(saved / "sd1.safetensors")
    plain = {
        name.replace("transformer.text_model.", "transformer."): tensors[name] for name in tensors
    }
    running.save_file(plain, tmp_path / "old.safetensors")

    own, theirs = (
        running.load_models(running.read_base(file, None, saved / "words"))
        .text_encoders["text_encoder"]
        .state_dict()
        for file in (tmp_path / "old.safetensors", saved / "sd1.safetensors")
    )

    assert plain.keys() != tensors.keys()
    assert all(torch.equal(own[name], theirs[name]) for name in theirs)


def with_marks(running, saved, folder, marks, metadata) -> Path:
    """A copy of a single file that says how it was trained."""
    tensors = running.load_file(saved / "sd1.safetensors")
    tensors |= {name: torch.zeros(1) for name in marks}
    running.save_file(tensors, folder / "said.safetensors", metadata)
    return folder / "said.safetensors"


def test_only_a_single_file_is_given_configs(running, bases, saved):
    with pytest.raises(UsageError, match="not a single file, so config_from does not apply"):
        running.read_base(bases["text"], None, saved / "words")


@pytest.mark.parametrize(
    ("name", "config_from", "told"),
    [
        ("sd1.safetensors", None, "which has no tokenizer (--config-from DIR takes those of"),
        ("unet.safetensors", "words", "is not a pipeline of SD 1.x, SD 2.x, SDXL or Flux"),
        ("model.ckpt", None, "soupctl convert"),
        ("sd1.safetensors", "empty", "is no pipeline and no tokenizer"),
    ],
)
def test_a_file_that_is_no_base_is_refused_with_a_way_out(
    running, saved, tmp_path, name, config_from, told
):
    (saved / "empty").mkdir(exist_ok=True)
    unet = saved / "sd1" / "unet" / "diffusion_pytorch_model.safetensors"
    (saved / "unet.safetensors").write_bytes(unet.read_bytes())
    (saved / "model.ckpt").write_bytes(b"x")

    with pytest.raises(SoupError) as refused:
        running.read_base(saved / name, None, config_from and saved / config_from)

    assert told in refused.value.message()


@pytest.mark.parametrize("family", ["class", "dit", "plain"])
def test_a_model_that_cannot_be_a_single_file_is_refused_before_training(trained, tmp_path, family):
    with pytest.raises(UsageError, match="cannot be saved as a single file"):
        trained(family, tmp_path / "run", save_as=SaveAs.SINGLE_FILE)


def words(folder: Path, *, with_mark: bool) -> Path:
    folder.mkdir()
    vocabulary = {"a": 0, **({"!": 1} if with_mark else {})}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "tokenizer_config.json").write_text('{"pad_token": "<|endoftext|>"}')
    (folder / "special_tokens_map.json").write_text('{"pad_token": "<|endoftext|>"}')
    return folder


WANTED = {"tokenizer": "CLIPTokenizer", "tokenizer_2": "CLIPTokenizer"}


def test_one_tokenizer_serves_all_encoders_with_the_padding_of_each(tmp_path):
    files, seen = tokenizer_files(words(tmp_path / "w", with_mark=True), WANTED, {"tokenizer_2"})

    found = dict(files)
    assert json.loads(found["tokenizer/tokenizer_config.json"])["pad_token"] == "<|endoftext|>"
    assert json.loads(found["tokenizer_2/tokenizer_config.json"])["pad_token"] == "!"
    assert "tokenizer_2/special_tokens_map.json" not in found
    assert {each.path.name for each in seen} == {name.rpartition("/")[2] for name in found}


def test_a_tokenizer_without_that_token_keeps_its_padding(tmp_path):
    files, _ = tokenizer_files(words(tmp_path / "w", with_mark=False), WANTED, {"tokenizer_2"})

    assert "tokenizer_2/special_tokens_map.json" in dict(files)


@pytest.mark.parametrize("content", ["{}", '{"model": []}', '{"model": {"vocab": 1}}'])
def test_a_tokenizer_of_no_vocabulary_keeps_its_padding(tmp_path, content):
    folder = words(tmp_path / "w", with_mark=True)
    (folder / "vocab.json").unlink()
    (folder / "tokenizer.json").write_text(content)

    files, _ = tokenizer_files(folder, WANTED, {"tokenizer_2"})

    assert "tokenizer_2/special_tokens_map.json" in dict(files)


def test_a_tokenizer_that_is_missing_is_named(tmp_path):
    folder = words(tmp_path / "w", with_mark=True)

    with pytest.raises(InputError, match="no tokenizer in tokenizer_2"):
        tokenizer_files(folder, {**WANTED, "tokenizer_2": "T5TokenizerFast"}, set())


def test_the_padding_is_what_transformers_uses(tiny, tmp_path):
    whole = tiny.tokenizer()
    whole.save_pretrained(tmp_path / "w")
    path = tmp_path / "w" / "tokenizer.json"
    read = json.loads(path.read_text())
    read["model"]["vocab"]["!"] = len(read["model"]["vocab"])
    path.write_text(json.dumps(read))
    files, _ = tokenizer_files(tmp_path / "w", WANTED, {"tokenizer_2"})
    for name, content in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)

    loaded = [transformers.CLIPTokenizer.from_pretrained(tmp_path / name) for name in WANTED]

    assert [whole.pad_token, "!"] == [each.pad_token for each in loaded]
    assert loaded[1].pad_token_id == read["model"]["vocab"]["!"]
