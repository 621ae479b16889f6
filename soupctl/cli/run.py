"""`soupctl run`: makes what a recipe file describes."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from ..errors import UsageError
from . import options
from .console import say
from .hub_option import Hub
from .merge_output import MergeOptions, make, require_output
from .option_groups import with_option_groups


@with_option_groups
def run(
    recipe: Annotated[
        str,
        typer.Argument(
            help="A recipe: a TOML file, - for stdin, or a mergekit config.", metavar="RECIPE"
        ),
    ],
    output: options.Output = None,
    lock: Annotated[
        bool,
        typer.Option(
            "--lock", help="Record the inputs' digests in a lock file, or check them against it."
        ),
    ] = False,
    keep_sum: options.KeepSum = False,
    hub: Hub = False,
    *,
    merge: MergeOptions,
) -> None:
    """Make the soup that a recipe describes, all its steps in one pass.

    Example: soupctl run recipe.toml -o soup.safetensors
    """
    output = require_output(output, merge)
    from .. import verbs

    asked = verbs.RecipeRun(recipe, output, lock, keep_sum, hub)
    stages = verbs.open_recipe(asked)
    if merge.dry_run and len(stages) > 1:
        what = "has materialised steps, so the steps after them cannot be planned yet"
        raise UsageError(what, path=recipe, advice="leave out materialise to see one plan")
    for stage in stages:
        # the last one is the result, and the only one in the JSON object
        quiet = merge if stage is stages[-1] else replace(merge, json=False)
        make(verbs.open_stage(stage), str(stage.output), quiet)
    if merge.dry_run:
        return
    if (path := verbs.close_recipe(asked, stages)) is not None:
        say(f"soupctl: {path}: the contents of the inputs are pinned", merge.quiet)
