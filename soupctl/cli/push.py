"""`soupctl push`: a soup in a repository of the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .console import counted, is_terminal, put, put_json, put_lines, say, size_text

if TYPE_CHECKING:
    from ..verbs import PlannedPush


def push(
    soup: options.LocalSoup,
    target: Annotated[
        str,
        typer.Argument(
            help="A repository that exists: hf://OWNER/NAME[@BRANCH][/FOLDER].", metavar="TARGET"
        ),
    ],
    no_model_card: Annotated[
        bool,
        typer.Option("--no-model-card", help="Leave README.md as it is in the soup's folder."),
    ] = False,
    force: options.Force = False,
    dry_run: options.DryRun = False,
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
    if dry_run:
        _show_plan(verbs.plan_push(request, force=force), json=json)
        return
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


def _show_plan(plan: PlannedPush, *, json: bool) -> None:
    """Print on stdout what would be pushed: it is the result of a dry run."""
    if json:
        put_json(_plan_json(plan))
    else:
        put_lines(_plan_lines(plan))


def _plan_lines(plan: PlannedPush) -> Iterator[str]:
    yield f"target   {plan.address}"
    yield f"branch   {plan.branch} at {plan.commit}"
    yield f"push     {counted(len(plan.files), 'file')}, {size_text(plan.size)}"
    for each in plan.files:
        verb = "replace" if each.is_replaced else "add"
        yield f"{verb:8} {each.name}, {size_text(each.size)}"


def _plan_json(plan: PlannedPush) -> dict[str, Any]:
    return {
        "target": plan.address,
        "repository": plan.repository,
        "branch": plan.branch,
        "folder": plan.folder,
        "commit": plan.commit,
        "bytes": plan.size,
        "files": [
            {"name": each.name, "bytes": each.size, "replaces": each.is_replaced}
            for each in plan.files
        ],
    }
