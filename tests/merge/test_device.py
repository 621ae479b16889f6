"""What computes changes no byte, and a device that fails leaves nothing behind."""

import numpy as np
import pytest
from making import save
from revising import assert_proven, average, revise, root

from soupctl import verbs
from soupctl.errors import LimitError, UsageError
from soupctl.verbs import ExecutionOptions, Level

pytest.importorskip("torch")

from fake_device import FakeDevice

from soupctl.engines import choice
from soupctl.engines.triton import TritonEngine

ON_DEVICE = ExecutionOptions(threads=2, device="cuda:0")


@pytest.fixture
def device(monkeypatch):
    """A device that `cuda` names, as far as soupctl can see."""
    fake = FakeDevice()
    monkeypatch.setattr(choice, "open_engine", lambda name, budget: TritonEngine(fake, budget))
    return fake


@pytest.fixture
def parts(tmp_path):
    """Three checkpoints of one layout, of several dtypes and sizes."""
    made = []
    for seed in range(3):
        numbers = np.random.default_rng(seed)
        arrays = {
            "half": numbers.normal(0, 0.02, (700, 901)).astype(np.float16),
            "single": numbers.normal(0, 0.02, 5000).astype(np.float32),
            "double": numbers.normal(0, 0.02, 3000),
            "one": np.float32(seed),
            "none": np.empty((0, 3), np.float16),
            "steps": np.array([7]),
        }
        made.append(save(tmp_path / f"{seed}.st", None, **arrays))
    return made


def folder_of(path):
    return {each.name: each.read_bytes() for each in path.iterdir()}


@pytest.mark.parametrize("keep_sum", [False, True])
def test_soups_and_their_changes_are_the_same_bytes_on_a_device(device, tmp_path, parts, keep_sum):
    for name, execution in (("cpu", ExecutionOptions(device="cpu")), ("cuda", ON_DEVICE)):
        folder = tmp_path / name
        folder.mkdir()
        search = {"search": (tmp_path,), "execution": execution}
        average(folder / "two.st", *parts[:2], keep_sum=keep_sum, execution=execution)
        revise("add", folder / "two.st", folder / "three.st", [parts[2]], **search)
        revise("subtract", folder / "three.st", folder / "less.st", [], [parts[0]], **search)
        revise("swap", folder / "two.st", folder / "other.st", [parts[2]], [parts[1]], **search)

    assert folder_of(tmp_path / "cpu") == folder_of(tmp_path / "cuda")
    assert "launch" in {what for what, _ in device.log}
    assert_proven(tmp_path / "cuda" / "three.st")


def test_a_soup_is_verified_on_a_device(device, tmp_path, parts):
    average(tmp_path / "soup.st", *parts)
    (found,) = verbs.verify(tmp_path / "soup.st", execution=ON_DEVICE)

    assert (None, Level.REBUILD) == (found.problem, found.level)
    assert "launch" in {what for what, _ in device.log}


def test_every_soup_without_one_is_made_on_a_device(device, tmp_path, parts):
    average(tmp_path / "soup.st", *parts)
    output = str(tmp_path / "without-{name}.st")
    with verbs.open_family(verbs.LeaveOneOut(tmp_path / "soup.st", output)) as members:
        rounds = verbs.arrange([member.job for member in members])
        verbs.carry_out_together(rounds, execution=ON_DEVICE)

    assert "launch" in {what for what, _ in device.log}
    average(tmp_path / "plain.st", *parts[1:])
    (without,) = tmp_path.glob("without-0*")
    assert_proven(without)
    assert root(tmp_path / "plain.st") == root(without)


@pytest.mark.parametrize("fails", [1, 2])
def test_a_device_that_breaks_off_leaves_nothing(device, tmp_path, parts, fails):
    device.fails = fails
    before = sorted(tmp_path.iterdir())
    with pytest.raises(LimitError, match="pulled out"):
        average(tmp_path / "soup.st", *parts, execution=ON_DEVICE)

    assert before == sorted(tmp_path.iterdir())


def test_a_device_that_breaks_off_proves_nothing_either_way(device, tmp_path, parts):
    average(tmp_path / "soup.st", *parts)
    device.fails = 1

    with pytest.raises(LimitError, match="pulled out"):
        verbs.verify(tmp_path / "soup.st", execution=ON_DEVICE)


def test_a_device_without_memory_leaves_nothing(device, tmp_path, parts):
    device.memory = 1000
    before = sorted(tmp_path.iterdir())
    with pytest.raises(LimitError, match="out of memory"):
        average(tmp_path / "soup.st", *parts, execution=ON_DEVICE)

    assert before == sorted(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["", "gpu", "cuda:", "cuda:x", "cuda:1234", "CPU"])
def test_an_unknown_device_is_refused(name):
    with pytest.raises(UsageError, match="unknown device"):
        ExecutionOptions(device=name)


def test_staging_takes_a_share_of_the_memory_that_is_allowed():
    assert (64 << 20, 256 << 20) == (
        ExecutionOptions.on("cuda", 256 << 20).staging,
        ExecutionOptions.on("cuda").staging,
    )
    assert 0 == ExecutionOptions.on("auto", 256 << 20).reserved_memory
    assert ExecutionOptions.on("cuda", 256 << 20).reserved_memory > 64 << 20
