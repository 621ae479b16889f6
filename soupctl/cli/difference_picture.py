"""The pictures of `soupctl diff --plot`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError
from .console import counted, say
from .difference_report import blocks_of

if TYPE_CHECKING:
    from ..verbs import CheckpointDifference, DeltaMatrix


def plot_differences(found: Sequence[CheckpointDifference], target: Path, *, force: bool) -> None:
    """Draw the change of each block; the blocks of several components below each other."""
    from ..images.difference_plot import BlockChange, change_plot
    from ..storage.atomic import publish_bytes

    blocks = [
        BlockChange(
            f"{each.name}/{block.name}" if each.name else block.name,
            block.moments.relative_change,
            block.moments.cosine,
        )
        for each in found
        for block in blocks_of(each)
    ]
    if not blocks:
        raise UsageError("there are no tensors to draw that both have", path=target)
    title = " and ".join(found[0].labels)
    publish_bytes(target, change_plot(title, blocks), replace=force)
    say(f"{target}: the change of {counted(len(blocks), 'block')}")


def plot_matrix(found: Sequence[DeltaMatrix], target: Path, *, force: bool) -> None:
    """Draw the cosines of the deltas; UsageError for several components."""
    from ..images.difference_plot import cosine_plot
    from ..storage.atomic import publish_bytes

    if len(found) > 1:
        what = f"the deltas have {len(found)} components, and one is drawn"
        raise UsageError(what, path=target, advice="--component picks one")
    (only,) = found
    picture = cosine_plot(f"deltas from {only.base}", only.labels, only.cosines)
    publish_bytes(target, picture, replace=force)
    say(f"{target}: the cosines of {counted(len(only.labels), 'delta')}")
