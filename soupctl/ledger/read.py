"""The ledger that an open checkpoint carries."""

from __future__ import annotations

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.digest import text_digest
from ..errors import InputError, LedgerError
from .ledger import LEDGER_KEY, SUM_KEY, Ledger
from .ledger_json import IGNORE, parse_ledger


def is_sum(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint says of itself that it is the sum kept beside a soup."""
    return SUM_KEY in checkpoint.metadata


def require_model(checkpoint: Checkpoint) -> None:
    """Raise InputError for a sum, which is no model."""
    if is_sum(checkpoint):
        what = "is the sum kept beside a soup, and no model"
        raise InputError(what, path=checkpoint.shown, advice="name the soup itself")


def read_ledger(checkpoint: Checkpoint) -> Ledger | None:
    """The ledger in a checkpoint's metadata, checked but not yet compared with the tensors."""
    index = checkpoint.component.index
    text = (
        index.metadata.get(LEDGER_KEY) if index is not None else checkpoint.metadata.get(LEDGER_KEY)
    )
    if text is None:
        return None
    if not isinstance(text, str):
        raise LedgerError("its ledger is not a text", path=checkpoint.shown, advice=IGNORE)
    return parse_ledger(text, checkpoint.shown, text_digest)
