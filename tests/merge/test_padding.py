"""Input channels that only some ingredients have are zero in the others, exactly."""

from __future__ import annotations

from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from making import mean, save
from revising import assert_proven, average, revise

from soupctl import verbs
from soupctl.errors import MismatchError, UsageError
from soupctl.merge.padding import rows_of, stored_before, stored_runs
from soupctl.verbs import ExecutionOptions

K, OUT = "model.diffusion_model.input_blocks.0.0.weight", "model.diffusion_model.out.2.weight"
CHANNELS = {"nine.st": 9, "nine2.st": 9, "four.st": 4, "base.st": 4, "five.st": 5}


@pytest.fixture
def arrays(tmp_path, monkeypatch):
    """Checkpoints of several numbers of input channels, as their arrays by file."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(1)
    made = {}
    for name, channels in CHANNELS.items():
        dtype = "f4" if name == "five.st" else "f2"
        made[name] = {
            K: random.normal(0, 1, (8, channels, 3, 3)).astype(dtype),
            OUT: random.normal(0, 1, (4, 8)).astype(dtype),
        }
        save(Path(name), **made[name])
    return made


def padded(array: np.ndarray, channels: int) -> np.ndarray:
    more = channels - array.shape[1]
    return np.pad(array, [(0, 0), (0, more)] + [(0, 0)] * (array.ndim - 2))


def expected(arrays: Any, weights: dict[str, int]) -> dict[str, np.ndarray]:
    most = max(CHANNELS[name] for name in weights)
    asked: list[Fraction | int] = [*weights.values()]
    kernels = [padded(arrays[name][K], most) for name in weights]
    return {K: mean(kernels, asked), OUT: mean([arrays[name][OUT] for name in weights], asked)}


def soup(weights: dict[str, int], output: str = "soup.st", **options: Any) -> Path:
    average(Path(output), *weights.items(), **{"pad": (K,), "force": True, **options})
    return Path(output)


def assert_equal(path: Path, wanted: dict[str, np.ndarray]) -> None:
    found = safetensors.numpy.load_file(path)
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert (array.dtype, array.shape) == (found[name].dtype, found[name].shape)
        assert array.tobytes() == found[name].tobytes()


@pytest.mark.parametrize("execution", [None, ExecutionOptions(2, 1), ExecutionOptions(1, 100)])
def test_the_difference_of_two_models_is_added_to_an_inpainting_model(arrays, execution):
    weights = {"nine.st": 1, "four.st": 1, "base.st": -1}

    made = soup(weights, execution=execution)

    assert_equal(made, expected(arrays, weights))
    assert_proven(made)


@pytest.mark.parametrize("keep_sum", [False, True])
def test_changes_give_the_bytes_of_one_average_of_the_rest(arrays, keep_sum):
    held = {"four.st": 1, "nine.st": 2}
    made = soup(held, keep_sum=keep_sum)

    steps: tuple[tuple[str, tuple[Any, ...], tuple[str, ...]], ...] = (
        ("add", ("base.st", "five.st"), ()),
        ("add", ("nine2.st",), ()),
        ("subtract", (), ("nine.st",)),
        ("subtract", (), ("base.st",)),
        ("subtract", (), ("nine2.st",)),
        ("swap", ("nine.st",), ("five.st",)),
        ("subtract", (), ("nine.st",)),
    )
    for operation, added, removed in steps:
        revise(operation, made, made, added, removed, force=True)
        weight = held[removed[0]] if operation == "swap" else 1
        held = {name: each for name, each in held.items() if name not in removed}
        held |= dict.fromkeys(added, weight)
        assert_equal(made, expected(arrays, held))
        assert_proven(made)
    assert {"four.st": 1} == held


def test_each_ingredient_is_left_out_in_turn(arrays):
    made = soup({"four.st": 1, "nine.st": 2, "base.st": 1})

    verbs.leave_one_out(verbs.LeaveOneOut(made, "without-{name}"))

    assert_equal(Path("without-nine.st"), expected(arrays, {"four.st": 1, "base.st": 1}))
    assert_equal(Path("without-four.st"), expected(arrays, {"nine.st": 2, "base.st": 1}))
    assert_proven("without-nine.st", "without-four.st", "without-base.st")


def test_shapes_that_differ_in_more_than_input_channels_are_refused(arrays):
    with pytest.raises(MismatchError, match=rf"pad '{K}' pads the narrower with zeros"):
        soup({"nine.st": 1, "four.st": 1}, pad=())
    save(Path("wide.st"), **{K: np.zeros((9, 4, 3, 3), "f2"), OUT: np.zeros((4, 8), "f2")})
    with pytest.raises(MismatchError) as caught:
        soup({"nine.st": 1, "wide.st": 1})
    assert "fills" not in caught.value.message()
    with pytest.raises(UsageError, match="pad 'nothing' matches no tensor"):
        soup({"nine.st": 1, "four.st": 1}, pad=("nothing",))


def test_integers_are_not_padded(tmp_path):
    paths = [save(tmp_path / f"{n}.st", i=np.ones((2, n), "i4")) for n in (3, 4)]
    with pytest.raises(MismatchError):
        average(tmp_path / "soup.st", *paths, pad=("*",))


@given(st.integers(1, 3), st.integers(0, 4), st.integers(1, 4), st.integers(1, 3), st.data())
@settings(deadline=None)
def test_the_stored_elements_are_where_numpy_pads_them(outputs, short, more, size, data):
    stored, shape = (outputs, short, size), (outputs, short + more, size)
    marked = padded(np.ones(stored, bool), short + more).ravel()
    start = data.draw(st.integers(0, marked.size))
    stop = data.draw(st.integers(start, marked.size))
    rows = rows_of(stored, shape)

    runs = [range(first, first + count) for first, count in stored_runs(start, stop, rows)]

    assert [*np.flatnonzero(marked[start:stop]) + start] == [*chain.from_iterable(runs)]
    assert marked[:start].sum() == stored_before(start, rows)
