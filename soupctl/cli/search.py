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
    execution_of,
    planned,
    report_best,
    reporter,
    show_plan,
    workers_of,
)
from .console import put_json, put_lines
from .merge_output import MergeOptions, made_json, report_made, require_output
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
    inputs: Annotated[list[str], typer.Argument(help="Checkpoints.", metavar="INPUT...")],
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
    with workers_of(ray) as workers:
        found = verbs.search(
            request,
            force=merge.force,
            execution=execution_of(plan, merge),
            report=reporter(merge),
            workers=workers,
        )
    print_found(request, found, merge)


def print_found(request: WeightSearch, found: FoundWeights, merge: MergeOptions) -> None:
    """Print the recipe of the soup, or all that was found as JSON; report the soup on stderr."""
    from .. import verbs

    output, paths = str(request.request.output), [each.name for each in found.contents]
    used = found.point.used
    report_best(output, found.score, [paths[n] for n in used], len(paths), merge)
    report_made(output, found.made, verbose=merge.verbose, quiet=merge.quiet or not merge.verbose)
    weights = {n: found.point.default[n] for n in used}
    blocks = [(glob, [row[n] for n in used]) for glob, row in found.point.blocks]
    recipe = list(verbs.chosen_recipe(request.request, found.contents, weights, blocks))
    if not merge.json:
        put_lines(recipe)
        return
    put_json(
        {
            **made_json(output, found.made),
            "score": found.score,
            "uniform": found.uniform,
            "recipe": "\n".join([*recipe, ""]),
        }
    )
