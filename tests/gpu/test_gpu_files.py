"""From file to file, a GPU makes the same soups, the same sums and the same proofs."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1]))

from making import save
from revising import assert_proven, average, revise

from soupctl import verbs
from soupctl.verbs import ExecutionOptions, Level

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Three checkpoints of a hundred megabytes in several dtypes."""
    folder = tmp_path_factory.mktemp("parts")
    made = []
    for seed in range(3):
        numbers = np.random.default_rng(seed)
        arrays = {
            f"block{block}.half": numbers.normal(0, 0.02, (1280, 1280)).astype(np.float16)
            for block in range(20)
        }
        arrays |= {
            "single": numbers.normal(0, 0.02, (3001, 1001)).astype(np.float32),
            "double": numbers.normal(0, 0.02, (1001, 1001)),
            "bias": numbers.normal(0, 0.02, 7).astype(np.float16),
            "steps": np.array([7]),
        }
        made.append(save(folder / f"{seed}.st", None, **arrays))
    return made


@pytest.mark.parametrize("keep_sum", [False, True])
def test_soups_and_their_changes_are_the_same_bytes(tmp_path, parts, keep_sum):
    made = []
    for device in ("cpu", "cuda"):
        folder = tmp_path / device
        folder.mkdir()
        more = {"search": (parts[0].parent,), "execution": ExecutionOptions.on(device)}
        average(folder / "two.st", *parts[:2], keep_sum=keep_sum, execution=more["execution"])
        revise("add", folder / "two.st", folder / "three.st", [parts[2]], **more)
        revise("subtract", folder / "three.st", folder / "less.st", [], [parts[0]], **more)
        made.append({each.name: each.read_bytes() for each in folder.iterdir()})

    assert made[0] == made[1]
    (found,) = verbs.verify(
        tmp_path / "cuda" / "less.st",
        search=[parts[0].parent],
        execution=ExecutionOptions.on("cuda"),
    )
    assert (None, Level.REBUILD) == (found.problem, found.level)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there are fewer than two GPUs")
@pytest.mark.parametrize("device", ["cuda:1", "cuda:0,1", "cuda:1,0"])
def test_any_gpus_make_the_same_file(tmp_path, parts, device):
    average(tmp_path / "plain.st", *parts)
    average(tmp_path / "soup.st", *parts, execution=ExecutionOptions.on(device))

    assert (tmp_path / "plain.st").read_bytes() == (tmp_path / "soup.st").read_bytes()


def test_the_command_makes_the_same_file(tmp_path, parts):
    average(tmp_path / "plain.st", *parts)
    command = [sys.executable, "-m", "soupctl", "avg", *map(str, parts), "-o", "soup.st"]
    for more in (["--device", "cuda"], ["--device", "cuda:0", "--max-memory", "512M", "-f"]):
        subprocess.run([*command, *more], cwd=tmp_path, check=True)
        assert (tmp_path / "plain.st").read_bytes() == (tmp_path / "soup.st").read_bytes()
    assert_proven(tmp_path / "soup.st")
