"""`soupctl search`: finds the weights of a soup that score best."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ..choices import SearchSampler
from ..frozen import frozen
from . import options
from .choosing import (
    ScoringOptions,
    SelectionOptions,
    choose,
    planned,
    put_chosen,
    show_plan,
)
from .hub_option import CHECKPOINTS
from .merge_output import MergeOptions, require_output
from .option_groups import with_option_groups

if TYPE_CHECKING:
    from ..verbs import FoundWeights, WeightSearch


@frozen
class SearchOptions:
    """Options of `search` that decide which weights are tried."""

    trials: Annotated[
        int, typer.Option(help="Candidates to score.", metavar="N", min=1, max=100_000)
    ] = 100
    sampler: Annotated[SearchSampler, typer.Option(help="How weights are proposed.")] = (
        SearchSampler.TPE
    )
    seed: Annotated[
        int, typer.Option(help="Seed of the sampler.", metavar="N", min=0, max=2**32 - 1)
    ] = 0
    blocks: Annotated[
        str | None,
        typer.Option(
            "--blocks",
            help="Weights by block: named for every named block, or globs and names of blocks.",
            metavar="named|GLOBS",
        ),
    ] = None


@with_option_groups
def search(
    inputs: Annotated[
        list[str], typer.Argument(help="Checkpoints.", metavar="INPUT..."), CHECKPOINTS
    ],
    output: options.Output = None,
    *,
    tried: SearchOptions,
    selected: SelectionOptions,
    result: options.ResultOptions,
    choice: ScoringOptions,
    ray: options.Ray = None,
    merge: MergeOptions,
) -> None:
    """Find the weights that score best, and make their soup.

    Every score is kept in a journal beside the output. The recipe of the soup is printed.

    Example: soupctl search a.st b.st --score 'python score.py {}' --trials 50 -o soup.st
    """
    from .. import verbs

    output = require_output(output, merge)
    ingredients = options.read_inputs(inputs, None, None, null=False)
    request = verbs.WeightSearch(
        selected.request(ingredients, output, result),
        choice.scoring(),
        tried.trials,
        tried.sampler,
        tried.seed,
        tuple(each.strip() for each in (tried.blocks or "").split(",") if each.strip()),
        choice.resume,
    )
    plan = planned(verbs.open_search(request), merge, ingredients, tried.trials)
    if merge.dry_run:
        show_plan(plan, merge)
        return
    found = choose(verbs.search, request, plan, ray, merge)
    print_found(request, found, merge)


def print_found(request: WeightSearch, found: FoundWeights, merge: MergeOptions) -> None:
    """Print the recipe of the soup, or all that was found as JSON; report the soup on stderr."""
    from .. import verbs

    used = found.point.used
    members = [found.contents[place].name for place in used]
    weights = {place: found.point.default[place] for place in used}
    blocks = [(glob, [row[place] for place in used]) for glob, row in found.point.blocks]
    recipe = list(verbs.chosen_recipe(request.request, found.contents, weights, blocks))
    facts = {"uniform": found.uniform}
    put_chosen(str(request.request.output), found, members, recipe, facts, merge)
