"""The rooms import one way, and what is heavy is loaded by those who need it.

Rule 1: the sources are read, not run, so an import inside a function counts like any other; only
a circle may be broken by one, since it runs when both modules are loaded.
Rule 2: a room that the table does not name is an error, so a new one has to take its place here.
"""

import ast
import json
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# the rooms from the lowest up: each may import those that its set names, and itself
VALUES = frozenset({"frozen", "pattern", "errors", "choices", "format"})
DISK_ROOMS = VALUES | {"kinds", "storage", "workers", "checkpoints", "ledger"}
MERGING = DISK_ROOMS | {"cluster", "collector", "configs", "engines", "lora", "merge", "methods"}
BANKS = DISK_ROOMS | {"configs", "diffusion", "banks"}

MAY_IMPORT = {
    "frozen": frozenset(),
    "pattern": frozenset(),
    "errors": frozenset({"frozen", "pattern"}),
    "choices": frozenset(),
    "format": frozenset({"frozen", "pattern", "errors"}),
    "kinds": frozenset({"frozen", "pattern", "errors", "format"}),
    "storage": frozenset({"frozen", "errors", "format"}),
    "workers": frozenset({"frozen", "pattern", "errors"}),
    "cluster": frozenset({"frozen", "pattern", "errors"}),
    "checkpoints": VALUES | {"kinds", "storage", "workers"},
    "ledger": VALUES | {"kinds", "storage", "checkpoints"},
    "configs": frozenset({"frozen"}),
    "kernels": frozenset(),
    "engines": VALUES | {"kernels"},
    "methods": frozenset({"frozen", "pattern", "errors", "choices"}),
    "lora": DISK_ROOMS | {"engines"},
    "collector": frozenset(),
    "merge": MERGING,
    "convert": MERGING | {"convert"},
    "scoring": MERGING | {"scoring"},
    "proof": MERGING | {"proof"},
    "report": MERGING | BANKS | {"images", "scoring", "report"},
    "demo": VALUES | {"storage"},
    "diffusion": DISK_ROOMS | {"configs", "convert"},
    "banks": BANKS,
    "images": BANKS,
    "training": MERGING | BANKS | {"images"},
    "verbs": MERGING
    | BANKS
    | {"convert", "proof", "scoring", "report", "demo", "images", "training"},
    "cli": (MERGING - {"engines"})
    | BANKS
    | {"convert", "proof", "scoring", "report", "images", "training", "verbs"},
    "__main__": frozenset({"cli"}),
    "__init__": frozenset(),
}

DISK = frozenset(
    {"fcntl", "fileinput", "glob", "io", "mmap", "os", "shutil", "socket", "subprocess", "tempfile"}
)
KNOW_NO_DISK = {
    "frozen",
    "pattern",
    "errors",
    "choices",
    "format",
    "kinds",
    "engines",
    "kernels",
    "methods",
}
# in rooms that do: modules of pure values
PURE_MODULES = {
    "soupctl.banks.compatibility",
    "soupctl.banks.config",
    "soupctl.banks.config_json",
    "soupctl.banks.stack_json",
    "soupctl.checkpoints.architecture",
    "soupctl.checkpoints.config_files",
    "soupctl.checkpoints.remote.address",
    "soupctl.ledger.ancestry",
    "soupctl.ledger.changes",
    "soupctl.ledger.ledger",
    "soupctl.ledger.ledger_json",
    "soupctl.ledger.lookup",
    "soupctl.ledger.names",
    "soupctl.ledger.training_record",
    "soupctl.ledger.weights",
    "soupctl.lora.matrices",
    "soupctl.lora.modules",
    "soupctl.lora.pairs",
    "soupctl.lora.scales",
    "soupctl.lora.summary",
    "soupctl.lora.targets",
    "soupctl.lora.unet_blocks",
    "soupctl.merge.kept_sum.format",
    "soupctl.merge.kind_errors",
    "soupctl.merge.plan",
    "soupctl.merge.step",
    "soupctl.merge.recipe",
    "soupctl.proof.bom",
    "soupctl.proof.ledger_record",
    "soupctl.proof.model_card",
    "soupctl.proof.model_signature",
    "soupctl.proof.statement",
}
# keeps compiled code in the user's cache folder, and opens nothing else
KNOWS_A_CACHE = "soupctl.engines.native"

