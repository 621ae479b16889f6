"""The class that stands for none, which classifier-free guidance needs.

Rule 1: it is known of a DiT by its class, and of other models by the ledger of their training; that
a model has one more class than it needs shows nowhere else, so no class is ever taken for it.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..checkpoints.open import open_input
from ..errors import LedgerError
from ..ledger.ledger import Ledger
from ..ledger.read import read_ledger
from .base import Base, Conditioning

COND_DROP = "cond_drop"
"""The option of a training that teaches the class for none, by how often it takes its place."""


def null_class(base: Base) -> int | None:
    """The class of a model that stands for none; None if it has no such class, or may have none."""
    if base.conditioning is not Conditioning.LABEL:
        return None
    if base.class_name == "DiTTransformer2DModel" or _was_taught(base):
        return base.embeddings - 1
    return None


def _was_taught(base: Base) -> bool:
    """Whether the ledger of a model says that it, or all of its ingredients, learned the class."""
    try:
        with open_input(base.files.weights[base.denoiser]) as checkpoint:
            ledger = read_ledger(checkpoint)
    except LedgerError:
        # a model is drawn whatever its ledger says
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
