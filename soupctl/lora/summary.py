"""A summary of an adapter, from its header and config alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from ..errors import SoupError
from ..format.header import Tensor
from ..frozen import frozen
from ..kinds.facts import TensorFacts
from .metadata import require_linear
from .modules import is_adapter, modules_of


@frozen
class AdapterSummary:
    """The families and ranks of an adapter's modules."""

    families: Mapping[str, int]
    """The number of modules of each family."""
    ranks: Mapping[int, int]
    """The number of modules of each rank; modules of whole factors have none."""
    with_alpha: int
    """The number of modules with an alpha in the file."""
    problem: str | None = None
    """Why it cannot be applied, if so; the other fields are then unknown."""

    @property
    def modules(self) -> int:
        """The number of modules that it changes."""
        return sum(self.families.values())


def summary_of(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str], facts: TensorFacts, path: str
) -> AdapterSummary | None:
    """The summary of an adapter with this metadata; None for any other checkpoint."""
    if not is_adapter(tensors):
        return None
    try:
        modules = modules_of(tensors, facts, path)
        require_linear(metadata, path)
    except SoupError as error:
        issue = error.issues[0]
        parts = filter(None, (issue.tensor, issue.what))
        return AdapterSummary({}, {}, 0, ": ".join(parts))
    ranks = Counter(each.rank for each in modules if each.rank is not None)
    return AdapterSummary(
        dict(sorted(Counter(each.family.value for each in modules).items())),
        dict(sorted(ranks.items())),
        sum(each.alpha is not None for each in modules),
    )
