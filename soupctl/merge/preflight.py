"""What an output would be refused for, known before anything is made."""

from __future__ import annotations

from ..storage.place import place_of, refusing
from .destination import refuse_inputs
from .job import Job
from .overwrite import soups_only


def require_free(job: Job, *, force: bool = False) -> None:
    """Raise the OutputError that `carry_out` would for what is at the output's place by now.

    That is an input, an output that `force` does not replace, or no folder around it.
    """
    destination = job.destination
    refuse_inputs(destination, job.used, job.replaceable)
    target = destination.path
    if target is None:
        return
    with refusing(target), place_of(target) as place:
        if destination.is_folder:
            may_replace = soups_only(target, destination.names)
            place.require_free_folder(target, force, may_replace)
        else:
            place.require_free(target, force)
