"""What gets installed is what is in the tree, and `kernels` stays somebody else's name.

Rule 1: nothing is fetched; dependencies come from the environment that runs the tests.
Rule 2: each way to have soupctl (wheel, wheel by way of an sdist, editable, in the tree) must do.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from soupctl import __version__

ROOT = Path(__file__).resolve().parent.parent
KERNELS = sorted(
    path.relative_to(ROOT / "kernels").as_posix() for path in (ROOT / "kernels").rglob("*.py")
)
BACKEND = "import sys, setuptools.build_meta as backend; getattr(backend, sys.argv[1])(sys.argv[2])"
THEIRS = "import kernels; print(kernels.OWNER)"
OURS = """
from importlib.util import find_spec
import sys, soupctl.kernels
for name in sys.argv[1:]:
    module = name.removesuffix(".py").replace("/", ".")
    print(find_spec(f"soupctl.kernels.{module}").origin)
"""


def run(*command: str | Path, cwd: Path, path: Path | None = None) -> str:
    """What `command` prints, run in `cwd` with `path` on Python's path; it must succeed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment = kept | {"NUMBA_CACHE_DIR": str(cwd / "cache"), "PYTHONPATH": str(path or "")}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def copied_tree(target: Path) -> Path:
    """A copy of what a package is made of, the link kept as a link."""
    target.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, target)
    for name in ("soupctl", "kernels"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, target / name, symlinks=True, ignore=ignore)
    return target


def built(what: str, tree: Path, target: Path) -> Path:
    """The one file that building a `what` of `tree` leaves in `target`."""
    target.mkdir()
    run(sys.executable, "-c", BACKEND, f"build_{what}", target, cwd=tree)
    (file,) = target.iterdir()
    return file


def bare_environment(target: Path) -> Path:
    """The Python of a fresh environment that sees our dependencies, but not our soupctl."""
    run(sys.executable, "-m", "venv", "--without-pip", target, cwd=target.parent)
    python = target / "bin" / "python"
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(run(python, "-c", where, cwd=target))
    # a .pth file adds a folder without running the .pth files in it, ours among them
    (site / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return python


def install(python: Path, *what: str | Path) -> None:
    """Install into the environment of `python` without fetching anything."""
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    run(*pip, "--no-deps", "--no-index", "--no-build-isolation", *what, cwd=python.parent)


@dataclass(frozen=True, slots=True)
class Installed:
    """One way to have soupctl: the Python that has it, where to stand, and how to call it."""

    python: Path
    cwd: Path
    soupctl: tuple[str | Path, ...]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied_tree(tmp_path_factory.mktemp("source") / "tree")


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("wheel", tree, tmp_path_factory.mktemp("wheel") / "dist")


@pytest.fixture(scope="module")
def wheel_by_sdist(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(built("sdist", tree, folder / "dist")) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    return built("wheel", unpacked, folder / "wheel")


@pytest.fixture(scope="module", params=["wheel", "wheel_by_sdist", "editable", "in_tree"])
def installed(
    request: pytest.FixtureRequest, tree: Path, tmp_path_factory: pytest.TempPathFactory
) -> Installed:
    folder = tmp_path_factory.mktemp(request.param)
    python = bare_environment(folder / "environment")
    if request.param == "in_tree":
        return Installed(python, tree, (python, "-m", "soupctl"))
    if request.param == "editable":
        install(python, "--editable", tree)
    else:
        install(python, request.getfixturevalue(request.param))
    return Installed(python, folder, (python.parent / "soupctl",))


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """A folder that holds a package called `kernels`, as Hugging Face's is."""
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "__init__.py").write_text("OWNER = 'theirs'\n")
    return tmp_path


@pytest.mark.parametrize("name", ["wheel", "wheel_by_sdist"])
def test_a_wheel_holds_every_module_as_a_file_and_no_kernels_of_its_own(
    name: str, tree: Path, request: pytest.FixtureRequest
) -> None:
    rooms = {path.relative_to(tree).as_posix() for path in (tree / "soupctl").rglob("*.py")}
    kernels = {f"soupctl/kernels/{name}" for name in KERNELS}

    with zipfile.ZipFile(request.getfixturevalue(name)) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}

    code = {name for name in entries if name.endswith(".py")}
    links = [name for name, entry in entries.items() if entry.external_attr >> 28 == 0o12]
    assert kernels
    assert rooms | kernels == code
    assert [] == links
    assert "soupctl/py.typed" in entries
    assert not any(name.startswith("kernels") for name in entries)


def test_the_command_says_its_version_and_averages(installed: Installed) -> None:
    printed = run(*installed.soupctl, "--version", cwd=installed.cwd)
    run(*installed.soupctl, "demo", cwd=installed.cwd)

    assert __version__ == printed.split()[-1]
    assert (installed.cwd / "soupctl-demo" / "soup.safetensors").is_file()


def test_it_is_this_installation_that_runs(installed: Installed, tree: Path) -> None:
    where = run(
        installed.python, "-c", "import soupctl; print(soupctl.__file__)", cwd=installed.cwd
    )

    homes = (tree, installed.python.parent.parent)
    assert any(Path(where).is_relative_to(home) for home in homes)


def test_soupctl_kernels_is_ours_alone_and_beside_another_package(
    installed: Installed, beside: Path
) -> None:
    command = [installed.python, "-c", OURS, *KERNELS]

    alone = run(*command, cwd=installed.cwd)
    together = run(*command, cwd=installed.cwd, path=beside)

    assert KERNELS == [line.rpartition("/kernels/")[2] for line in alone.splitlines()]
    assert alone == together


def test_kernels_is_theirs(installed: Installed, beside: Path) -> None:
    before = run(installed.python, "-c", THEIRS, cwd=installed.cwd, path=beside)
    after = run(
        installed.python, "-c", f"import soupctl.kernels\n{THEIRS}", cwd=installed.cwd, path=beside
    )

    assert ("theirs", "theirs") == (before, after)


def test_installed_soupctl_takes_no_top_level_name_but_its_own(installed: Installed) -> None:
    probe = (
        "from importlib.util import find_spec; print(getattr(find_spec('kernels'), 'origin', 0))"
    )
    standing = installed.python.parent

    found = run(installed.python, "-c", probe, cwd=standing)

    assert "0" == found
