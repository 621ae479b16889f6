"""A LoRA that is extracted is the nearest difference of its rank, and is applied like any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from deltas import apply
from making import contents, save

from soupctl import verbs
from soupctl.errors import InputError, LimitError, MismatchError, OutputError, UsageError
from soupctl.verbs import DType, Extraction

ROWS, COLUMNS = 12, 20


@pytest.fixture(autouse=True)
def differences(tmp_path, monkeypatch) -> dict[str, np.ndarray]:
    """A base and a fine-tuned checkpoint in the working folder; the difference of each matrix."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(1)
    shapes = {"wide.weight": (ROWS, COLUMNS), "tall.weight": (COLUMNS, ROWS)}
    shapes |= {"conv.weight": (8, 4, 3, 3), "same.weight": (6, 6), "wide.bias": (ROWS,)}
    base = {name: random.normal(0, 1, shape).astype(np.float32) for name, shape in shapes.items()}
    fine = {
        n: v + 0 * v if n == "same.weight" else v + random.normal(0, 0.1, v.shape)
        for n, v in base.items()
    }
    fine = {name: value.astype(np.float32) for name, value in fine.items()}
    save(Path("base.st"), **base)
    save(Path("fine.st"), **fine)
    return {name: fine[name].astype(float) - base[name] for name in shapes}


def extract(rank: int, **options):
    made = verbs.extract_lora(
        Extraction("fine.st", "base.st", "lora.st", rank, dtype=DType.F32, **options), force=True
    )
    return made, {layer.tensor: layer for layer in made.layers}


def product(name: str) -> np.ndarray:
    found = contents(Path("lora.st"))
    up, down = (
        np.frombuffer(found[f"{name}.lora_{letter}.weight"][2], np.float32).reshape(
            found[f"{name}.lora_{letter}.weight"][1][0], -1
        )
        for letter in "BA"
    )
    return up.astype(float) @ down.astype(float)


@pytest.mark.parametrize("rank", [1, 4, 8])
def test_the_product_is_the_truncated_decomposition_and_the_energy_its_share(differences, rank):
    _, layers = extract(rank)

    for name in ("wide", "tall", "conv"):
        matrix = differences[f"{name}.weight"].reshape(differences[f"{name}.weight"].shape[0], -1)
        u, s, v = np.linalg.svd(matrix, full_matrices=False)
        nearest = (u[:, :rank] * s[:rank]) @ v[:rank]
        # float32 factors: rank products, each off by three roundings of 2**-24
        bound = 2.0**-22 * (rank + 3) * np.abs(matrix).max() * matrix.shape[1]
        assert np.abs(product(name) - nearest).max() < bound
        share = (s[:rank] ** 2).sum() / (s**2).sum()
        assert f"{share:.9f}" == f"{layers[f'{name}.weight'].energy:.9f}"


def test_of_full_rank_it_is_the_difference_and_what_is_no_matrix_is_named(differences):
    made, layers = extract(64)

    assert {"wide.weight": 12, "tall.weight": 12, "conv.weight": 8} == {
        name: layer.rank for name, layer in layers.items()
    }
    assert ("wide.bias",) == made.left
    assert all(layer.energy > 1 - 1e-12 for layer in layers.values())


def test_it_is_applied_like_any_other_lora(differences):
    extract(64)

    apply("base.st", "lora.st", output="out.st", dtype=DType.F32)

    (fine, out) = (contents(Path(name)) for name in ("fine.st", "out.st"))
    for name in ("wide.weight", "tall.weight", "conv.weight"):
        one, other = (np.frombuffer(each[name][2], np.float32) for each in (fine, out))
        assert np.abs(one - other).max() < 2.0**-18
    assert contents(Path("base.st"))["wide.bias"] == out["wide.bias"]


def test_what_is_left_out_is_not_in_it():
    _, layers = extract(2, excludes=("conv*",))

    assert {"wide.weight", "tall.weight"} == layers.keys()


def test_what_has_no_lora_is_refused():
    save(
        Path("nan.st"),
        **{n: np.full(a[1], np.nan, np.float32) for n, a in contents(Path("base.st")).items()},
    )
    for change, error, what in (
        ({"fine": "base.st"}, MismatchError, "no matrix that differs"),
        ({"fine": "nan.st"}, MismatchError, "holds NaN or infinity"),
        ({"output": "base.st"}, OutputError, "input"),
        ({"fine": "missing.st"}, InputError, "missing.st"),
    ):
        given = {"fine": "fine.st", "base": "base.st", "output": "lora.st", **change}
        with pytest.raises(error, match=what):
            verbs.extract_lora(Extraction(**given))
    assert not Path("lora.st").exists()


def test_factors_beyond_the_range_of_their_dtype_are_refused():
    save(
        Path("far.st"),
        **{n: np.full(a[1], 3e38, np.float32) for n, a in contents(Path("base.st")).items()},
    )

    with pytest.raises(LimitError, match=r"weight: .*beyond the range of F16.*F32"):
        verbs.extract_lora(Extraction("far.st", "base.st", "lora.st"))


def test_an_output_that_is_there_is_not_replaced():
    Path("lora.st").write_bytes(b"mine")

    with pytest.raises(OutputError):
        verbs.extract_lora(Extraction("fine.st", "base.st", "lora.st"))
    assert b"mine" == Path("lora.st").read_bytes()


@pytest.mark.parametrize("odd", [{"rank": 0}, {"rank": 1.5}, {"dtype": DType.BF16}, {"base": "-"}])
def test_an_odd_request_is_refused(odd):
    with pytest.raises(UsageError):
        Extraction(**{"fine": "fine.st", "base": "base.st", "output": "x.st", **odd})
