"""The null class of a model, which classifier-free guidance needs.

Rule 1: a DiT always has one, and the ledger of a training tells it of other models. Nothing else
shows that a model has one class more than it needs, so the null class is never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..checkpoints.open import open_input
from ..errors import LedgerError
from ..ledger.ledger import Ledger
from ..ledger.read import read_ledger
from .base import Base, Conditioning

COND_DROP = "cond_drop"
"""The training option that trains the null class: how often it replaces an image's class."""


def null_class(base: Base) -> int | None:
    """The null class of a model; None if it has none, or if that is not known."""
    if base.conditioning is not Conditioning.LABEL:
        return None
    if base.class_name == "DiTTransformer2DModel" or _was_taught(base):
        return base.embeddings - 1
    return None


def _was_taught(base: Base) -> bool:
    """Whether a model's ledger says that it, or all of its ingredients, trained the null class."""
    try:
        with open_input(base.files.weights[base.denoiser]) as checkpoint:
            ledger = read_ledger(checkpoint)
    except LedgerError:
        # a model can be sampled even if its ledger is invalid
        return False
    return ledger is not None and _taught(ledger, ledger.ancestors)


def _taught(ledger: Ledger, ancestors: Mapping[str, Ledger]) -> bool:
    if ledger.training is not None:
        try:
            return float(ledger.training.options.get(COND_DROP, 0)) > 0
        except ValueError:
            return False
    found = [ancestors.get(each.digest) for each in ledger.ingredients]
    return bool(found) and all(each is not None and _taught(each, ancestors) for each in found)
