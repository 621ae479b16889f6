"""Workers of a real Ray cluster on this machine: two of them, started once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from dying import DyingRequest, die, fail, fail_beside, open_dying, refuse, talk
from making import save
from processes import PATIENCE, started
from run_here import run_here

from soupctl import verbs
from soupctl.cluster import address as addresses
from soupctl.cluster import calls
from soupctl.cluster import workers as cluster_workers
from soupctl.cluster.calls import CallNeeds
from soupctl.cluster.library import ray_library
from soupctl.cluster.workers import STORE, Workers
from soupctl.errors import LimitError, MismatchError, UsageError
from soupctl.verbs import Opening, Request

TESTS = Path(__file__).parent
NAMES = ("a.st", "b.st", "c.st")
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
# Ray warns of what it has deprecated itself, and of sockets
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster of two workers, which find the modules beside this one."""
    patched = pytest.MonkeyPatch()
    patched.setenv("PYTHONPATH", os.pathsep.join(map(str, (TESTS.parent, TESTS))))
    ray = ray_library()
    # the path of a socket has at most 107 bytes
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=STORE,
            log_to_driver=False,
            logging_level="CRITICAL",
            _node_ip_address="127.0.0.1",
            _temp_dir=folder,
        )
        yield ray.get_runtime_context().gcs_address
    finally:
        ray.shutdown()
        patched.undo()
        for number, handler in handlers.items():
            signal.signal(number, handler)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def workers(cluster) -> Iterator[Workers]:
    with verbs.open_workers(cluster) as found:
        yield found


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """Three checkpoints of eight tensors in the working folder."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(NAMES):
        draw = np.random.default_rng(seed)
        save(Path(name), **{f"w{n}": draw.normal(0, 1, (n + 1, 7)).astype("f2") for n in range(8)})
    return tmp_path


def called(workers: Workers, function: Callable[[Any], Any], *arguments: Any, **more: Any) -> list:
    made = dict(workers.call(function, arguments, str, **more))
    return [made[place] for place in range(len(arguments))]


@needs_ray
def test_calls_are_made_in_this_folder_by_other_processes_and_print_nothing(workers, place, capfd):
    found = called(workers, talk, *"abcdef")

    assert {str(place)} == {folder for folder, _ in found}
    assert os.getpid() not in {process for _, process in found}
    assert 2 == workers.count
    assert ("", "") == capfd.readouterr()


@needs_ray
def test_an_error_of_a_worker_is_raised_here_as_it_is(workers, place):
    with pytest.raises(MismatchError) as caught:
        called(workers, refuse, "a.st")
    assert "a.st: one; t: two (no)" == caught.value.message()
    with pytest.raises(ZeroDivisionError):
        called(workers, fail, "a.st")


@needs_ray
def test_a_worker_that_dies_again_and_again_is_an_error_that_names_its_work(workers, place):
    with pytest.raises(LimitError, match=f"{place}: its worker died 4 times"):
        called(workers, die, place)

    assert 4 == len([*place.glob("died-*")])


@needs_ray
def test_workers_of_another_version_are_refused(workers, place, monkeypatch):
    monkeypatch.setattr(calls, "__version__", "99.0")
    with pytest.raises(MismatchError, match=r"a worker on .* has soupctl .*, and this is 99\.0"):
        called(workers, talk, "a")


@needs_ray
def test_a_folder_that_workers_do_not_see_is_named(workers, tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rename(tmp_path / "moved")
    monkeypatch.setattr(os, "getcwd", lambda: str(gone))
    with pytest.raises(LimitError, match=r"gone: is not a folder on .*shared disk"):
        called(workers, talk, "a")


@needs_ray
def test_more_cores_than_a_machine_has_are_refused(workers, place):
    for needs, wanted in (
        (CallNeeds(3), "3 cores"),
        (CallNeeds(1, 1), "1 core and 1 GPU"),
        (CallNeeds(1, 2), "1 core and 2 GPUs"),
    ):
        with pytest.raises(LimitError) as refusal:
            called(workers, talk, "a", needs=needs)
        assert refusal.value.message() == (
            f"no machine of the Ray cluster has {wanted}: they have 2 cores (lower --threads, or"
            " OMP_NUM_THREADS of finetune)"
        )


@needs_ray
def test_what_ray_notes_of_dead_workers_is_not_printed(workers, place, capsys):
    # what Ray's own thread calls, whenever it learns of one
    library = pytest.importorskip("ray._private.worker")
    note = {"lines": ["Task _answer failed.\nIt is retried."], "pid": "raylet", "is_err": False}
    library.print_to_stdstream(note, ignore_prefix=False)

    assert ("", "") == tuple(capsys.readouterr())


@needs_ray
def test_a_failing_call_ends_the_others(workers, place):
    with pytest.raises(ZeroDivisionError):
        called(workers, fail_beside, place / "wait", place / "fail")
    (process,) = [int(each.suffix[1:]) for each in place.glob("runs.*")]
    end = time.monotonic() + PATIENCE
    while Path(f"/proc/{process}").exists() and time.monotonic() < end:
        time.sleep(0.05)

    # it would run for an hour
    assert not Path(f"/proc/{process}").exists()


@needs_ray
def test_a_worker_killed_in_the_middle_changes_no_byte(workers, place):
    verbs.average(Request(NAMES, "alone.st"))
    marks = place / "marks"
    marks.mkdir()
    shared = Opening(open_dying, DyingRequest(Request(NAMES, "alone.st"), marks, os.getpid()))
    whole = Path("alone.st").read_bytes()
    with shared.job() as job:
        (made,) = verbs.make_on_workers(workers, shared, job, force=True)

    assert ["died"] == os.listdir(marks)
    assert whole == Path("alone.st").read_bytes()
    assert 8 == made.tensors
    assert not Path("alone.st.parts").exists()


DRIVER = """
import os, sys
from soupctl import verbs
import soupctl.merge.parts.spread as spread
from soupctl.cli.main import main
spread.commit = lambda *_, **__: os.kill(os.getpid(), 9)
main(sys.argv[1:])
"""


@needs_ray
def test_a_killed_command_leaves_no_output_and_the_next_one_uses_its_parts(cluster, place, capsys):
    words = ("avg", *NAMES, "-o", "soup.st", "--ray", cluster)
    command = [sys.executable, "-c", DRIVER, *words]
    killed = subprocess.run(command, capture_output=True, check=False, env=with_tests())
    assert -signal.SIGKILL == killed.returncode
    assert not Path("soup.st").exists()
    times = {each.name: each.stat().st_mtime_ns for each in Path("soup.st.parts").iterdir()}
    assert [f"{n}-of-8.safetensors" for n in range(1, 9)] == sorted(times)

    assert 0 == run_here(*words, "--json")
    told = capsys.readouterr()
    assert ("soup.st", "") == (json.loads(told.out)["output"], told.err)
    verbs.average(Request(NAMES, "alone.st"))
    assert Path("alone.st").read_bytes() == Path("soup.st").read_bytes()
    assert not Path("soup.st.parts").exists()


@needs_ray
def test_an_error_of_a_worker_ends_the_command_in_one_line_with_its_code(cluster, place, capsys):
    save(Path("nan.st"), **{f"w{n}": np.full((n + 1, 7), np.nan, "f2") for n in range(8)})
    words = ("avg", "nan.st", "b.st", "-o", "soup.st")
    assert 3 == run_here(*words) == run_here(*words, "--ray", cluster)
    told = capsys.readouterr()
    assert "" == told.out
    alone, done = told.err.splitlines()
    assert alone.startswith("soupctl: nan.st: w")
    assert done.startswith("soupctl: nan.st: w")
    assert not Path("soup.st.parts").exists()


@needs_ray
def test_an_interrupted_command_ends_its_calls_and_leaves_nothing(cluster, place):
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from dying import fail_beside\n"
        "import soupctl.merge.parts.spread as spread\n"
        "from soupctl.cli.main import main\n"
        "call = spread.Workers.call\n"
        "def waiting(workers, function, arguments, *more):\n"
        "    return call(workers, fail_beside, [Path.cwd() / 'wait'], str)\n"
        "spread.Workers.call = waiting\n"
        "main(sys.argv[1:])\n"
    )
    command = (sys.executable, "-c", script, "avg", *NAMES, "-o", "soup.st", "--ray", cluster)
    with started(*command, stderr=subprocess.PIPE, env=with_tests()) as process:
        end = time.monotonic() + PATIENCE
        while not (runs := [*place.glob("runs.*")]) and time.monotonic() < end:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert 143 == process.wait(PATIENCE)
        assert b"" == process.stderr.read()

    assert sorted([*NAMES, runs[0].name]) == sorted(os.listdir())


def with_tests() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (TESTS.parent, TESTS)))}


def test_a_missing_library_is_named_with_the_way_to_install_it(monkeypatch):
    monkeypatch.setattr(addresses, "find_spec", lambda name: None)
    with pytest.raises(LimitError) as caught, verbs.open_workers("local"):
        pytest.fail("is connected")

    message = caught.value.message()
    assert "--ray needs ray, which is not installed (pip install 'soupctl[ray]')" == message


@needs_ray
@pytest.mark.parametrize("is_named", [True, False])
def test_a_cluster_that_does_not_answer_is_an_error_at_once(monkeypatch, is_named):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        # nothing listens there
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        with (
            pytest.raises(LimitError) as caught,
            verbs.open_workers(address if is_named else "auto"),
        ):
            pytest.fail("is connected")
    blamed = address if is_named else f"{address}, which RAY_ADDRESS names"
    assert f"no Ray cluster answers at {blamed} (see ray status" in caught.value.message()


@pytest.mark.parametrize(("length", "expected"), [(30, None), (31, "/tmp/ray")])
def test_a_local_cluster_has_its_sockets_where_their_paths_fit(monkeypatch, length, expected):
    given: list[dict[str, object]] = []
    monkeypatch.setenv("TMPDIR", "/" + (length - 1) * "x")
    ray = SimpleNamespace(init=lambda **options: given.append(options))
    cluster_workers._connect(ray, addresses.ClusterAddress("local"))
    monkeypatch.setenv("RAY_TMPDIR", "/chosen")
    cluster_workers._connect(ray, addresses.ClusterAddress("local"))

    assert [expected, None] == [options.get("_temp_dir") for options in given]


@pytest.mark.parametrize(
    "address", ["", "head", "a.st", "head:", ":1", "head:0", "head:999999", "ray://head:1", "a b:1"]
)
def test_what_is_no_address_is_refused(address):
    with (
        pytest.raises(UsageError, match="is not the address of a cluster"),
        verbs.open_workers(address),
    ):
        pytest.fail("is connected")


@needs_ray
def test_an_address_of_the_environment_that_is_none_is_refused_by_its_name(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:1")
    with pytest.raises(UsageError, match="RAY_ADDRESS 'ray://head:1' is not the address"):
        addresses.require_reachable("auto")
    monkeypatch.setenv("RAY_ADDRESS", "")
    assert "auto" == addresses.require_reachable("auto").text
