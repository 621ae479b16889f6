"""`soupctl greedy`: makes the greedy soup of checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .choosing import (
    ScoringOptions,
    SelectionOptions,
    choose,
    planned,
    put_chosen,
    scores_json,
    show_plan,
)
from .hub_option import CHECKPOINTS
from .merge_output import MergeOptions, require_output
from .option_groups import with_option_groups

if TYPE_CHECKING:
    from ..verbs import Greedy, GreedyChoice


@with_option_groups
def greedy(
    inputs: Annotated[
        list[str],
        typer.Argument(help="Checkpoints, each with an optional @WEIGHT.", metavar="INPUT..."),
        CHECKPOINTS,
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
    found = choose(verbs.greedy, request, plan, ray, merge)
    print_choice(request, found, merge)


def print_choice(request: Greedy, found: GreedyChoice, merge: MergeOptions) -> None:
    """Print the recipe of the soup, or all that was found as JSON; report the soup on stderr."""
    from .. import verbs

    paths = [each.name for each in found.contents]
    weights = {place: request.ingredients[place].weight for place in sorted(found.members)}
    members = [paths[place] for place in found.members]
    recipe = list(verbs.chosen_recipe(request.request, found.contents, weights))
    facts = {"added": members, "singles": scores_json(paths, found.singles)}
    put_chosen(str(request.request.output), found, members, recipe, facts, merge)
