"""`soupctl push`: a soup in a repository of the Hugging Face Hub."""

from __future__ import annotations

from typing import Annotated

import typer

from . import options
from .console import counted, is_terminal, put, put_json, say, size_text
from .history import LocalSoup


def push(
    soup: LocalSoup,
    target: Annotated[
        str,
        typer.Argument(help="hf://OWNER/NAME[@BRANCH][/FOLDER]; it exists.", metavar="TARGET"),
    ],
    no_model_card: Annotated[
        bool,
        typer.Option("--no-model-card", help="Leave README.md as it is in the soup's folder."),
    ] = False,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Push a soup to the Hugging Face Hub, with a model card.

    All files of the soup are added to the branch in one commit, or none; its address with the
    commit is printed. The card says what the ledger says. Log in with `hf auth login` or HF_TOKEN.

    Example: soupctl push soup.safetensors hf://me/cats-and-dogs
    """
    from .. import verbs

    request = verbs.PushRequest(soup=options.named(soup), target=target, card=not no_model_card)
    shown = is_terminal() and not quiet
    made = verbs.push(request, force=force, shows_progress=shown)
    say(f"{soup}: pushed {counted(len(made.files), 'file')}, {size_text(made.size)}", quiet)
    if json:
        put_json(
            {
                "address": made.address,
                "commit": made.commit,
                "files": list(made.files),
                "bytes": made.size,
            }
        )
    else:
        put(made.address)
