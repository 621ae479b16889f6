"""The models and the deltas of a soup as sources, found again by its ledger."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from fractions import Fraction

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.listing import component_at
from ..errors import Issue, LedgerError
from ..ledger.ledger import Ledger
from ..ledger.read import is_delta
from ..lora.adapter import Adapter
from ..lora.modules import is_adapter
from .adapter_reader import WHOLE, AdapterReader, BaseComponent, Lacks, scales_of
from .aligned import Alignment, align
from .applied_plan import Delta, plan_applied
from .applied_sum import SumRequest
from .delta.reader import DeltaReader
from .facts import adapter_config, facts_of_source
from .kept_sum.reader import AlignedCheckpoint, SumReader, soup_names
from .kept_sum.reader import Source as AnySource
from .plan import Plan
from .recipe import selector
from .sources import Source, is_added, plain_recipe


def first_of(ledger: Ledger) -> str | None:
    """The digest of the ingredient that must be the first: the base, or the source of integers."""
    if ledger.base is not None:
        return ledger.base
    return None if ledger.integer_source is None else ledger.integer_source.digest


def plan_again(
    ledger: Ledger,
    sources: Sequence[Source],
    soup: Checkpoint,
    *,
    first: bool,
    placed: Collection[str] = (),
) -> tuple[Plan, Alignment, SumRequest]:
    """The plan of a soup that deltas are added in, with the present weights of its sources.

    With it come the sources under its names, and what a sum of it would be made of.

    Its base, or the models of its mean, are the first of them; `first` takes integers from the
    first. Modules of the adapters `placed` need not be in this component. Raises what
    `plan_applied` does.
    """
    opened = [_opened(source) for source in sources]
    recorded = {entry.digest for entry in ledger.ingredients} | {*placed}
    count = 1 if ledger.base is not None else sum(not is_added(each) for each in opened)
    recipe = plain_recipe(ledger, [source.weights for source in sources], first=first)
    models = align(opened[:count], selector(recipe), soup_names(soup))
    component = component_of(soup) or component_of(opened[0])
    deltas = deltas_again(ledger, sources[count:], models.sources[0], component, recorded)
    if count == 1 and gives_fine([each.weights.usual for each in sources], recipe.blocks, deltas):
        (only,) = deltas
        if isinstance(only, DeltaReader) and only.ledger.base == sources[0].digest:
            deltas = [only.giving_fine()]
    facts = [facts_of_source(source) for source in models.sources]
    plan = plan_applied(recipe, models.sources, deltas, facts)
    given = SumRequest(recipe, models.sources, deltas, facts)
    return plan, with_deltas(models, deltas), given


def with_deltas(models: Alignment, deltas: Sequence[Delta]) -> Alignment:
    """The alignment of models with deltas after them."""
    sources, renamed = (*models.sources, *deltas), (*models.renamed, *(None for _ in deltas))
    return replace(models, sources=sources, renamed=renamed)


def deltas_again(
    ledger: Ledger,
    sources: Sequence[Source],
    base: AnySource,
    component: str,
    recorded: Collection[str],
) -> list[Delta]:
    """The deltas and adapters of a soup, located in a base that is this component of a pipeline.

    Modules of the adapters `recorded` need not be in it. Raises what `delta_of` does, and
    LedgerError for an adapter whose scales are not the recorded ones.
    """
    new = Lacks.OTHERS if component else Lacks.NONE
    places = [
        BaseComponent(
            component,
            is_of_pipeline=bool(component) and any(entry.pipelines for entry in ledger.models),
            lacks=Lacks.ANY if source.digest in recorded else new,
        )
        for source in sources
    ]
    deltas = [
        delta_of(_opened(each), base, place) for each, place in zip(sources, places, strict=True)
    ]
    _require_scales(ledger, zip(sources, deltas, strict=True))
    return deltas


def _require_scales(ledger: Ledger, deltas: Iterable[tuple[Source, Delta]]) -> None:
    """Raise LedgerError for adapters whose configs say other scales than when they were added."""
    recorded = {entry.digest: entry.scales for entry in ledger.ingredients}
    issues = [
        Issue("its scales are not those that the ledger records", delta.label, advice=CONFIG)
        for source, delta in deltas
        if source.digest in recorded and recorded[source.digest] != scales_of(delta)
    ]
    if issues:
        raise LedgerError.collected(issues)


CONFIG = "put back the adapter_config.json that was beside it"


def component_of(checkpoint: Checkpoint) -> str:
    """The folder name of a pipeline's component, or that of a text encoder's folder; else empty.

    The names of text encoders' tensors do not tell which of several they are.
    """
    component = checkpoint.component
    if component.name or component.folder is None:
        return component.name
    folder = component.folder.name
    is_encoder = folder.startswith("text_encoder")
    return folder if is_encoder else component_at(component.folder) or ""


def delta_of(checkpoint: Checkpoint, base: AnySource, place: BaseComponent = WHOLE) -> Delta:
    """A delta, or an adapter located in the base, or in the first model of a mean.

    Raises LedgerError for an unsound delta, InputError and MismatchError for an adapter that
    is not linear or does not fit.
    """
    if is_delta(checkpoint) or not is_adapter(checkpoint.tensors):
        return DeltaReader(checkpoint)
    adapter = adapter_of(checkpoint)
    tensors = base.tensors
    if isinstance(base, AlignedCheckpoint):
        tensors = {name: replace(tensor, name=name) for name, tensor in tensors.items()}
    own = base if isinstance(base, Checkpoint) else base.checkpoint
    place = replace(place, component=place.component or component_of(own))
    return AdapterReader(adapter, tensors, base.label, place)


def adapter_of(checkpoint: Checkpoint) -> Adapter:
    """The adapter in a checkpoint; InputError for one that is not linear, or cannot be read."""
    return Adapter(checkpoint, facts_of_source(checkpoint), adapter_config(checkpoint))


def gives_fine(
    weights: Sequence[Fraction], blocks: Collection[object], deltas: Sequence[Delta]
) -> bool:
    """Whether a model has one delta of scale 1 everywhere, which FINE comes of on its own base.

    `weights` are that of the model and of the deltas.
    """
    if blocks or len(deltas) != 1 or not isinstance(deltas[0], DeltaReader):
        return False
    return weights[1] == 1


def _opened(source: Source) -> Checkpoint:
    assert not isinstance(source.checkpoint, SumReader)
    return source.checkpoint
