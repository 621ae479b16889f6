"""Averages over time are the exact mean with the weights that the formulas give, and are soups."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import contents, mean, save

from soupctl import verbs
from soupctl.errors import InputError, SoupError, UsageError
from soupctl.merge.ema.request import decay_weights
from soupctl.verbs import EmaRequest


def snapshot(path: Path, seed: int, dtype: type = np.float16) -> Path:
    """A checkpoint with values of very different size, subnormal ones among them."""
    random = np.random.default_rng(seed)
    values = random.normal(0, 1, 40) * 2.0 ** random.integers(-24, 12, 40)
    return save(path, w=values.astype(dtype), b=(values[:7] * 3).astype(dtype))


def expected(paths: list[Path], weights: list[Fraction]) -> dict[str, bytes]:
    """The exact mean of the snapshots, by tensor."""
    found = [contents(path) for path in paths]
    return {
        name: mean([np.frombuffer(each[name][2], np.float16) for each in found], weights).tobytes()
        for name in found[0]
    }


def made(path: Path) -> dict[str, bytes]:
    return {name: data for name, (_, _, data) in contents(path).items()}


@given(
    decay=st.fractions(Fraction(1, 1000), Fraction(999, 1000), max_denominator=1000),
    count=st.integers(1, 30),
)
def test_decay_weights_are_those_of_the_recurrence(decay, count):
    average = [Fraction(int(place == 0)) for place in range(count)]
    for step in range(1, count):
        average = [decay * weight for weight in average]
        average[step] += 1 - decay

    assert tuple(average) == decay_weights(decay, count)


@pytest.mark.parametrize("decay", ["0.999", "1/3", "0.5", "9/10"])
def test_an_average_with_a_decay_is_the_exact_mean_rounded_once(tmp_path, decay):
    paths = [snapshot(tmp_path / f"{number}.st", number) for number in range(5)]
    out = tmp_path / "ema.st"

    (result,) = verbs.ema(EmaRequest(paths, out, decay=Fraction(decay)))

    weights = list(decay_weights(Fraction(decay), 5))
    assert expected(paths, weights) == made(out)
    assert sorted(weights) == sorted(each.weight for each in result.ledger.ingredients)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(1, 4), numerator=st.integers(1, 99))
def test_an_average_with_any_decay_is_that_of_updating_step_by_step(
    tmp_path_factory, seed, count, numerator
):
    folder, decay = tmp_path_factory.mktemp("ema"), Fraction(numerator, 100)
    paths = [snapshot(folder / f"{number}.st", seed + number) for number in range(count)]

    verbs.ema(EmaRequest(paths, folder / "ema.st", decay=decay))

    assert expected(paths, list(decay_weights(decay, count))) == made(folder / "ema.st")


def test_weights_too_fine_to_be_exact_are_rounded_to_eighteen_decimals_and_said(tmp_path):
    paths = [snapshot(tmp_path / f"{number}.st", number) for number in range(12)]
    out, decay = tmp_path / "ema.st", Fraction("0.999")

    found = verbs.time_average(EmaRequest(paths, out, decay=decay))
    verbs.average(found.request)

    assert 18 == found.decimals
    rounded = [Fraction(round(weight, 18)) for weight in decay_weights(decay, 12)]
    assert expected(paths, rounded) == made(out)


def test_weights_are_rounded_to_as_many_decimals_as_asked(tmp_path):
    paths = [snapshot(tmp_path / f"{number}.st", number) for number in range(4)]
    request = EmaRequest(paths, tmp_path / "o.st", decay=Fraction("0.9"), round_weights=2)

    found = verbs.time_average(request)

    assert (None, ()) == (found.decimals, found.left_out)
    weights = [each.weight for each in found.request.ingredients]
    assert [Fraction(w) for w in ("0.73", "0.08", "0.09", "0.1")] == weights


def test_snapshots_without_weight_are_left_out(tmp_path):
    paths = [snapshot(tmp_path / f"{number}.st", number) for number in range(4)]
    request = EmaRequest(paths, tmp_path / "o.st", decay=Fraction("0.1"), round_weights=1)

    found = verbs.time_average(request)

    assert tuple(map(str, paths[:2])) == found.left_out
    assert [Fraction("0.1"), Fraction("0.9")] == [e.weight for e in found.request.ingredients]


def test_an_average_over_time_can_be_changed_and_proven_like_any_soup(tmp_path):
    paths = [snapshot(tmp_path / f"{number}.st", number) for number in range(3)]
    out, smaller = tmp_path / "ema.st", tmp_path / "smaller.st"
    verbs.ema(EmaRequest(paths, out, decay=Fraction("0.9"), keep_sum=True))

    verbs.revise(verbs.Revision("subtract", out, smaller, removed=(paths[0],)))

    weights = list(decay_weights(Fraction("0.9"), 3))
    assert expected(paths[1:], weights[1:]) == made(smaller)
    (verified,) = verbs.verify(out)
    assert verbs.Level.REBUILD is verified.level


@pytest.mark.parametrize("steps", [(), (100, 250, 700)])
def test_a_power_function_profile_of_snapshots_is_one_exact_mean(tmp_path, steps):
    paths = [snapshot(tmp_path / f"{number}.st", number) for number in range(3)]
    out = tmp_path / "ema.st"

    found = verbs.time_average(EmaRequest(paths, out, sigma_rel=0.2, steps=steps))
    verbs.average(found.request)

    weights = [each.weight for each in found.request.ingredients]
    assert all((10**15 * weight).denominator == 1 for weight in weights)
    assert ("snapshots", True) == (found.fitted, 0 < (found.error or 0) < 1)
    assert expected(paths, weights) == made(out)


def test_stored_averages_are_combined_with_the_coefficients_of_the_fit(tmp_path):
    paths = [snapshot(tmp_path / f"{number}.st", number) for number in range(4)]
    out = tmp_path / "ema.st"
    request = EmaRequest(
        paths,
        out,
        sigma_rel=0.10,
        steps=(500, 500, 1000, 1000),
        stored_sigma_rel=(0.05, 0.10, 0.05, 0.10),
    )

    found = verbs.time_average(request)
    verbs.average(found.request)

    # the wanted one is stored
    assert [str(paths[3])] == [
        each.path for each in found.request.ingredients if abs(each.weight) > Fraction(1, 10**6)
    ]
    assert (found.error or 0) < 1e-6
    ingredients = found.request.ingredients
    assert expected([Path(e.path) for e in ingredients], [e.weight for e in ingredients]) == made(
        out
    )


def run_folder(folder: Path, steps: list[int], *, ema: bool, **identity: str) -> Path:
    """The training checkpoints that finetune leaves, their models with the step as the seed."""
    for step in steps:
        place = folder / "checkpoints" / f"step-{step:06}"
        snapshot(place / "model.safetensors", step, np.float16)
        if ema:
            snapshot(place / "ema.safetensors", step + 1000, np.float16)
        save(place / "optimizer.safetensors", m=np.zeros(3))
        manifest = {"step": step, "identity": {"ema_decay": "0.9999", **identity}}
        manifest |= {"ema_steps": step if ema else None}
        (place / "soupctl_state.json").write_text(json.dumps(manifest))
    return folder


def weights_in(run: Path, name: str, steps: list[int]) -> list[Path]:
    return [run / "checkpoints" / f"step-{step:06}" / f"{name}.safetensors" for step in steps]


def test_the_snapshots_of_a_run_are_taken_in_the_order_of_their_steps(tmp_path):
    steps = [999_999, 1_000_000, 20]
    run, out = run_folder(tmp_path / "run", steps, ema=True), tmp_path / "ema.st"

    verbs.ema(EmaRequest([run], out, decay=Fraction("0.9")))

    paths = weights_in(run, "model", sorted(steps))
    assert expected(paths, list(decay_weights(Fraction("0.9"), 3))) == made(out)


@pytest.mark.parametrize(("ema", "name"), [(True, "ema"), (False, "model")])
def test_a_profile_is_fitted_by_stored_averages_where_a_run_has_them(tmp_path, ema, name):
    steps = [100, 200, 300]
    run, out = run_folder(tmp_path / "run", steps, ema=ema), tmp_path / "ema.st"

    found = verbs.time_average(EmaRequest([run], out, sigma_rel=0.1))
    verbs.average(found.request)

    assert ("stored averages" if ema else "snapshots") == found.fitted
    assert [str(path) for path in weights_in(run, name, steps)] == [
        str(each.path) for each in found.request.ingredients
    ]
    assert expected(
        weights_in(run, name, steps), [e.weight for e in found.request.ingredients]
    ) == (made(out))


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({}, "--decay or --sigma-rel"),
        ({"decay": Fraction(1, 2), "sigma_rel": 0.1}, "either"),
        ({"decay": Fraction(1)}, "not between 0 and 1"),
        ({"decay": Fraction(-1, 2)}, "not between 0 and 1"),
        ({"decay": Fraction(1, 2), "steps": (1, 2)}, "go with --sigma-rel"),
        ({"sigma_rel": 0.5}, "sigma_rel"),
        ({"sigma_rel": 0.1, "steps": (1,)}, "1 steps, but there are 2"),
        ({"sigma_rel": 0.1, "steps": (2, 1)}, "ascend"),
        ({"sigma_rel": 0.1, "steps": (0, 1)}, "before the first"),
        ({"sigma_rel": 0.1, "stored_sigma_rel": (0.1,)}, "needs --steps"),
        ({"sigma_rel": 0.1, "steps": (1, 2), "stored_sigma_rel": (0.1,) * 3}, "3 values"),
    ],
)
def test_requests_that_make_no_average_over_time_are_refused(tmp_path, options, what):
    with pytest.raises(UsageError) as refused:
        verbs.time_average(EmaRequest(["a.st", "b.st"], tmp_path / "o.st", **options))

    assert what in refused.value.message()


def test_no_snapshots_are_refused(tmp_path):
    with pytest.raises(UsageError, match="no snapshots"):
        verbs.time_average(EmaRequest([], tmp_path / "o.st", sigma_rel=0.1))


@pytest.mark.parametrize(
    "broken", ['{"step": 0, "identity": {}}', '{"step": 5}', "[]", "", '{"step": 1e400}']
)
def test_a_damaged_manifest_is_refused_and_named(tmp_path, broken):
    run = run_folder(tmp_path / "run", [5], ema=True)
    (run / "checkpoints" / "step-000005" / "soupctl_state.json").write_text(broken)

    with pytest.raises(InputError, match="step-000005"):
        verbs.time_average(EmaRequest([run], tmp_path / "o.st", decay=Fraction(1, 2)))


@pytest.mark.parametrize("decay", ["nan", "2", "-0.1", ""])
def test_a_run_with_an_impossible_decay_is_refused(tmp_path, decay):
    run = run_folder(tmp_path / "run", [5], ema=True, ema_decay=decay)

    with pytest.raises(InputError, match="ema_decay"):
        verbs.time_average(EmaRequest([run], tmp_path / "o.st", sigma_rel=0.1))


def test_a_run_of_a_prompt_bank_and_a_run_among_files_are_refused(tmp_path):
    bank = run_folder(tmp_path / "bank", [5], ema=False, gate_input="time")
    run = run_folder(tmp_path / "run", [5], ema=False)

    for inputs, what in (([bank], "prompt bank"), ([run, "a.st"], "give it alone")):
        with pytest.raises(SoupError) as refused:
            verbs.time_average(EmaRequest(inputs, tmp_path / "o.st", decay=Fraction(1, 2)))
        assert what in refused.value.message()
