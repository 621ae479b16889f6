"""Adapter files as trainers write them are baked as their own formulas say, or refused."""

from pathlib import Path

import numpy as np
import pytest
from deltas import apply
from making import contents, save
from revising import revise, verified
from safetensors.numpy import load_file
from trainer_files import FILES, SCALE, D, few, pair, peft_with_biases

from soupctl import verbs
from soupctl.errors import InputError, MismatchError
from soupctl.verbs import Level


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def made(case):
    """The base, the adapter, and the exact result by name."""
    shapes, updates = case()
    base = {name: few(*shape) for name, shape in shapes.items()}
    # PEFT's own file name, beside which its config is looked for
    name = "adapter_model.safetensors" if case is peft_with_biases else "lora.safetensors"
    save(Path("base.safetensors"), **base)
    save(Path(name), **{key: value for each, _ in updates.values() for key, value in each.items()})
    exact = {
        key: array.astype(float)
        + (float(SCALE) * updates[key][1].reshape(array.shape) if key in updates else 0)
        for key, array in base.items()
    }
    return name, exact


@pytest.mark.parametrize("case", FILES, ids=lambda case: case.__name__)
def test_a_file_is_baked_as_its_formula_says(case):
    name, exact = made(case)

    apply("base.safetensors", (name, SCALE))

    found = load_file("out.st")
    assert exact.keys() == found.keys()
    for key, value in exact.items():
        assert np.array_equal(value.astype(np.float32), found[key]), key


@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize("case", FILES, ids=lambda case: case.__name__)
def test_a_baked_file_can_be_taken_out_and_added_again(case, keeps):
    name, _ = made(case)
    apply("base.safetensors", (name, SCALE), keep_sum=keeps)

    revise("subtract", "out.st", Path("left.st"), (), [name])
    revise("add", "left.st", Path("again.st"), [(name, SCALE)])

    assert contents(Path("base.safetensors")) == contents(Path("left.st"))
    assert contents(Path("out.st")) == contents(Path("again.st"))
    assert Level.REBUILD is verified(Path("again.st")).level
    assert verbs.holds("out.st", name) is not None


def test_a_bias_that_the_base_lacks_is_refused_by_its_name():
    save(Path("base.safetensors"), **{"m.weight": few(D, D)})
    save(Path("lora.safetensors"), **pair("m", D, D)[0], **{"m.diff_b": few(D)})

    with pytest.raises(MismatchError, match=r"m\.diff_b: matches no layer of base"):
        apply("base.safetensors", "lora.safetensors")


def test_a_full_difference_of_another_shape_is_refused_with_both():
    save(Path("base.safetensors"), **{"m.weight": few(D, D), "m.bias": few(D)})
    save(Path("lora.safetensors"), **{"m.diff": few(D, D + 1), "m.diff_b": few(D + 1)})

    with pytest.raises(MismatchError) as refused:
        apply("base.safetensors", "lora.safetensors")

    assert {"m.diff", "m.diff_b"} == {issue.tensor for issue in refused.value.issues}
    assert "its update is 8 by 9, where base.safetensors has 8 by 8" in str(refused.value)


def test_a_lora_and_a_full_difference_of_one_weight_are_refused():
    save(Path("base.safetensors"), **{"m.weight": few(D, D)})
    save(Path("lora.safetensors"), **pair("m", D, D)[0], **{"m.diff": few(D, D)})

    with pytest.raises(MismatchError, match=r"changes the same rows of m\.weight as m"):
        apply("base.safetensors", "lora.safetensors")


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"m.set_weight": (D, D)}, "is not a factor"),
        ({"m.dora_scale": (1, D)}, "DoRA"),
        ({"m.lora_A.bias": (2,)}, "is not a factor"),
        ({"m.modules_to_save.weight": (D, D)}, "is not a factor"),
        ({"m.reshape_weight": (2,)}, "is not a factor"),
    ],
)
def test_what_is_no_sum_is_refused_by_its_name(extra, words):
    save(Path("base.safetensors"), **{"m.weight": few(D, D)})
    more = {name: few(*shape) for name, shape in extra.items()}
    save(Path("lora.safetensors"), **pair("m", D, D)[0], **more)

    with pytest.raises(InputError, match=words):
        apply("base.safetensors", "lora.safetensors")


def test_a_dora_that_only_its_metadata_names_is_refused_in_one_line():
    save(Path("base.safetensors"), **{"m.weight": few(D, D)})
    said = {"ss_network_args": '{"dora_wd": "True"}'}
    save(Path("lora.safetensors"), said, **pair("m", D, D)[0])

    with pytest.raises(InputError, match="is an adapter with DoRA by its metadata") as refused:
        apply("base.safetensors", "lora.safetensors")

    assert "then use avg" in str(refused.value)
