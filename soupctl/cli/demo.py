"""`soupctl demo`: runs the main commands on small checkpoints, as a user would type them."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from functools import partial
from typing import Annotated

import typer

from .console import put

FOLDER = "soupctl-demo"


def demo(
    context: typer.Context,
    folder: Annotated[
        str, typer.Argument(help="A new folder for the checkpoints.", metavar="[FOLDER]")
    ] = FOLDER,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the checkpoints.")] = 0,
) -> None:
    """Make a soup of three small checkpoints, step by step.

    Each command is printed before it runs.

    Example: soupctl demo
    """
    from .. import verbs

    show = partial(_show, context.find_root().command)
    cats, dogs, owls = (str(path) for path in verbs.make_checkpoints(folder, seed))
    soup, shuffled = f"{folder}/soup.safetensors", f"{folder}/shuffled.safetensors"
    without, direct = f"{folder}/without-owls.safetensors", f"{folder}/cats-dogs.safetensors"
    put(f"Three checkpoints, fine-tuned from one base, are in {folder}.")
    show("Their uniform soup:", "avg", cats, dogs, owls, "-o", soup)
    show("What it is, from its own header:", "inspect", soup, "--summary")
    reordered = ("avg", owls, cats, dogs, "-o", shuffled, "--threads", "1")
    show("The order does not matter, to the last bit:", *reordered)
    show("", "hash", soup, shuffled)
    show("Taking one out leaves nothing of it behind:", "subtract", soup, owls, "-o", without)
    show("", "avg", cats, dogs, "-o", direct)
    show("", "hash", without, direct)
    show("The soup knows how it came about:", "log", without)
    show("And it can be proven, bit for bit:", "verify", without, "--level", "rebuild")


def _show(soupctl: Callable[..., object], title: str, *arguments: str) -> None:
    """Print a command as a user would type it, and run it."""
    if title:
        put("")
        put(title)
    put(f"$ soupctl {shlex.join(arguments)}")
    soupctl(args=list(arguments), prog_name="soupctl", standalone_mode=False)
