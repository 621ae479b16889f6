"""The commands, by name."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import __version__
from ..errors import UsageError
from .average import average
from .console import put
from .demo import demo
from .finetune import finetune
from .history import has, log, verify
from .inspect import hash_files, inspect
from .patch_dmp import patch_dmp
from .revise import add, subtract, swap
from .sample import sample
from .stack import stack

app = typer.Typer(
    help="Exact, reversible, verifiable soups of diffusion checkpoints.",
    no_args_is_help=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def _top(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        put(f"soupctl {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        raise UsageError("no command given", advice="soupctl --help lists them")


app.command("avg")(average)
app.command("add")(add)
app.command("subtract")(subtract)
app.command("swap")(swap)
app.command("has")(has)
app.command("log")(log)
app.command("verify")(verify)
app.command("inspect")(inspect)
app.command("hash")(hash_files)
app.command("finetune")(finetune)
app.command("patch-dmp")(patch_dmp)
app.command("stack")(stack)
app.command("sample")(sample)
app.command("demo")(demo)
