"""A bank's folder: what is written is read back, and what is not sound is refused."""

import json
import os

import bases
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from soupctl import verbs
from soupctl.banks.config import GateInput, GateKind
from soupctl.banks.files import (
    CONFIG,
    WEIGHTS,
    bank_digest,
    is_bank,
    load_bank,
    read_config,
    save_bank,
)
from soupctl.errors import InputError, OutputError, SoupError


@pytest.fixture
def bank():
    return bases.filled_bank(bases.dit(layers=2), noisy=True)


@pytest.fixture
def saved(bank, tmp_path):
    folder = tmp_path / "bank"
    save_bank(bank, folder)
    return folder


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"noisy": True, "topk": 0.25, "gate_input": GateInput.TIME_AND_CLASS},
        {"gate": GateKind.MIXTURE, "num_prompts": 3},
    ],
    ids=str,
)
def test_a_bank_reads_back_as_it_was_written(base, options, tmp_path):
    bank = bases.filled_bank(base, **options)
    save_bank(bank, tmp_path / "bank")
    loaded = load_bank(tmp_path / "bank")

    assert bank.config == loaded.config
    assert bank.tensors().keys() == loaded.tensors().keys()
    for name, tensor in bank.tensors().items():
        assert bases.same_bits(tensor, loaded.tensors()[name])
    assert all(parameter.requires_grad for parameter in loaded.parameters())


def test_the_files_have_the_names_of_peft_and_the_tensors_those_of_the_format(bank, saved):
    assert {"adapter_config.json", "adapter_model.safetensors"} == set(os.listdir(saved))
    assert {
        "prompts.transformer_blocks.0",
        "prompts.transformer_blocks.1",
        "gate.16.weight",
        "gate.16.bias",
        "gate.16.noise",
    } == load_file(saved / WEIGHTS).keys()
    assert "SOUPCTL_DMP" == json.loads((saved / CONFIG).read_text())["peft_type"]


def test_equal_banks_have_equal_files(bank, saved, tmp_path):
    save_bank(load_bank(saved), tmp_path / "again")

    for name in (CONFIG, WEIGHTS):
        assert (saved / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_a_bank_has_the_content_digest_that_soupctl_gives_its_file(bank, saved):
    (found,) = verbs.content_digests(saved)

    assert found.digest == bank_digest(bank) == bank_digest(load_bank(saved))


def test_metadata_and_other_files_go_along(bank, tmp_path):
    folder = tmp_path / "bank"
    save_bank(bank, folder, metadata={"note": "mine"}, companion_files={"README.md": b"# A bank\n"})

    with safe_open(folder / WEIGHTS, "pt") as file:
        assert {"format": "pt", "note": "mine"} == file.metadata()
    assert b"# A bank\n" == (folder / "README.md").read_bytes()


def test_an_existing_folder_is_replaced_only_if_asked_and_only_if_it_is_a_bank(bank, saved):
    with pytest.raises(OutputError, match="exists"):
        save_bank(bank, saved)
    save_bank(bank, saved, replace=True)

    (saved / "notes.txt").write_text("mine")
    with pytest.raises(OutputError):
        save_bank(bank, saved, replace=True)
    assert "mine" == (saved / "notes.txt").read_text()


def test_a_folder_that_is_no_bank_is_never_replaced(bank, tmp_path):
    (tmp_path / "empty").mkdir()

    with pytest.raises(OutputError):
        save_bank(bank, tmp_path / "empty", replace=True)
    assert not is_bank(tmp_path / "empty")


def test_nothing_is_left_of_a_bank_that_could_not_be_written(bank, tmp_path):
    with pytest.raises(OutputError):
        save_bank(bank, tmp_path / "bank", companion_files={"../outside": b""})

    assert [] == os.listdir(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_bank_in_16_bits_is_read_into_32(bank, saved, dtype):
    tensors = {name: tensor.to(dtype) for name, tensor in bank.tensors().items()}
    save_file(tensors, saved / WEIGHTS)
    loaded = load_bank(saved)

    for name, tensor in tensors.items():
        assert torch.equal(tensor.float(), loaded.tensors()[name])


def altered(saved, change):
    tensors = load_file(saved / WEIGHTS)
    change(tensors)
    save_file(tensors, saved / WEIGHTS)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda tensors: tensors.pop("gate.16.bias"), "gate.16.bias: is missing"),
        (
            lambda tensors: tensors.update(extra=torch.zeros(1)),
            "extra: is not in the bank's config",
        ),
        (
            lambda tensors: tensors.update({"gate.16.bias": torch.zeros(17)}),
            r"gate.16.bias: has shape \[17\], but the bank's config says \[16\]",
        ),
        (
            lambda tensors: tensors.update({"gate.16.bias": torch.zeros(16, dtype=torch.int32)}),
            "gate.16.bias: has dtype I32",
        ),
        (
            lambda tensors: tensors["gate.16.bias"].fill_(float("nan")),
            "gate.16.bias: holds NaN or infinity",
        ),
        (
            lambda tensors: tensors["gate.16.noise"].fill_(float("-inf")),
            "gate.16.noise: holds NaN or infinity",
        ),
    ],
)
def test_tensors_that_the_config_does_not_describe_are_refused(saved, change, problem):
    altered(saved, change)

    with pytest.raises(InputError, match=f"{WEIGHTS}: {problem}"):
        load_bank(saved)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_missing_file_is_refused_by_name(saved, name):
    (saved / name).unlink()

    with pytest.raises(InputError, match=f"{name}: cannot be read"):
        load_bank(saved)


def test_a_config_makes_no_more_numbers_than_the_file_holds(saved):
    """A billion prompts of 16 kB are refused before any is made."""
    fields = json.loads((saved / CONFIG).read_text())
    (saved / CONFIG).write_text(
        json.dumps({**fields, "gate": "mixture", "num_prompts": 1_000_000_000})
    )

    with pytest.raises(InputError, match="has shape"):
        load_bank(saved)


def test_an_average_of_banks_is_a_bank(bank, saved, tmp_path):
    """It averages their parameters; a stack averages what they do."""
    other = bases.filled_bank(bases.dit(layers=2), seed=12, noisy=True)
    save_bank(other, tmp_path / "other")
    ingredients = [verbs.Ingredient(saved), verbs.Ingredient(tmp_path / "other")]
    verbs.average(verbs.Request(ingredients=ingredients, output=tmp_path / "soup"))
    soup = load_bank(tmp_path / "soup")

    assert bank.config == soup.config
    for name, tensor in soup.tensors().items():
        exact = (bank.tensors()[name].double() + other.tensors()[name].double()) / 2
        assert torch.equal(exact.float(), tensor)


def test_banks_of_different_gates_are_not_averaged(saved, tmp_path):
    other = bases.filled_bank(bases.dit(layers=2), noisy=True, topk=0.5)
    save_bank(other, tmp_path / "other")
    ingredients = [verbs.Ingredient(saved), verbs.Ingredient(tmp_path / "other")]

    with pytest.raises(SoupError, match=r"adapter_config\.json.*topk"):
        verbs.average(verbs.Request(ingredients=ingredients, output=tmp_path / "soup"))


def test_the_config_is_read_without_the_weights(bank, saved):
    (saved / WEIGHTS).unlink()

    assert bank.config == read_config(saved)
