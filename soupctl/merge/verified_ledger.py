"""The ledger of a soup, checked against its tensors."""

from __future__ import annotations

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.hashing import checkpoint_digest
from ..errors import LedgerError
from ..ledger.ledger import Ledger
from ..ledger.read import is_sum
from .opened_inputs import OpenedInputs


def require_ledger(
    inputs: OpenedInputs,
    soup: Checkpoint,
    advice: str | None = None,
    *,
    if_unfit: str | None = None,
) -> Ledger:
    """The soup's ledger, checked against its tensors.

    Raises LedgerError, with the advice `if_unfit` for a ledger that does not fit, with `advice` if
    there is none.
    """
    ledger = inputs.ledger(soup)
    if ledger is None:
        raise LedgerError("has no ledger", path=soup.label, advice=advice)
    if is_sum(soup):
        # loaded for sums alone, since most soups are none
        from .kept_sum.format import REMOVE
        from .kept_sum.opened import facts_of

        # a kept sum is accepted in place of its soup, whose tensors follow from it
        if facts_of(soup, ledger).root != checkpoint_digest(soup):
            what = "holds other tensors than it records"
            raise LedgerError(what, path=soup.label, advice=REMOVE)
    elif ledger.root != checkpoint_digest(soup):
        what = "its ledger does not match its tensors"
        raise LedgerError(what, path=soup.label, advice=if_unfit)
    return ledger
