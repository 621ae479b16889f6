"""The ledger of a delta: FINE with weight 1, and BASE with weight -1.

Rule 1: of a checkpoint minus itself it has BASE alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from ...errors import LedgerError
from ...format.header import Tensor
from ...frozen import frozen
from ...ledger.ancestry import ancestry
from ...ledger.entries import merged
from ...ledger.ledger import UNKNOWN, IngredientEntry, Ledger, runs
from ...ledger.ledger_json import IGNORE
from ...ledger.locate import dtype_runs
from ..ingredients import ComponentInputs
from ..new_ledger import hint_to


@frozen
class Selection:
    """The selected tensors of a delta, by globs."""

    keys: tuple[str, ...]
    excludes: tuple[str, ...]


def draft_delta(
    component: ComponentInputs,
    names: Sequence[str],
    roots: tuple[str, str],
    tensors: Sequence[Tensor],
    selection: Selection,
    folder: Path | None,
) -> Ledger:
    """The ledger of a delta in `folder`, without its own digest.

    Names, roots and the component's checkpoints are those of BASE and FINE. Raises LedgerError for
    an input whose ledger does not match its tensors.
    """
    base, fine = roots
    for checkpoint, ledger, root in zip(
        component.checkpoints, component.ledgers, roots, strict=True
    ):
        if ledger is not None and ledger.root != root:
            what = "its ledger does not match its tensors"
            raise LedgerError(what, path=checkpoint.label, advice=IGNORE)
    weights = (Fraction(-1), Fraction(1))
    entries = [
        IngredientEntry(root, name, hint_to(each, folder), weight, dtype_runs(each))
        for root, name, each, weight in zip(
            roots, names, component.checkpoints, weights, strict=True
        )
    ]
    ledgers = [ledger for ledger in component.ledgers if ledger is not None]
    known = ancestry(ledgers).of(ledger.root for ledger in ledgers)
    return Ledger(
        operation="delta",
        root=UNKNOWN,
        ingredients=merged(entries[:1] if base == fine else entries),
        dtypes=runs(each.dtype for each in sorted(tensors, key=lambda each: each.name)),
        keys=selection.keys,
        excludes=selection.excludes,
        exact=all(ledger.exact for ledger in ledgers),
        ancestors=known.ledgers,
        disputed=known.disputed,
        base=base,
    )
