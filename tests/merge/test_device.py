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

LISTS = ("cuda:0,", "cuda:,1", "cuda:0, 1", "cuda:0,cuda:1", "cpu,cuda", "cuda:-1,0")

ON_DEVICE = ExecutionOptions(threads=2, device="cuda:0")


@pytest.fixture
def device(monkeypatch):
    """A device that `cuda` names, as far as soupctl can see."""
    fake = FakeDevice()
    monkeypatch.setattr(choice, "open_engine", lambda gpus, budget: TritonEngine([fake], budget))
    return fake


@pytest.fixture
def pair(monkeypatch):
    """Two devices that `cuda:0,1` names, as far as soupctl can see."""
    fakes = [FakeDevice("cuda:0"), FakeDevice("cuda:1")]

    def open_engine(gpus, budget):
        return TritonEngine([fakes[gpu] for gpu in gpus], budget)

    monkeypatch.setattr(choice, "open_engine", open_engine)
    return fakes


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


def make_and_change(folder, parts, execution, *, keep_sum=False):
    """Soups of the parts in a new folder, made with all commands that change soups."""
    folder.mkdir()
    search = {"search": (folder.parent,), "execution": execution}
    average(folder / "two.st", *parts[:2], keep_sum=keep_sum, execution=execution)
    revise("add", folder / "two.st", folder / "three.st", [parts[2]], **search)
    revise("subtract", folder / "three.st", folder / "less.st", [], [parts[0]], **search)
    revise("swap", folder / "two.st", folder / "other.st", [parts[2]], [parts[1]], **search)


def launches(device):
    return sum(what == "launch" for what, _ in device.log)


@pytest.mark.parametrize("keep_sum", [False, True])
def test_soups_and_their_changes_are_the_same_bytes_on_a_device(device, tmp_path, parts, keep_sum):
    for name, execution in (("cpu", ExecutionOptions(device="cpu")), ("cuda", ON_DEVICE)):
        make_and_change(tmp_path / name, parts, execution, keep_sum=keep_sum)

    assert folder_of(tmp_path / "cpu") == folder_of(tmp_path / "cuda")
    assert launches(device) > 0
    assert_proven(tmp_path / "cuda" / "three.st")


def test_several_devices_share_the_work_and_change_no_byte(pair, tmp_path, parts):
    made = dict.fromkeys(("cpu", "cuda:0", "cuda:1", "cuda:0,1"))
    for name in made:
        execution = ExecutionOptions(threads=3, device=name, staging=8 << 20)
        make_and_change(tmp_path / name, parts, execution)
        made[name] = [*map(launches, pair)]
        for each in pair:
            each.log.clear()

    folders = [folder_of(tmp_path / name) for name in made]
    assert all(folder == folders[0] for folder in folders)
    assert [0, 0, 0, 0] == [*made["cpu"], made["cuda:0"][1], made["cuda:1"][0]]
    both = made["cuda:0,1"]
    assert sum(both) == made["cuda:0"][0] == made["cuda:1"][1]
    assert min(both) > 0
    verbs.verify(tmp_path / "cpu" / "three.st", execution=ExecutionOptions(device="cuda:0,1"))
    assert all(map(launches, pair))


def test_a_soup_is_verified_on_a_device(device, tmp_path, parts):
    average(tmp_path / "soup.st", *parts)
    (found,) = verbs.verify(tmp_path / "soup.st", execution=ON_DEVICE)

    assert (None, Level.REBUILD) == (found.problem, found.level)
    assert launches(device) > 0


def test_every_soup_without_one_is_made_on_a_device(device, tmp_path, parts):
    average(tmp_path / "soup.st", *parts)
    output = str(tmp_path / "without-{name}.st")
    with verbs.open_family(verbs.LeaveOneOut(tmp_path / "soup.st", output)) as members:
        rounds = verbs.arrange([member.job for member in members])
        verbs.carry_out_together(rounds, execution=ON_DEVICE)

    assert launches(device) > 0
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


@pytest.mark.parametrize("broken", [0, 1])
@pytest.mark.parametrize("fault", [{"fails": 1}, {"memory": 1000}], ids=str)
def test_one_of_several_devices_that_fails_is_named_and_leaves_nothing(
    pair, tmp_path, parts, broken, fault
):
    for name, value in fault.items():
        setattr(pair[broken], name, value)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(LimitError, match=f"cuda:{broken} (failed|is out of memory)"):
        average(tmp_path / "soup.st", *parts, execution=ExecutionOptions(device="cuda:0,1"))

    assert before == sorted(tmp_path.iterdir())
    assert all(not buffer.queue for each in pair for buffer in each.buffers)


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


@pytest.mark.parametrize(
    "name",
    ["", "gpu", "cuda:", "cuda:x", "cuda:1234", "CPU", *LISTS],
)
def test_an_unknown_device_is_refused(name):
    with pytest.raises(UsageError, match="unknown device"):
        ExecutionOptions(device=name)


@pytest.mark.parametrize("name", ["cuda:1,1", "cuda:0,1,01"])
def test_a_gpu_that_is_named_twice_is_refused(name):
    with pytest.raises(UsageError, match="names GPU 1 twice"):
        ExecutionOptions.on(name)


def test_staging_takes_a_share_of_the_memory_that_is_allowed():
    assert (64 << 20, 256 << 20) == (
        ExecutionOptions.on("cuda", 256 << 20).staging,
        ExecutionOptions.on("cuda").staging,
    )
    assert 0 == ExecutionOptions.on("auto", 256 << 20).reserved_memory
    assert ExecutionOptions.on("cuda", 256 << 20).reserved_memory > 64 << 20


def test_several_devices_divide_the_memory_that_is_allowed():
    one, two = (ExecutionOptions.on(name, 256 << 20) for name in ("cuda:1", "cuda:0,1"))

    assert two.reserved_memory == one.reserved_memory
    assert (64 << 20, 32 << 20) == (one.staging, two.staging)
    more = ExecutionOptions.on("cuda:0,1").reserved_memory
    assert 256 << 20 == more - ExecutionOptions.on("cuda").reserved_memory
