"""Suggestions for names that are mistyped or that another tool uses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

COMMANDS = {
    "append": "add",
    "average": "avg",
    "blend": "avg",
    "check": "verify",
    "checksum": "hash",
    "combine": "avg",
    "compare": "hash",
    "contains": "has",
    "delete": "subtract",
    "digest": "hash",
    "draw": "sample",
    "drop": "subtract",
    "exchange": "swap",
    "exclude": "subtract",
    "fine-tune": "finetune",
    "generate": "sample",
    "history": "log",
    "info": "inspect",
    "ingredients": "log",
    "insert": "add",
    "list": "log",
    "ls": "log",
    "mean": "avg",
    "merge": "avg",
    "mix": "avg",
    "prove": "verify",
    "remove": "subtract",
    "replace": "swap",
    "rm": "subtract",
    "sha256": "hash",
    "show": "inspect",
    "soup": "avg",
    "status": "inspect",
    "train": "finetune",
    "unlearn": "subtract",
    "unmerge": "subtract",
    "validate": "verify",
}
"""Commands of other tools, and ours for the same job."""

OPTIONS = {
    "--cfg": "--guidance",
    "--cfg-scale": "--guidance",
    "--cuda": "--device",
    "--debug": "--verbose",
    "--dest": "--output",
    "--filter": "--key",
    "--fp16": "--dtype",
    "--gpu": "--device",
    "--gradient-accumulation-steps": "--grad-accum",
    "--guidance-scale": "--guidance",
    "--half": "--dtype",
    "--ignore": "--exclude",
    "--include": "--key",
    "--jobs": "--threads",
    "--learning-rate": "--lr",
    "--max-shard-size": "--shard-size",
    "--max-train-steps": "--steps",
    "--num-images": "--images",
    "--num-inference-steps": "--steps",
    "--num-threads": "--threads",
    "--out-dtype": "--dtype",
    "--outdir": "--output",
    "--overwrite": "--force",
    "--plan": "--dry-run",
    "--precision": "--dtype",
    "--save-precision": "--dtype",
    "--silent": "--quiet",
    "--simulate": "--dry-run",
    "--skip": "--exclude",
    "--subfolder": "--component",
    "--train-batch-size": "--batch-size",
    "--workers": "--threads",
    "--yes": "--force",
}
"""Options of other tools, and ours for the same purpose."""

WEIGHTS = {"--alpha", "--beta", "--coefficient", "--factor", "--multiplier", "--proportion"} | {
    "--ratio",
    "--scale",
    "--share",
    "--weight",
    "--weights",
}
"""Options that set a weight, in soupctl or other tools."""
AFTER_THE_NAME = "write a weight after a name, such as cats.safetensors@0.7"
INPUTS = {"--input", "--inputs", "--model", "--models", "--file", "--files", "--checkpoint"}


def meant_command(name: str, names: Iterable[str]) -> str | None:
    """The command that was probably meant; None if no name is similar."""
    synonym = COMMANDS.get(name.lower())
    return synonym or next(iter(get_close_matches(name.lower(), names, 1)), None)


def meant_option(name: str, command: str, options: Mapping[str, Iterable[str]]) -> str | None:
    """A suggestion for an option that `command` does not have; None if no name is similar.

    `options` are those of every command.
    """
    own = sorted(options[command])
    if name in WEIGHTS:
        if "--weights" in own:
            return f"{AFTER_THE_NAME}, or give all with --weights 0.7,0.3"
        if command in TAKES_WEIGHTS:
            return AFTER_THE_NAME
    if name in INPUTS:
        return "inputs are named without an option"
    if OPTIONS.get(name) in own:
        return f"did you mean {OPTIONS[name]}?"
    # without the dashes, which all options have
    letters = {each.lstrip("-"): each for each in own}
    if near := get_close_matches(name.lstrip("-"), letters, 1):
        return f"did you mean {letters[near[0]]}?"
    others = [other for other, its in options.items() if name in its]
    return f"{name} is an option of {', '.join(others)}" if others else None


TAKES_WEIGHTS = ("add", "subtract", "swap")
"""Commands without --weights that accept a weight after each argument."""
