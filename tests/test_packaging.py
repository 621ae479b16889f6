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
FILES = (
    ".justfile",
    ".pre-commit-config.yaml",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "MANIFEST.in",
    "README.md",
    "constraints.txt",
    "pyproject.toml",
)
FOLDERS = (".ci", "benchmarks", "docs", "kernels", "soupctl", "tests", "tools")
STRAY = ("notes.txt", "out/soup.safetensors", "tests/__pycache__/x.cpython-311.pyc")
"""What work leaves in a tree, and no distribution should hold."""
MADE = {"PKG-INFO", "setup.cfg"}
"""What a source distribution holds besides the tree."""
BACKEND = "import sys, setuptools.build_meta as backend; getattr(backend, sys.argv[1])(sys.argv[2])"
THEIRS = "import kernels; print(kernels.OWNER)"
OURS = """
from importlib.util import find_spec
import sys, soupctl.kernels
for name in sys.argv[1:]:
    module = name.removesuffix(".py").replace("/", ".")
    print(find_spec(f"soupctl.kernels.{module}").origin)
"""


def run(
    *command: str | Path, cwd: Path, path: Path | None = None, compiled: Path | None = None
) -> str:
    """What `command` prints, run in `cwd` with `path` on Python's path; it must succeed.

    Compiled kernels are kept in the folder `compiled`.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    cache = compiled or cwd / "cache"
    environment = kept | {"NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(path or "")}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def copied_tree(target: Path) -> Path:
    """A copy of what a package is made of, the link kept as a link, and the STRAY files of work."""
    target.mkdir()
    for name in FILES:
        shutil.copy(ROOT / name, target)
    for name in FOLDERS:
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, target / name, symlinks=True, ignore=ignore)
    for name in STRAY:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_text("left behind")
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
def sdist(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("sdist", tree, tmp_path_factory.mktemp("sdist") / "dist")


@pytest.fixture(scope="module")
def wheel_by_sdist(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel_by_sdist")
    with tarfile.open(sdist) as archive:
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


def test_a_source_distribution_holds_the_whole_tree_and_nothing_stray(
    sdist: Path, tree: Path
) -> None:
    with tarfile.open(sdist) as archive:
        files = {each.name.partition("/")[2] for each in archive.getmembers() if each.isfile()}

    made = {name for name in files if name in MADE or name.startswith("soupctl.egg-info/")}
    kept = [*FILES, *FOLDERS]
    expected = {
        # the folder that the link stands for is where its files are packed
        f"soupctl/{path}" if path.parts[0] == "kernels" else str(path)
        for name in kept
        for path in (each.relative_to(tree) for each in [tree / name, *(tree / name).rglob("*")])
        if (tree / path).is_file() and str(path) not in STRAY
    }
    assert expected == files - made
    assert {"constraints.txt", "CHANGELOG.md", "docs/removal.md", "tests/conftest.py"} <= files


def test_the_command_says_its_version_and_averages(installed: Installed, tree: Path) -> None:
    printed = run(*installed.soupctl, "--version", cwd=installed.cwd)
    # the same sources in each are compiled once
    run(*installed.soupctl, "demo", cwd=installed.cwd, compiled=tree.parent / "kernels")

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


SCRIPT = """
from soupctl import verbs

reveal_type(verbs.average(verbs.Request(["a.st", verbs.Ingredient("b.st")], "soup.st")))
verbs.average("a.st")
"""


@pytest.mark.parametrize("way", ["wheel", "strict"])
def test_a_type_checker_sees_the_types_of_an_installed_soupctl(
    way: str, tree: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    pytest.importorskip("mypy.api")
    python = bare_environment(tmp_path / "environment")
    if way == "wheel":
        install(python, request.getfixturevalue("wheel"))
    else:
        # a plain editable install is found by code that no type checker runs
        install(python, "--config-settings", "editable_mode=strict", "--editable", tree)
    # without torch and the other dependencies, whose types take minutes to read
    (dependencies,) = python.parent.parent.rglob("dependencies.pth")
    dependencies.unlink()
    (tmp_path / "script.py").write_text(SCRIPT)

    mypy = [sys.executable, "-m", "mypy", "--strict", "--python-executable", python, "script.py"]
    done = subprocess.run(mypy, cwd=tmp_path, capture_output=True, text=True, check=False)

    revealed, refused, *_ = done.stdout.splitlines()
    assert 'Revealed type is "tuple[soupctl.merge.job.ComponentResult, ...]"' in revealed
    assert 'has incompatible type "str"; expected "Request"' in refused
