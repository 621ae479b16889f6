"""`soupctl rank`: ranks the ingredients of a soup by their effect on a score."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .choosing import (
    PlannedScores,
    ScoringOptions,
    execution_of,
    preview_within,
    reporter,
    show_plan,
)
from .console import counted, put_json, put_lines, say
from .merge_output import MergeOptions
from .option_groups import with_option_groups
from .picture import free_picture

if TYPE_CHECKING:
    from ..verbs import Rank, Ranking


@with_option_groups
def rank(
    soup: options.LocalSoup,
    plot: Annotated[
        str | None, typer.Option(help="Draw the scores without each ingredient.", metavar="PNG")
    ] = None,
    search: options.Search = None,
    component: options.Component = None,
    variant: options.Variant = None,
    *,
    choice: ScoringOptions,
    merge: MergeOptions,
) -> None:
    """Score a soup without each of its ingredients, and tell what each is worth.

    Every score is kept in a journal beside the soup.

    Example: soupctl rank soup.safetensors --score 'python score.py {}'
    """
    from .. import verbs

    target = None if plot is None else free_picture(plot, force=merge.force)
    request = verbs.Rank(
        options.named(soup),
        choice.scoring(),
        search=tuple(map(Path, search or ())),
        component=component,
        variant=variant,
        resume=choice.resume,
    )
    plan = plan_of(request, merge)
    if merge.dry_run:
        show_plan(plan, merge)
        return
    found = verbs.rank(
        request,
        force=merge.force,
        execution=execution_of(plan, merge),
        report=reporter(merge),
    )
    if target is not None:
        draw(soup, found, target, merge)
    print_ranking(soup, found, merge)


def plan_of(request: Rank, merge: MergeOptions) -> PlannedScores:
    """What will be scored, once everything that can be checked without scoring is checked."""
    from .. import verbs

    with verbs.open_family(request.family) as members:
        largest = max((member.job for member in members), key=lambda job: job.size)
        preview = preview_within(largest, merge)
        names = [member.name for member in members]
        return PlannedScores.of(preview, str(request.soup), names, len(names) + 1)


def print_ranking(soup: str, found: Ranking, merge: MergeOptions) -> None:
    """Print a line for each ingredient, the most useful first, or all of it as JSON."""
    if not merge.json:
        put_lines(_lines(found))
        return
    put_json(
        {
            "soup": soup,
            "score": found.score,
            "ingredients": [
                {"name": each.name, "without": each.without, "effect": each.effect}
                for each in found.effects
            ],
        }
    )


def _lines(found: Ranking) -> Iterator[str]:
    yield f"{found.score:12.6g}  the soup"
    for each in found.effects:
        yield f"{each.without:12.6g}  without {each.name}  ({each.effect:+.6g})"


def draw(soup: str, found: Ranking, target: Path, merge: MergeOptions) -> None:
    """Draw the scores as a PNG file."""
    from ..images.rank_plot import rank_plot
    from ..storage.atomic import publish_bytes

    rows = [(each.name, each.without) for each in found.effects]
    publish_bytes(target, rank_plot(soup, found.score, rows), replace=merge.force)
    say(f"{target}: the scores without {counted(len(rows), 'ingredient')}", merge.quiet)
