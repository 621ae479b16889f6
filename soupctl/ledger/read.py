"""Reading the ledger of an open checkpoint."""

from __future__ import annotations

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.digest import text_digest
from ..errors import InputError, LedgerError
from .ledger import DELTA_KEY, LEDGER_KEY, SUM_KEY, Ledger
from .ledger_json import IGNORE, parse_ledger


def is_sum(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint's metadata marks it as a kept sum."""
    return SUM_KEY in checkpoint.metadata


def is_delta(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint's metadata marks it as a delta."""
    return DELTA_KEY in checkpoint.metadata


def require_model(checkpoint: Checkpoint) -> None:
    """Raise InputError for a kept sum or a delta."""
    if is_delta(checkpoint):
        advice = "soupctl apply BASE DELTA adds it to a model"
        raise InputError("is a delta, not a model", path=checkpoint.label, advice=advice)
    require_no_sum(checkpoint)


def require_no_sum(checkpoint: Checkpoint) -> None:
    """Raise InputError for a kept sum."""
    if is_sum(checkpoint):
        what = "is a kept sum, not a model"
        raise InputError(what, path=checkpoint.label, advice="name the soup itself")


def read_ledger(checkpoint: Checkpoint) -> Ledger | None:
    """The ledger in a checkpoint's metadata, checked but not yet compared with the tensors."""
    text = ledger_text(checkpoint)
    return None if text is None else parse_ledger_of(checkpoint, text)


def ledger_text(checkpoint: Checkpoint) -> str | None:
    """The text of a checkpoint's ledger, if it has one; LedgerError if it is not a string."""
    index = checkpoint.component.index
    metadata = checkpoint.metadata if index is None else index.metadata
    text = metadata.get(LEDGER_KEY)
    if text is not None and not isinstance(text, str):
        raise LedgerError("its ledger is not a text", path=checkpoint.label, advice=IGNORE)
    return text


def parse_ledger_of(checkpoint: Checkpoint, text: str) -> Ledger:
    """The ledger in the text of a checkpoint's metadata; LedgerError if it is not sound."""
    return parse_ledger(text, checkpoint.label, text_digest)
