"""`soupctl greedy`: makes the greedy soup of checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .choosing import (
    ScoringOptions,
    SelectionOptions,
    execution_of,
    planned,
    report_best,
    reporter,
    scores_json,
    show_plan,
    workers_of,
)
from .console import put_json, put_lines
from .merge_output import MergeOptions, made_json, report_made, require_output
from .option_groups import with_option_groups

if TYPE_CHECKING:
    from ..verbs import Greedy, GreedyChoice


@with_option_groups
def greedy(
    inputs: Annotated[
        list[str],
        typer.Argument(help="Checkpoints, each with an optional @WEIGHT.", metavar="INPUT..."),
    ],
    output: options.Output = None,
    *,
    selected: SelectionOptions,
    result: options.ResultOptions,
    choice: ScoringOptions,
    ray: options.Ray = None,
    merge: MergeOptions,
) -> None:
    """Average the checkpoints that improve a score, tried one by one, the best first.

    Every score is kept in a journal beside the output. The recipe of the soup is printed.

    Example: soupctl greedy *.safetensors --score 'python score.py {}' -o soup.safetensors
    """
    from .. import verbs

    output = require_output(output, merge)
    ingredients = options.read_inputs(inputs, None, None, null=False)
    request = verbs.Greedy(
        selected.request(ingredients, output, result), choice.scoring(), choice.resume
    )
    plan = planned(verbs.open_greedy(request), merge, ingredients, 2 * len(ingredients) - 1)
    if merge.dry_run:
        show_plan(plan, merge)
        return
    with workers_of(ray) as workers:
        found = verbs.greedy(
            request,
            force=merge.force,
            execution=execution_of(plan, merge),
            report=reporter(merge),
            workers=workers,
        )
    print_choice(request, found, merge)


def print_choice(request: Greedy, found: GreedyChoice, merge: MergeOptions) -> None:
    """Print the recipe of the soup, or all that was found as JSON; report the soup on stderr."""
    from .. import verbs

    output, paths = str(request.request.output), [each.name for each in found.contents]
    weights = {place: request.ingredients[place].weight for place in sorted(found.members)}
    members = [paths[place] for place in found.members]
    report_best(output, found.score, members, len(paths), merge)
    report_made(output, found.made, verbose=merge.verbose, quiet=merge.quiet or not merge.verbose)
    recipe = list(verbs.chosen_recipe(request.request, found.contents, weights))
    if not merge.json:
        put_lines(recipe)
        return
    put_json(
        {
            **made_json(output, found.made),
            "score": found.score,
            "added": members,
            "singles": scores_json(paths, found.singles),
            "recipe": "\n".join([*recipe, ""]),
        }
    )
