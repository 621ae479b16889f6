"""Checking a ledger's records of ingredients and donors against a rebuild.

Rule 1: a recorded option that had no effect cannot be disproved, such as --on-missing and --pad.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import translate

from ..ledger.ledger import Ledger
from .aligned import Alignment, lacking
from .plan import Plan
from .schemes import schemes
from .sources import Source


def other_records(
    ledger: Ledger,
    plan: Plan,
    alignment: Alignment,
    takes: Sequence[tuple[str, int]],
    sources: Sequence[Source],
) -> str | None:
    """A false record of a source, or of taken tensors; None if there is none."""
    ingredients = {entry.digest: entry for entry in ledger.ingredients}
    donors = {entry.digest: entry for entry in ledger.donors}
    # names of sources that give no tensors do not affect the soup
    giving = {source for step in plan.kept for source in step.sources}
    stored = schemes(plan)
    lacks = lacking(plan, alignment.ingredients, takes)
    for place, (source, renamed) in enumerate(zip(sources, alignment.renamed, strict=True)):
        label = source.checkpoint.label
        entry = (donors if source.is_donor else ingredients)[source.digest]
        if place in giving and entry.renamed != renamed:
            return f"records another renaming of the tensors of {label}"
        if entry.lacks != (() if source.is_donor else lacks[place]):
            return f"records other missing tensors of {label}"
        if not source.is_donor and entry.schemes != stored.get(place, ()):
            return f"records another quantisation of {label}"
    names = [step.name for step in plan.kept]
    for glob, _ in ledger.takes:
        if not any(map(re.compile(translate(glob)).match, names)):
            return f"takes {glob!r} from one source, which is not a tensor"
    return None
