"""What a ledger records besides the ingredients, in words: donors, configs, training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .console import counted, digest_text

if TYPE_CHECKING:
    from ..ledger.ledger import Ledger
    from ..ledger.training_record import TrainingRecord


def donor_lines(ledger: Ledger, *, whole: bool) -> Iterator[tuple[str, str]]:
    """Label and text for each donor, with the globs of the tensors taken from it."""
    for entry in ledger.donors:
        taken = f"{ledger.taken_from(entry.digest)} from {entry.name}"
        yield "taken", f"{taken}  ({digest_text(entry.digest, whole=whole)})"


def config_lines(ledger: Ledger, *, whole: bool) -> Iterator[tuple[str, str]]:
    """Label and text for the ingredient chosen by --config-from, if there is one."""
    for entry in ledger.ingredients:
        if entry.digest == ledger.config_from:
            yield "configs", f"those of {entry.name}  ({digest_text(entry.digest, whole=whole)})"


def training_text(training: TrainingRecord, *, whole: bool) -> str:
    """The base and dataset of a trained checkpoint."""
    images, steps = counted(training.samples, "image"), counted(training.steps, "step")
    data = digest_text(training.data, whole=whole)
    base = digest_text(training.base, whole=whole)
    return f"{steps} on {training.data_name} ({images}, {data}) from {base}"
