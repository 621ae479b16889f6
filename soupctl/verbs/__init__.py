"""What soupctl does, for Python: one function a verb, paths and values in, values out.

    from fractions import Fraction
    from soupctl import verbs

    request = verbs.Request(
        ingredients=[verbs.Ingredient("a.st"), verbs.Ingredient("b.st", Fraction(2))],
        output="soup.st",
    )
    (made,) = verbs.average(request)
    made.ledger.root  # "blake3:..."

Every refusal is a child of `soupctl.errors.SoupError`; nothing is printed, nothing half-written.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..inputs.digests import FileDigest, Verdict, check_digests, content_digests, file_sha256
    from ..inputs.ingredients import Ingredient
    from ..outputs.job import Job, Made, carry_out
    from ..outputs.outline import Preview, preview
    from ..outputs.rounds import Rounds, arrange, carry_out_together
    from ..pace import Pace
    from ..soup.choices import Level
    from .averaging import Request, average, open_job
    from .demo import make_checkpoints
    from .family import Family, Member, leave_one_out, open_family
    from .inspection import Inspection, inspect
    from .lifecycle import Addition, Removal, Revision, open_revision, revise
    from .provenance import weighted_by
    from .questions import history, holds
    from .verifying import Verified, verify

# what only looks need not wait for what computes: a name is imported when it is first used
HOMES = {
    "Addition": ".lifecycle",
    "Family": ".family",
    "FileDigest": "..inputs.digests",
    "Ingredient": "..inputs.ingredients",
    "Inspection": ".inspection",
    "Job": "..outputs.job",
    "Level": "..soup.choices",
    "Made": "..outputs.job",
    "Member": ".family",
    "Pace": "..pace",
    "Preview": "..outputs.outline",
    "Removal": ".lifecycle",
    "Request": ".averaging",
    "Revision": ".lifecycle",
    "Rounds": "..outputs.rounds",
    "Verdict": "..inputs.digests",
    "Verified": ".verifying",
    "arrange": "..outputs.rounds",
    "average": ".averaging",
    "carry_out": "..outputs.job",
    "carry_out_together": "..outputs.rounds",
    "check_digests": "..inputs.digests",
    "content_digests": "..inputs.digests",
    "file_sha256": "..inputs.digests",
    "history": ".questions",
    "holds": ".questions",
    "inspect": ".inspection",
    "leave_one_out": ".family",
    "make_checkpoints": ".demo",
    "open_family": ".family",
    "open_job": ".averaging",
    "open_revision": ".lifecycle",
    "preview": "..outputs.outline",
    "revise": ".lifecycle",
    "verify": ".verifying",
    "weighted_by": ".provenance",
}


def __getattr__(name: str) -> object:
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(HOMES[name], __name__), name)


__all__ = [
    "Addition",
    "Family",
    "FileDigest",
    "Ingredient",
    "Inspection",
    "Job",
    "Level",
    "Made",
    "Member",
    "Pace",
    "Preview",
    "Removal",
    "Request",
    "Revision",
    "Rounds",
    "Verdict",
    "Verified",
    "arrange",
    "average",
    "carry_out",
    "carry_out_together",
    "check_digests",
    "content_digests",
    "file_sha256",
    "history",
    "holds",
    "inspect",
    "leave_one_out",
    "make_checkpoints",
    "open_family",
    "open_job",
    "open_revision",
    "preview",
    "revise",
    "verify",
    "weighted_by",
]
