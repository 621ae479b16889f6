"""`soupctl demo`: the tool shows itself, with the commands that a user would type."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from .render import put

FOLDER = "soupctl-demo"


def demo(
    folder: Annotated[
        str, typer.Argument(help="A new folder for the checkpoints.", metavar="[FOLDER]")
    ] = FOLDER,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the checkpoints.")] = 0,
) -> None:
    """Average three small checkpoints, step by step.

    Every command is shown as it runs.

    Example: soupctl demo
    """
    from .. import verbs

    cats, dogs, owls = (str(path) for path in verbs.make_checkpoints(folder, seed))
    soup, shuffled = f"{folder}/soup.safetensors", f"{folder}/shuffled.safetensors"
    weighted = f"{folder}/weighted.safetensors"
    put(f"Three checkpoints, fine-tuned from one base, are in {folder}.")
    _show("Their uniform soup:", "avg", cats, dogs, owls, "-o", soup)
    _show("What it is made of, from its own header:", "inspect", soup, "--summary")
    _show(
        "The order does not matter, to the last bit:",
        "avg",
        owls,
        cats,
        dogs,
        "-o",
        shuffled,
        "-j1",
    )
    _show("", "hash", soup, shuffled)
    _show(
        "Weights are exact; the plan shows what would happen:",
        "avg",
        f"{cats}@1/3",
        f"{dogs}@0.5",
        "-o",
        weighted,
        "-n",
    )


def _show(title: str, *arguments: str) -> None:
    """Print a command as a user would type it, and run it."""
    from .app import app

    if title:
        put("")
        put(title)
    put(f"$ soupctl {shlex.join(arguments)}")
    app(args=list(arguments), prog_name="soupctl", standalone_mode=False)