# where the libraries that are slow to load, or not always there, have their home
HOMES = {
    "PIL": {"images", "training"},
    "accelerate": {"training"},
    "cryptography": {"proof"},
    "diffusers": {"diffusion", "images", "training"},
    "fsspec": {"checkpoints"},
    "httpx2": {"checkpoints"},
    "huggingface_hub": {"checkpoints"},
    "matplotlib": {"images"},
    "numba": {"engines", "kernels"},
    "optuna": {"scoring"},
    "ray": {"cluster"},
    "rich": {"cli"},
    "torch": {"banks", "diffusion", "engines", "images", "kernels", "training"},
    "transformers": {"diffusion", "training"},
    "triton": {"engines", "kernels"},
    "typer": {"cli"},
}


def sources() -> Iterator[tuple[str, Path]]:
    """The dotted name and the file of every module, that of a package ending in `__init__`."""
    # a glob does not follow the link, and the link is what is installed
    for folder, inside in ((ROOT / "soupctl", "soupctl"), (ROOT / "kernels", "soupctl.kernels")):
        for path in sorted(folder.rglob("*.py")):
            if path.is_relative_to(ROOT / "soupctl" / "kernels"):
                continue
            yield ".".join([inside, *path.relative_to(folder).with_suffix("").parts]), path


