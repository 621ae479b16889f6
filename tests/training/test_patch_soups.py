"""Banks are ingredients: they go into soups, out of them, and in each other's places, exactly."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def banks(tiny, bases, soupctl):
    """Banks a, b, c and e on one base, and d on another."""
    write = pytest.importorskip("tiny_banks").write_bank
    for seed, name in enumerate("abce"):
        write(bases["dit"], name, size=8, seed=seed)
    write(bases["dit"], "d", size=8, seed=9, digest="blake3:" + 64 * "1")


def numbers(bank: str) -> dict[str, np.ndarray]:
    return {name: each.numpy() for name, each in load_file(f"{bank}/{WEIGHTS}").items()}


def nearest_means(parts: dict[str, Fraction]) -> dict[str, list[float]]:
    """The float32 nearest to each weighted mean of banks; a tie is none of theirs."""
    tensors = {bank: numbers(bank) for bank in parts}
    total = sum(parts.values())
    found = {}
    for name in tensors[next(iter(parts))]:
        rows = zip(*(tensors[bank][name].ravel().tolist() for bank in parts), strict=True)
        exact = [sum(map(Fraction.__mul__, map(Fraction, row), parts.values())) for row in rows]
        found[name] = [nearest(value / total) for value in exact]
    return found


def nearest(value: Fraction) -> float:
    guess = np.float32(float(value))
    around = (np.nextafter(guess, np.float32(to)) for to in (-np.inf, np.inf))
    return min(map(float, (guess, *around)), key=lambda each: abs(Fraction(each) - value))


def same_bank(one: str, other: str) -> bool:
    """Whether two banks hold the same bits, and are banks of the same kind."""
    tensors = (
        {name: (each.shape, each.tobytes()) for name, each in numbers(bank).items()}
        for bank in (one, other)
    )
    configs = (Path(bank, CONFIG).read_bytes() for bank in (one, other))
    return next(tensors) == next(tensors) and next(configs) == next(configs)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("a", "b", "c"), {"a": 1, "b": 1, "c": 1}),
        (("a@1/3", "b@2", "c@0.7"), {"a": Fraction(1, 3), "b": 2, "c": Fraction(7, 10)}),
    ],
    ids=str,
)
def test_adding_a_bank_equals_averaging_it_with_the_others(soupctl, banks, words, parts):
    *first, last = words
    at_once = soupctl("avg", *words, "-o", "once")
    soup = soupctl("avg", *first, "-o", "soup")
    more = soupctl("add", "soup", last, "-o", "more")

    assert (0, 0, 0) == (at_once.code, soup.code, more.code), more.err
    assert same_bank("once", "more")
    expected = nearest_means({name: Fraction(weight) for name, weight in parts.items()})
    assert expected == {name: each.ravel().tolist() for name, each in numbers("more").items()}


def test_banks_can_be_removed_in_any_order(soupctl, banks):
    assert soupctl("avg", "b", "-o", "alone").code == 0
    for before, bank, after in (("alone", "a", "two"), ("two", "c@2", "three")):
        done = soupctl("add", before, bank, "-o", after)
        assert done.code == 0, done.err
    for before, bank, after in (("three", "a", "left"), ("left", "c", "last")):
        done = soupctl("subtract", before, bank, "-o", after)
        assert done.code == 0, done.err

    assert same_bank("b", "last")
    assert soupctl("verify", "last").code == 0


def test_a_swapped_bank_gets_the_weight_of_the_other(soupctl, banks):
    assert soupctl("avg", "a", "b@3", "c", "-o", "soup").code == 0
    swapped = soupctl("swap", "soup", "b", "e", "-o", "swapped")
    mean = soupctl("avg", "a", "e@3", "c", "-o", "mean")

    assert (0, 0) == (swapped.code, mean.code), swapped.err
    assert same_bank("mean", "swapped")
    assert not same_bank("soup", "swapped")


@pytest.mark.parametrize("words", [("add", "soup", "d"), ("swap", "soup", "a", "d")], ids=str)
def test_a_bank_of_another_base_is_refused(soupctl, banks, words):
    assert soupctl("avg", "a", "b", "-o", "soup").code == 0

    done = soupctl(*words, "-o", "out")

    assert 4 == done.code
    assert "base_digest" in done.err
    assert not Path("out").exists()


def test_a_trained_bank_is_removed_by_its_data_shard_and_a_shared_gate_makes_means_exact(
    soupctl, running, bases, shards, tiny
):
    load_bank = pytest.importorskip("soupctl.banks.files").load_bank
    data = {"cats": shards["dit"], "dogs": tiny.class_shard(Path("dogs"), each=3)}
    gate: dict[str, str] = {}
    for name, shard in data.items():
        spy, steps = running.ReporterSpy(), {"steps": 6, "lr": 1e-2}
        running.patch(bases["dit"], shard, Path("runs", name), spy, gate, **steps)
        gate = {"gate_from": "runs/cats"}
    soup = soupctl("avg", "runs/cats/bank", "runs/dogs/bank", "-o", "soup")
    record = json.loads(Path("runs/dogs/soupctl.json").read_text())
    left = soupctl("subtract", "soup", record["data"]["digest"], "-o", "left")

    assert (0, 0) == (soup.code, left.code), left.err
    assert same_bank("runs/cats/bank", "left")
    times = tiny.torch.randn(3, 16, generator=tiny.torch.Generator().manual_seed(1))
    deltas = {
        bank: load_bank(Path(bank)).delta("transformer_blocks.1", times).detach()
        for bank in ("runs/cats/bank", "runs/dogs/bank", "soup")
    }
    mean = (deltas["runs/cats/bank"] + deltas["runs/dogs/bank"]) / 2
    tiny.torch.testing.assert_close(mean, deltas["soup"])
