"""The base and the deltas of a soup as sources, found again by its ledger."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from ..checkpoints.checkpoint import Checkpoint
from ..ledger.ledger import Ledger
from ..ledger.read import is_delta
from ..lora.adapter import Adapter
from ..lora.modules import is_adapter
from .adapter_reader import AdapterReader
from .aligned import Alignment
from .applied_plan import Delta, plan_applied
from .delta.reader import DeltaReader
from .facts import adapter_config, facts_of_source
from .kept_sum.reader import SumReader
from .plan import Plan
from .sources import Source, plain_recipe


def first_of(ledger: Ledger) -> str | None:
    """The digest of the ingredient that must be the first: the base, or the source of integers."""
    if ledger.base is not None:
        return ledger.base
    return None if ledger.integer_source is None else ledger.integer_source.digest


def plan_again(ledger: Ledger, sources: Sequence[Source], *, first: bool) -> tuple[Plan, Alignment]:
    """The plan of a soup that deltas are applied in, with the present weights of its sources.

    The base is the first of them; `first` takes integers from it. Raises what `plan_applied` does.
    """
    base, *rest = (_opened(source) for source in sources)
    deltas = [delta_of(each, base) for each in rest]
    if _give_fine(ledger, sources, deltas):
        deltas = [each.giving_fine() for each in deltas if isinstance(each, DeltaReader)]
    recipe = plain_recipe(ledger, [source.weights for source in sources], first=first)
    plan = plan_applied(recipe, base, deltas, facts_of_source(base))
    return plan, Alignment((base, *deltas), (None,) * len(sources), frozenset())


def delta_of(checkpoint: Checkpoint, base: Checkpoint) -> Delta:
    """A delta, or an adapter located in the base.

    Raises LedgerError for what is no sound delta, InputError and MismatchError for an adapter that
    is not linear or does not fit.
    """
    if is_delta(checkpoint) or not is_adapter(checkpoint.tensors):
        return DeltaReader(checkpoint)
    facts, config = facts_of_source(checkpoint), adapter_config(checkpoint)
    adapter = Adapter(checkpoint, facts, config)
    return AdapterReader(adapter, base, base.component.name)


def _give_fine(ledger: Ledger, sources: Sequence[Source], deltas: Sequence[Delta]) -> bool:
    """Whether there is one delta, of scale 1 on its own base."""
    if len(deltas) != 1 or not isinstance(deltas[0], DeltaReader):
        return False
    scale = sources[1].weights
    is_one = not scale.blocks and scale.usual == sources[0].weights.usual == Fraction(1)
    return is_one and deltas[0].ledger.base == ledger.base


def _opened(source: Source) -> Checkpoint:
    assert not isinstance(source.checkpoint, SumReader)
    return source.checkpoint