def imported(text: str, module: str) -> Iterator[str]:
    """The absolute dotted name of everything that `module`, with source `text`, imports."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            around = module.split(".")[: -node.level] if node.level else []
            start = ".".join([*around, *([node.module] if node.module else [])])
            yield from (f"{start}.{alias.name}" for alias in node.names)


def loaded_at_import(text: str, module: str) -> set[str]:
    """The modules of soupctl that are imported while `module`, with source `text`, is loaded."""
    tree = ast.parse(text)
    statements: list[ast.AST] = list(tree.body)
    names: set[str] = set()
    while statements:
        node = statements.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= set(imported(ast.unparse(node), module))
        is_late = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if not is_late and not for_types:
            statements += ast.iter_child_nodes(node)
    known = {name.removesuffix(".__init__") for name, _ in MODULES}
    # the last part of a name is a module, as in `from . import plan`, or lies in one
    found = {name if name in known else name.rpartition(".")[0] for name in names}
    return found & known - {module.removesuffix(".__init__"), "soupctl"}


def circle(imports: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle, the first one repeated at the end, or none."""
    finished: set[str] = set()

    def search(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module not in finished:
            for other in sorted(imports.get(module, ())):
                if found := search(other, [*path, module]):
                    return found
            finished.add(module)
        return []

    return next((found for module in sorted(imports) if (found := search(module, []))), [])


def room_of(module: str) -> str:
    """The room of a module of soupctl; of the package itself, `__init__`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def own_rooms(names: Iterator[str]) -> set[str]:
    """The rooms among `names`; a plain value of the package, its version, is in none."""
    rooms = {room_of(name) for name in names if name.split(".")[0] == "soupctl"}
    return rooms - {"__init__", "__version__"}


MODULES = list(sources())
DISKLESS = [
    (module, path)
    for module, path in MODULES
    if module in PURE_MODULES or (room_of(module) in KNOW_NO_DISK and module != KNOWS_A_CACHE)
]


@pytest.mark.parametrize(("module", "path"), MODULES, ids=[name for name, _ in MODULES])
def test_a_module_imports_only_rooms_below_its_own(module: str, path: Path) -> None:
    room = room_of(module)

    above = own_rooms(imported(path.read_text(), module)) - MAY_IMPORT[room] - {room}

    assert not above, f"{room} may not import {above}"


@pytest.mark.parametrize(("module", "path"), DISKLESS, ids=[name for name, _ in DISKLESS])
def test_a_room_without_a_disk_cannot_reach_one(module: str, path: Path) -> None:
    text = path.read_text()
    calls = [node.func for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]

    reached = {name.split(".")[0] for name in imported(text, module)} & DISK
    opened = [call.lineno for call in calls if isinstance(call, ast.Name) and call.id == "open"]

    assert (set(), []) == (reached, opened)


@pytest.mark.parametrize(("module", "path"), DISKLESS, ids=[name for name, _ in DISKLESS])
def test_a_path_is_only_a_name_to_a_room_without_a_disk(module: str, path: Path) -> None:
    names = set(imported(path.read_text(), module))

    assert {"pathlib", "pathlib.Path", "pathlib.PosixPath"}.isdisjoint(names)


@pytest.mark.parametrize(("module", "path"), MODULES, ids=[name for name, _ in MODULES])
def test_a_heavy_library_is_used_in_its_home_alone(module: str, path: Path) -> None:
    used = {name.split(".")[0] for name in imported(path.read_text(), module)} & set(HOMES)

    strangers = {name for name in used if room_of(module) not in HOMES[name]}

    assert not strangers


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import os.path", {"os.path"}),
        ("from . import plan", {"soupctl.merge.plan"}),
        ("from .. import verbs", {"soupctl.verbs"}),
        ("from ..storage.atomic import write", {"soupctl.storage.atomic.write"}),
        ("def late():\n    from soupctl import cli", {"soupctl.cli"}),
    ],
)
def test_an_import_is_seen_however_it_is_written(text: str, expected: set[str]) -> None:
    assert expected == set(imported(text, "soupctl.merge.recipe"))


def test_no_modules_import_each_other_in_a_circle() -> None:
    imports = {
        module.removesuffix(".__init__"): loaded_at_import(path.read_text(), module)
        for module, path in MODULES
    }

    assert {"soupctl.merge.plan"} <= set(imports)
    assert "soupctl.format.header" in imports["soupctl.format.shards"]
    assert [] == circle(imports)


@pytest.mark.parametrize(
    ("imports", "expected"),
    [
        ({"a": {"b"}, "b": {"c"}, "c": set()}, []),
        ({"a": {"b"}, "b": {"c"}, "c": {"b"}}, ["b", "c", "b"]),
        ({"a": {"b", "c"}, "b": {"c"}, "c": set()}, []),
    ],
)
def test_a_circle_of_imports_is_found(imports: dict[str, set[str]], expected: list[str]) -> None:
    assert expected == circle(imports)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from .plan import Plan", {"soupctl.merge.plan"}),
        ("from . import plan", {"soupctl.merge.plan"}),
        ("def late():\n    from . import plan", set()),
        ("if TYPE_CHECKING:\n    from .plan import Plan", set()),
        ("try:\n    from .plan import Plan\nexcept ImportError:\n    pass", {"soupctl.merge.plan"}),
    ],
)
def test_only_imports_that_run_while_a_module_is_loaded_can_close_a_circle(
    text: str, expected: set[str]
) -> None:
    assert expected == loaded_at_import(text, "soupctl.merge.recipe")


def test_a_class_name_means_one_thing_in_the_whole_tree() -> None:
    places: dict[str, list[str]] = {}
    for folder in ("soupctl", "kernels", "benchmarks", "tools", "tests"):
        # `soupctl/kernels` is a link, which is not followed
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    name = node.name.lstrip("_")
                    places.setdefault(name, []).append(str(path.relative_to(ROOT)))

    assert {"Plan", "NamedShape", "SumScenario"} <= places.keys()
    assert {} == {name: files for name, files in places.items() if len(files) > 1}


def test_the_docstring_of_merge_lists_each_of_its_files_once() -> None:
    merge = ROOT / "soupctl" / "merge"
    text = ast.get_docstring(ast.parse((merge / "__init__.py").read_text())) or ""
    lists = re.findall(r"^- [\w ]+: ((?:.|\n)+?)(?=\n- |\Z)", text, re.MULTILINE)

    named = re.findall(r"\w+", re.sub(r"\(folder\)|\band the folders\b", "", " ".join(lists)))

    files = {path.stem for path in merge.glob("*.py")} - {"__init__"}
    folders = {path.parent.name for path in merge.glob("*/__init__.py")}
    assert sorted(files | folders) == sorted(named)


def test_every_room_is_in_the_table_and_kernels_has_modules() -> None:
    rooms = {room_of(module) for module, _ in MODULES}

    assert set() == rooms - set(MAY_IMPORT)
    assert "kernels" in rooms
    assert {KNOWS_A_CACHE, *PURE_MODULES} <= dict(MODULES).keys()


def rooms_said(cell: str, above: list[str]) -> set[str]:
    """The rooms that a cell of CONTRIBUTING's table names, after the rows `above` it.

    It is `nothing`, `all above`, `all above but x, y`, or a list of rooms and of ranges `x to y`.
    """
    if cell.startswith("all above"):
        return set(above) - set(cell.removeprefix("all above").removeprefix(" but ").split(", "))
    said: set[str] = set()
    for part in [] if cell == "nothing" else cell.split(", "):
        first, _, last = part.partition(" to ")
        said |= set(above[above.index(first) : above.index(last or first) + 1])
    return said


def test_the_table_in_contributing_says_what_each_room_may_import() -> None:
    rows = re.findall(
        r"^\| `(\w+)(?:/|\.py)` \| .+ \| (.+) \|$",
        (ROOT / "CONTRIBUTING.md").read_text(),
        re.MULTILINE,
    )
    rooms = [room for room, _ in rows]

    said = {room: rooms_said(cell, rooms[: rooms.index(room)]) for room, cell in rows}

    enforced = {room: set(below) - {room} for room, below in MAY_IMPORT.items()}
    assert said == {room: enforced[room] for room in enforced if not room.startswith("__")}


def test_kernels_is_no_package_of_its_own() -> None:
    link = ROOT / "soupctl" / "kernels"

    assert not (ROOT / "kernels" / "__init__.py").exists()
    assert (True, Path("../kernels")) == (link.is_symlink(), link.readlink())


def loaded_by(*arguments: str) -> set[str]:
    """The modules that a run of Python with `arguments` imports, and their top-level packages."""
    command = [sys.executable, "-X", "importtime", *arguments]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert run.returncode == 0, run.stderr
    lines = [line for line in run.stderr.splitlines() if line.startswith("import time:")]
    names = {line.rsplit("|", 1)[1].strip() for line in lines}
    return names | {name.split(".")[0] for name in names}


@pytest.mark.parametrize(
    "arguments",
    [
        ("-c", "import soupctl.cli.main"),
        ("-m", "soupctl", "--help"),
        ("-m", "soupctl", "finetune", "--help"),
        ("-m", "soupctl", "patch-dmp", "--help"),
    ],
    ids=str,
)
def test_help_loads_no_array_library(arguments: tuple[str, ...]) -> None:
    loaded = loaded_by(*arguments)

    assert "soupctl" in loaded
    assert {"numpy", "numba", "torch", "rich", "PIL", "diffusers"}.isdisjoint(loaded)


def test_inspect_loads_no_engine(tmp_path: Path) -> None:
    header = json.dumps({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    file = tmp_path / "one.safetensors"
    file.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))

    loaded = loaded_by("-m", "soupctl", "inspect", str(file))

    # which the module of the command imports
    assert "soupctl.cli.ledger_lines" in loaded
    assert {"numba", "torch"}.isdisjoint(loaded)
    # which those of other commands import
    assert {"soupctl.cli.merge_output", "soupctl.training.options"}.isdisjoint(loaded)
