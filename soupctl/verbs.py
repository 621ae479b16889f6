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
    from .checkpoints.hashing import (
        FileDigest,
        Verdict,
        check_digests,
        content_digests,
        file_sha256,
    )
    from .choices import Level
    from .demo import make_checkpoints
    from .merge.average import Request, average, open_job
    from .merge.ingredients import Ingredient
    from .merge.inspect import Inspection, inspect
    from .merge.job import ComponentResult, Job
    from .merge.leave_one_out import LeaveOneOut, Variant, leave_one_out, open_family
    from .merge.preview import Preview, preview
    from .merge.query import history, holds
    from .merge.revise import open_revision, revise
    from .merge.revision import Addition, Removal, Revision
    from .merge.rounds import Rounds, arrange
    from .merge.run import carry_out, carry_out_together
    from .merge.sample_weights import weighted_by
    from .merge.verify import Verified, verify
    from .workers import ExecutionOptions

# what only looks need not wait for what computes: a name is imported when it is first used
HOMES = {
    "Addition": ".merge.revision",
    "LeaveOneOut": ".merge.leave_one_out",
    "FileDigest": ".checkpoints.hashing",
    "Ingredient": ".merge.ingredients",
    "Inspection": ".merge.inspect",
    "Job": ".merge.job",
    "Level": ".choices",
    "ComponentResult": ".merge.job",
    "Variant": ".merge.leave_one_out",
    "ExecutionOptions": ".workers",
    "Preview": ".merge.preview",
    "Removal": ".merge.revision",
    "Request": ".merge.average",
    "Revision": ".merge.revision",
    "Rounds": ".merge.rounds",
    "Verdict": ".checkpoints.hashing",
    "Verified": ".merge.verify",
    "arrange": ".merge.rounds",
    "average": ".merge.average",
    "carry_out": ".merge.run",
    "carry_out_together": ".merge.run",
    "check_digests": ".checkpoints.hashing",
    "content_digests": ".checkpoints.hashing",
    "file_sha256": ".checkpoints.hashing",
    "history": ".merge.query",
    "holds": ".merge.query",
    "inspect": ".merge.inspect",
    "leave_one_out": ".merge.leave_one_out",
    "make_checkpoints": ".demo",
    "open_family": ".merge.leave_one_out",
    "open_job": ".merge.average",
    "open_revision": ".merge.revise",
    "preview": ".merge.preview",
    "revise": ".merge.revise",
    "verify": ".merge.verify",
    "weighted_by": ".merge.sample_weights",
}


def __getattr__(name: str) -> object:
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(HOMES[name], __package__), name)


__all__ = [
    "Addition",
    "ComponentResult",
    "ExecutionOptions",
    "FileDigest",
    "Ingredient",
    "Inspection",
    "Job",
    "LeaveOneOut",
    "Level",
    "Preview",
    "Removal",
    "Request",
    "Revision",
    "Rounds",
    "Variant",
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
