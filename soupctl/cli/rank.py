"""`soupctl rank`: ranks the ingredients of a soup by their effect on a score."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .choosing import PlannedScores, ScoringOptions, reporter, show_plan
from .console import counted, put_json, put_lines, say
from .history import Search, Soup
from .merge_output import MergeOptions
from .option_groups import with_option_groups
from .picture import free_picture

if TYPE_CHECKING:
    from ..verbs import Rank, Ranking


@with_option_groups
def rank(
    soup: Soup,
    plot: Annotated[
        str | None, typer.Option(help="Draw the scores without each ingredient.", metavar="PNG")
    ] = None,
    search: Search = None,
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
    planned = plan_of(request, merge)
    if merge.dry_run:
        show_plan(planned, merge)
        return
    most = options.parse_size(merge.max_memory, "--max-memory")
    execution = verbs.ExecutionOptions.on(merge.device, most)
    found = verbs.rank(
        request,
        force=merge.force,
        execution=replace(execution, threads=planned.threads),
        report=reporter(merge),
    )
    if target is not None:
        draw(soup, found, target, merge)
    if merge.json:
        put_json(_ranking_json(soup, found))
    else:
        put_lines(ranking_lines(found))


def plan_of(request: Rank, merge: MergeOptions) -> PlannedScores:
    """What will be scored, once everything that can be checked without scoring is checked."""
    from .. import verbs

    most = options.parse_size(merge.max_memory, "--max-memory")
    reserved = verbs.ExecutionOptions.on(merge.device, most).reserved_memory
    with verbs.open_family(request.family) as members:
        largest = max((member.job for member in members), key=lambda job: job.size)
        preview = verbs.preview(largest, merge.threads, most, reserved)
        names = [member.name for member in members]
        return PlannedScores.of(preview, str(request.soup), names, len(names) + 1)


def ranking_lines(found: Ranking) -> Iterator[str]:
    """A line for each ingredient, the most useful first."""
    yield f"{found.score:12.6g}  the soup"
    for each in found.effects:
        yield f"{each.without:12.6g}  without {each.name}  ({each.effect:+.6g})"


def _ranking_json(soup: str, found: Ranking) -> dict[str, object]:
    return {
        "soup": soup,
        "score": found.score,
        "ingredients": [
            {"name": each.name, "without": each.without, "effect": each.effect}
            for each in found.effects
        ],
    }


def draw(soup: str, found: Ranking, target: Path, merge: MergeOptions) -> None:
    """Draw the scores as a PNG file."""
    from ..images.rank_plot import rank_plot
    from ..storage.atomic import publish_bytes

    rows = [(each.name, each.without) for each in found.effects]
    publish_bytes(target, rank_plot(soup, found.score, rows), replace=merge.force)
    say(f"{target}: the scores without {counted(len(rows), 'ingredient')}", merge.quiet)
