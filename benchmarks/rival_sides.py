"""Who averages the same files in turn: soupctl, the limit, and the rivals that are installed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import limit
from rival_environments import NAMES, RIVALS, python_of, version_of

Command = Callable[[Sequence[Path], Path], list[str]]
"""From inputs and the place of the output, which becomes a file or a folder."""


@dataclass(frozen=True, slots=True)
class Side:
    """What takes its turn."""

    name: str
    version: str
    command: Command
    averages: bool = True
    """Whether its output is a mean, and not only as large as one."""


def installed_sides(soupctl: Sequence[str], folder: Path) -> list[Side]:
    """soupctl, the limit if there is a compiler, and the rivals with an environment in `folder`."""
    found = [Side("soupctl", "", partial(_soupctl, soupctl))]
    if limit.compiler() is not None:
        found.append(Side("limit", "", _limit, averages=False))
    commands = {
        "mergekit": _mergekit,
        "sd-mecha": partial(_script, "sd_mecha_mean.py"),
        "usual-script": partial(_script, "usual_script.py"),
    }
    for name in NAMES:
        python = python_of(folder, name)
        if python.exists():
            found.append(Side(name, version_of(name), partial(commands[name], python)))
    return found


def _soupctl(soupctl: Sequence[str], paths: Sequence[Path], out: Path) -> list[str]:
    return [*soupctl, "avg", *map(str, paths), "-o", str(out), "--quiet"]


def _limit(paths: Sequence[Path], out: Path) -> list[str]:
    return limit.command(paths, [out])


def _script(script: str, python: Path, paths: Sequence[Path], out: Path) -> list[str]:
    return [str(python), str(RIVALS / script), str(out), *map(str, paths)]


def _mergekit(python: Path, paths: Sequence[Path], out: Path) -> list[str]:
    """Its command, for which a config is written beside the first input; `out` is a folder."""
    models = [{"model": str(path), "parameters": {"weight": 1.0}} for path in paths]
    config = paths[0].with_name("mergekit.json")
    # JSON is YAML
    config.write_text(json.dumps({"merge_method": "linear", "models": models}))
    return [str(python.with_name("mergekit-pytorch")), "--quiet", str(config), str(out)]
