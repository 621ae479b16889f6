"""Every option of every command that works on soups reaches the function that does the work.

Rule 1: options are read from the commands, so a new one is tested as soon as it has a value below.
Rule 2: an option arrives if giving it changes an argument of its name, or what is printed where it
decides nothing else.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from safetensors.numpy import save_file

from soupctl import verbs
from soupctl.cli.app import app
from soupctl.cli.report import ErrorStyle
from soupctl.errors import SoupError

WORDS = {
    "avg": "a.st b.st -o out.st",
    "add": "soup.st c.st -o out.st",
    "subtract": "soup.st a.st -o out.st",
    "swap": "soup.st a.st c.st -o out.st",
    "has": "soup.st a.st",
    "log": "soup.st",
    "verify": "soup.st",
    "inspect": "soup.st",
    "hash": "a.st",
    "demo": "folder",
    "help": "",
}
"""A command line of each command that its options are added to."""
ELSEWHERE = {"finetune", "patch-dmp", "stack", "sample"}
"""Commands whose options are tested with the libraries that train."""

OTHER_WORDS = {
    ("avg", "null"): "a.st b.st -o out.st --files-from list",
    ("subtract", "each"): "soup.st -o out-{name}.st",
    ("inspect", "force"): "soup.st --plot gates.png",
    ("hash", "check"): "",
    ("log", "tree"): "nested.st",
    ("hash", "quiet"): "--check list.b3",
}
"""Command lines for options that need others, or exclude some."""

VALUES = {
    "base": "base",
    "check": "list.b3",
    "component": "unet",
    "count": "3",
    "device": "cpu",
    "dtype": "F32",
    "exclude": "w*",
    "files_from": "list",
    "key": "w*",
    "max_memory": "512M",
    "output": "other.st",
    "plot": "gates.png",
    "search": "folder",
    "shard_size": "1M",
    "threads": "3",
    "total": "5/2",
    "variant": "fp16",
    "weights": "3,1",
}
NAMES = {
    "check": "check_digests",
    "count": "total",
    "each": "leave_out_each",
    "exclude": "excludes",
    "files_from": "ingredients",
    "key": "keys",
    "null": "ingredients",
    "plot": "target",
    "sha256": "file_sha256",
    "weight_by": "by",
    "weights": "ingredients",
}
"""Arguments that an option is passed as or becomes part of, or the function that it chooses."""
PRINTED = {"json", "quiet", "summary", "tree", "verbose"}
"""Options that may decide what is printed, and nothing else."""

STUBS = {
    "soupctl.cli.average.make": (),
    "soupctl.cli.revise.make": (),
    "soupctl.cli.leave_one_out.leave_out_each": (),
    "soupctl.cli.banks.looks_at": (),
    "soupctl.cli.banks.plot": (),
}
"""Functions that do the work and are not let do it, and what they return."""
FORWARDED = (
    "check_digests",
    "content_digests",
    "file_sha256",
    "history",
    "holds",
    "inspect",
    "verify",
)
HELD_BACK = ("open_job", "open_revision", "open_family", "make_checkpoints", "weighted_by")


def options() -> Iterator[tuple[str, Any]]:
    """Every option of every command that is tested here."""
    group: Any = typer.main.get_command(app)
    for name, command in group.commands.items():
        for parameter in command.params:
            if name not in ELSEWHERE and parameter.param_type_name == "option":
                yield name, parameter


OPTIONS = list(options())
IDS = [f"{command}-{parameter.name}" for command, parameter in OPTIONS]


def given(parameter: Any) -> list[str]:
    """An option, with a value that is not its default."""
    if parameter.is_flag:
        names = parameter.secondary_opts if parameter.default is True else parameter.opts
        return [names[-1]]
    if choices := getattr(parameter.type, "choices", None):
        values = [getattr(each, "value", each) for each in choices]
        default = getattr(parameter.default, "value", parameter.default)
        return [parameter.opts[-1], next(each for each in values if each != default)]
    return [parameter.opts[-1], VALUES.get(parameter.name, "7")]


def flattened(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """A value as texts by name; the fields of a dataclass each on their own."""
    if is_dataclass(value) and not isinstance(value, type):
        for each in fields(value):
            yield from flattened(each.name, getattr(value, each.name))
    else:
        yield name, repr(value)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """A folder with checkpoints, soups and lists."""
    folder = tmp_path_factory.mktemp("files")
    for name in "abc":
        save_file({"w": np.full(4, ord(name), np.float16)}, folder / f"{name}.st")
    (folder / "list").write_text("c.st\n")
    (digest,) = verbs.content_digests(str(folder / "a.st"))
    (folder / "list.b3").write_text(f"{digest.digest}  a.st\n")
    for name, inputs in {"soup": "ab", "nested": ("soup", "c")}.items():
        words = ["avg", *(str(folder / f"{each}.st") for each in inputs)]
        words += ["-o", str(folder / f"{name}.st"), "-q"]
        app(args=words, standalone_mode=False, obj=ErrorStyle())
    return folder


@pytest.fixture
def observed(monkeypatch, files, capsys):
    """Runs a command line; what arrives at the functions that work, and what is printed."""
    monkeypatch.chdir(files)
    arrived: list[tuple[str, str]] = []

    def spy(target: Any, returned: Any = None, *, forward: bool = False) -> Any:
        def record(*args: Any, **kwargs: Any) -> Any:
            bound = inspect.signature(target).bind(*args, **kwargs)
            arrived.append((target.__name__, "called"))
            for name, value in bound.arguments.items():
                arrived.extend(flattened(name, value))
            return target(*args, **kwargs) if forward else returned

        return record

    for path, returned in STUBS.items():
        module, _, name = path.rpartition(".")
        target = getattr(__import__(module, fromlist=[name]), name)
        monkeypatch.setattr(path, spy(target, returned))
    for name in (*FORWARDED, *HELD_BACK):
        spied = spy(getattr(verbs, name), (), forward=name in FORWARDED)
        monkeypatch.setattr(verbs, name, spied)

    def observe(words: list[str]) -> Mapping[str, list[str]]:
        arrived.clear()
        style = ErrorStyle()
        # a refusal comes after what is observed, and stands in for it where nothing is called
        with suppress(SoupError, typer.Exit, ValueError):
            app(args=words, prog_name="soupctl", standalone_mode=False, obj=style)
        printed = [*capsys.readouterr(), str(style.every_issue)]
        found: dict[str, list[str]] = {"printed": printed}
        for name, value in arrived:
            found.setdefault(name, []).append(value)
        return found

    return observe


@pytest.mark.parametrize(("command", "parameter"), OPTIONS, ids=IDS)
def test_an_option_reaches_the_function_that_does_the_work(observed, command, parameter):
    words = OTHER_WORDS.get((command, parameter.name), WORDS[command]).split()

    plain = observed([command, *words])
    changed = observed([command, *words, *given(parameter)])

    names = {name for name in {*plain, *changed} if plain.get(name) != changed.get(name)}
    allowed = {parameter.name, NAMES.get(parameter.name, parameter.name)}
    assert names & (allowed | ({"printed"} if parameter.name in PRINTED else set()))


def test_every_command_is_tested():
    group: Any = typer.main.get_command(app)

    assert set(group.commands) == set(WORDS) | ELSEWHERE
