"""The models and deltas of a soup of several components, as whole pipelines in its ledgers.

Rule 1: a pipeline is identified by the contents of its components; a lone delta or adapter, which
may change several components, by its own content.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..frozen import frozen
from ..ledger.block_weights import WeightByBlock
from ..ledger.ledger import UNKNOWN, IngredientEntry, PipelineShare
from ..ledger.names import unique_names
from ..ledger.pipelines import pipeline_digest
from .ingredients import Inputs
from .order import Outcome
from .scaled_deltas import ModelsWithDeltas, places_of


@frozen
class WholeModel:
    """A model or delta that the user named."""

    name: str
    weight: WeightByBlock
    places: tuple[int | None, ...]
    """Its place among the sources of each component; None where it changes nothing."""
    is_lone: bool
    """Whether it is one checkpoint for all components."""

    def digest(self, names: Sequence[str], outcomes: Sequence[Outcome]) -> str:
        """Its digest as a whole, from the contents of the components called `names`."""
        contents = {
            name: outcome.ingredients[place]
            for name, place, outcome in zip(names, self.places, outcomes, strict=True)
            if place is not None
        }
        return next(iter(contents.values())) if self.is_lone else pipeline_digest(contents)


@frozen
class WholeModels:
    """All models and deltas that the user named, the models first."""

    components: tuple[str, ...]
    """The names of the components."""
    every: tuple[WholeModel, ...]

    def at(self, position: int, place: int) -> tuple[WholeModel, ...]:
        """The models whose component at a position is the source at a place."""
        return tuple(each for each in self.every if each.places[position] == place)

    def names_of(self, position: int, count: int) -> tuple[str, ...]:
        """The names of the first `count` sources of a component."""
        return tuple(self.at(position, place)[0].name for place in range(count))

    def shares_of(self, position: int, place: int, hint: str | None) -> tuple[PipelineShare, ...]:
        """The shares of a source's weight, with digests still unknown."""
        return tuple(
            PipelineShare(UNKNOWN, each.name, hint, each.weight.usual, each.weight.blocks)
            for each in self.at(position, place)
        )

    def completed(
        self, entries: Sequence[IngredientEntry], position: int, outcomes: Sequence[Outcome]
    ) -> tuple[tuple[PipelineShare, ...], ...]:
        """The shares of a component's entries, in the order of its sources, with their digests."""
        return tuple(
            tuple(
                PipelineShare(
                    whole.digest(self.components, outcomes),
                    share.name,
                    share.hint,
                    share.weight,
                    share.blocks,
                )
                for share, whole in zip(entry.pipelines, self.at(position, place), strict=True)
            )
            for place, entry in enumerate(entries)
        )


def whole_models(mixture: ModelsWithDeltas, inputs: Inputs) -> WholeModels | None:
    """The models and deltas as whole pipelines; None for a single component."""
    if len(inputs.components) == 1:
        return None
    models, given = range(len(mixture.models)), range(len(mixture.deltas))
    places = [places_of(mixture, position) for position in range(len(inputs.components))]
    paths = [
        *(os.path.abspath(model.label) for model in inputs.models),
        *(
            each.label if each.path is None else os.path.abspath(each.path)
            for each in mixture.deltas
        ),
    ]
    weights = (*mixture.models, *mixture.scales)
    sources: list[tuple[int | None, ...]] = [(place,) * len(inputs.components) for place in models]
    sources += [tuple(place.get(number) for place in places) for number in given]
    lone = (*(False for _ in models), *(not each.is_pipeline for each in mixture.deltas))
    rows = zip(unique_names(paths), weights, sources, lone, strict=True)
    return WholeModels(
        tuple(component.name for component in inputs.components),
        tuple(WholeModel(*row) for row in rows),
    )
