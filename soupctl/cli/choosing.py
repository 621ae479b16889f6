"""The parts of all commands that choose soups by a score: options, plan, progress, report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from ..errors import UsageError
from ..frozen import frozen
from . import options
from .console import counted, is_silent, put, put_json, put_lines, say, size_text
from .merge_output import MergeOptions, made_json, report_made
from .preview_report import memory_line
from .work import limits

if TYPE_CHECKING:
    from ..verbs import (
        ExecutionOptions,
        FoundWeights,
        GreedyChoice,
        Ingredient,
        Job,
        Preview,
        Request,
        Scored,
        Scoring,
        Workers,
    )

Chosen = TypeVar("Chosen")


@frozen
class ScoringOptions:
    """Options of every command that scores candidates."""

    score: Annotated[
        str | None,
        typer.Option(
            help="A shell command that scores the candidate at {}: a number on its last line.",
            metavar="CMD",
        ),
    ] = None
    scorer: Annotated[
        str | None,
        typer.Option(
            help="A Python function that scores a dict of numpy arrays: file.py:name or a module.",
            metavar="MODULE:NAME",
        ),
    ] = None
    maximize: Annotated[
        bool, typer.Option("--maximize/--minimize", help="Whether a larger score is better.")
    ] = True
    jobs: Annotated[
        int, typer.Option(help="Candidates that are scored at once.", metavar="N", min=1, max=256)
    ] = 1
    timeout: Annotated[
        str | None, typer.Option(help="Seconds that one score may take.", metavar="S")
    ] = None
    resume: Annotated[
        bool, typer.Option("--resume", help="Use the scores in the journal of an earlier run.")
    ] = False

    def scoring(self) -> Scoring:
        """How candidates are scored; UsageError for malformed options."""
        from ..verbs import Scoring

        return Scoring(
            command=self.score,
            function=self.scorer,
            minimize=not self.maximize,
            jobs=self.jobs,
            timeout=None if self.timeout is None else _seconds(self.timeout),
        )


@frozen
class SelectionOptions:
    """Options of the commands that choose a soup; they decide its tensors."""

    key: options.Key = None
    exclude: options.Exclude = None

    def request(
        self, ingredients: Sequence[Ingredient], output: str, result: options.ResultOptions
    ) -> Request:
        """The average of all of these; UsageError for a malformed dtype."""
        from ..verbs import Request

        return Request(
            ingredients=ingredients,
            output=output,
            dtype=result.float_dtype,
            keys=tuple(self.key or ()),
            excludes=tuple(self.exclude or ()),
            component=result.component,
            variant=result.variant,
            keep_sum=result.keep_sum,
        )


def _seconds(text: str) -> float:
    from ..ledger.weights import parse_weight

    try:
        seconds = float(parse_weight(text))
    except (UsageError, OverflowError):
        seconds = 0.0
    if seconds <= 0:
        raise UsageError(f"--timeout {text!r} is not a number of seconds", advice="such as 600")
    return seconds


@frozen
class PlannedScores:
    """The plan of a command that scores candidates."""

    output: str
    ingredients: tuple[str, ...]
    most: int
    """Scores that are taken at most."""
    candidate: int
    """Bytes of a candidate."""
    memory: int
    threads: int
    chunk: int | None
    """Elements in a chunk; None to fit the cache."""
    free_disk: int | None

    @classmethod
    def of(
        cls, preview: Preview, output: str, ingredients: Sequence[str], most: int
    ) -> PlannedScores:
        """The plan of a command whose largest candidate has this preview."""
        return cls(
            output,
            tuple(ingredients),
            most,
            preview.written,
            preview.memory,
            preview.threads,
            preview.chunk,
            preview.free_disk,
        )


def planned(
    opening: AbstractContextManager[Job],
    merge: MergeOptions,
    ingredients: Sequence[Ingredient],
    most: int,
) -> PlannedScores:
    """The plan of scoring `most` soups, of which `opening` yields the largest.

    In a dry run, its output is checked.
    """
    from ..merge.preflight import require_free

    with opening as job:
        if merge.dry_run:
            require_free(job, force=merge.force)
        found = preview_within(job, merge)
    return PlannedScores.of(found, found.output, [str(x.path) for x in ingredients], most)


def preview_within(job: Job, merge: MergeOptions) -> Preview:
    """The preview of a soup within the limits that were given."""
    from .. import verbs

    execution, most = limits(merge)
    return verbs.preview(job, merge.threads, most, execution.reserved_memory)


def execution_of(plan: PlannedScores, merge: MergeOptions) -> ExecutionOptions:
    """The options for speed and memory of every pass."""
    execution, _ = limits(merge)
    return replace(execution, threads=plan.threads, chunk=plan.chunk)


def choose(
    make: Callable[..., Chosen],
    request: object,
    plan: PlannedScores,
    ray: str | None,
    merge: MergeOptions,
) -> Chosen:
    """The soup that `make` chooses and makes, with --ray on the workers at that address."""
    with _workers_of(ray) as workers:
        return make(
            request,
            force=merge.force,
            execution=execution_of(plan, merge),
            report=reporter(merge),
            workers=workers,
        )


def _workers_of(ray: str | None) -> AbstractContextManager[Workers | None]:
    """The workers that make and score candidates; None for this process."""
    if ray is None:
        return nullcontext()
    from .. import verbs

    return verbs.open_workers(ray)


def show_plan(plan: PlannedScores, merge: MergeOptions) -> None:
    """Print on stdout what would be scored: it is the result of a dry run."""
    if merge.json:
        put_json(
            {
                "output": plan.output,
                "ingredients": list(plan.ingredients),
                "most_scores": plan.most,
                "bytes_of_candidate": plan.candidate,
                "memory": plan.memory,
                "threads": plan.threads,
                "free_disk": plan.free_disk,
            }
        )
        return
    put(f"output   {plan.output}")
    for name in plan.ingredients:
        put(f"         {name}")
    put(f"scores   at most {plan.most}")
    free = "unknown" if plan.free_disk is None else size_text(plan.free_disk)
    put(f"write    {size_text(plan.candidate)} for each candidate (free disk {free})")
    put(memory_line(plan.memory, plan.threads))


def reporter(merge: MergeOptions) -> Callable[[Scored], None]:
    """A function that reports every score on stderr, on a terminal or with -v."""
    silent = is_silent(merge.quiet, merge.verbose)
    count = 0

    def report(scored: Scored) -> None:
        nonlocal count
        count += 1
        source = " (from the journal)" if scored.is_recorded else ""
        say(f"score {count}: {scored.score:.6g} {scored.trial.label}{source}", silent)

    return report


def put_chosen(
    output: str,
    found: GreedyChoice | FoundWeights,
    members: Sequence[str],
    recipe: Sequence[str],
    facts: Mapping[str, Any],
    merge: MergeOptions,
) -> None:
    """Print the recipe of the best soup, or all of it and `facts` as JSON; report it on stderr."""
    silent = is_silent(merge.quiet, merge.verbose)
    chosen = f"{len(members)} of {counted(len(found.contents), 'ingredient')}"
    say(f"{output}: {chosen}, score {found.score:.6g}", silent)
    report_made(output, found.made, verbose=merge.verbose, quiet=merge.quiet or not merge.verbose)
    if not merge.json:
        put_lines(recipe)
        return
    scored = {**made_json(output, found.made), "score": found.score, **facts}
    put_json({**scored, "recipe": "\n".join([*recipe, ""])})


def scores_json(paths: Sequence[str], scores: Sequence[float]) -> list[dict[str, Any]]:
    """Scores by path, as JSON."""
    return [{"path": path, "score": score} for path, score in zip(paths, scores, strict=True)]
