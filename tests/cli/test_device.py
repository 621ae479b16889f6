"""`--device` on the command line: what it takes, and what it says where there is none."""

from importlib.util import find_spec
from pathlib import Path

import pytest

COMMANDS = [
    ("avg", "a.st", "b.st", "-o", "c.st"),
    ("add", "soup.st", "c.st", "-o", "d.st"),
    ("subtract", "soup.st", "a.st", "-o", "d.st"),
    ("swap", "soup.st", "a.st", "c.st", "-o", "d.st"),
    ("verify", "soup.st", "--level", "rebuild"),
]


@pytest.fixture
def soup(soupctl, ingredients, save):
    """A soup of two, and a third checkpoint."""
    done = soupctl("avg", *ingredients, "-o", "soup.st")
    assert 0 == done.code, done.message
    third = Path("c.st")
    third.write_bytes(Path("b.st").read_bytes().replace(b"\x3c", b"\x3d"))


@pytest.fixture
def without_torch(tmp_path):
    """An environment in which torch is not installed."""
    folder = tmp_path / "modules"
    folder.mkdir()
    missing = "raise ModuleNotFoundError('No module named torch', name='torch')"
    (folder / "torch.py").write_text(missing)
    return {"PYTHONPATH": str(folder)}


def told(running):
    """Exit code, stdout and stderr of a process."""
    out, err = running.communicate()
    return running.returncode, out, err.decode()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: words[0])
def test_without_the_extra_a_device_is_refused_and_nothing_is_written(
    process, soup, holds, without_torch, command
):
    if command[0] == "avg":
        Path("c.st").unlink()
    before = holds()
    done = told(process(*command, "--device", "cuda", environment=without_torch))

    advice = "(pip install 'soupctl[gpu]')"
    assert (7, b"", f"soupctl: cuda needs torch, which is not installed {advice}\n") == done
    assert before == holds()


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_commands_on_the_cpu_need_no_extra(process, soup, holds, without_torch, device):
    before = Path("soup.st").read_bytes()
    command = ("avg", "a.st", "b.st", "-o", "other.st", "--device", device)
    done = told(process(*command, environment=without_torch))

    assert 0 == done[0], done
    assert before == Path("other.st").read_bytes()


@pytest.mark.skipif(
    not (find_spec("torch") and find_spec("triton")), reason="the extra is not installed"
)
# torch, which says so, takes seconds to load in each process
@pytest.mark.parametrize("command", [COMMANDS[0], COMMANDS[-1]], ids=lambda words: words[0])
def test_without_a_gpu_a_device_is_refused_and_nothing_is_written(process, soup, holds, command):
    if command[0] == "avg":
        Path("c.st").unlink()
    before = holds()
    hidden = {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": ""}
    code, out, message = told(process(*command, "--device", "cuda:0", environment=hidden))

    words = "soupctl: no GPU was found (--device cpu computes the same bytes)\n"
    assert (7, b"", words) == (code, out, message)
    assert before == holds()


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "", "cuda:0,"])
def test_an_unknown_device_is_a_usage_error(soupctl, soup, holds, name):
    before = holds()
    done = soupctl("add", "soup.st", "c.st", "-o", "d.st", "--device", name)

    assert 2 == done.code
    words = f"soupctl: unknown device {name!r} (auto, cpu, cuda, cuda:N or cuda:N,M)\n"
    assert words == done.message
    assert before == holds()


def test_a_gpu_that_is_named_twice_is_a_usage_error(soupctl, soup, holds):
    before = holds()
    done = soupctl("add", "soup.st", "c.st", "-o", "d.st", "--device", "cuda:0,1,0")

    words = "soupctl: device 'cuda:0,1,0' names GPU 0 twice (name each once)\n"
    assert (2, words) == (done.code, done.message)
    assert before == holds()


def test_a_memory_limit_counts_the_memory_of_a_device(soupctl, ingredients):
    done = soupctl("avg", *ingredients, "-o", "c.st", "--device", "cuda", "--max-memory", "200M")

    assert 7 == done.code
    assert done.message.startswith("soupctl: 209715200 bytes of memory are not enough")
    assert not Path("c.st").exists()
