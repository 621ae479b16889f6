"""The metadata of a converted checkpoint, and what becomes of the ledger of a soup.

Rule 1: a ledger stays only where it still proves: if names, dtypes and bytes of all tensors stay.
Rule 2: any other output records what it was converted from, by content digest; that is no proof.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..checkpoints.checkpoint import Checkpoint
from ..ledger.ledger import CONVERTED_KEY, LEDGER_KEY, UNKNOWN
from ..ledger.names import printable
from ..ledger.read import ledger_text
from ..merge.new_ledger import agreed_metadata
from ..merge.scaled_codes import QUANTISED_LAYERS
from .dtypes import OutputComponent
from .request import ConvertRequest

FORMAT = 1
LIBRARY = "format"
"""The key in which libraries look for the framework that wrote a file, and its usual value."""
TORCH = "pt"


def sources_of(component: OutputComponent) -> tuple[int, ...]:
    """The indices of the input components that an output component is made of."""
    ranges = (each for tensor in component.tensors for each in tensor.arranged.ranges)
    return tuple(sorted({each.component for each in ranges}))


def component_metadata(
    request: ConvertRequest, component: OutputComponent, checkpoints: Sequence[Checkpoint]
) -> dict[str, str]:
    """The metadata of an output component, with digests that are not known yet.

    Raises UsageError for a key to leave out that is not there.
    """
    used = [checkpoints[number] for number in sources_of(component)] or [*checkpoints]
    metadata = agreed_metadata(used) if used else {}
    if component.is_unchanged:
        kept = used[0].metadata.get(CONVERTED_KEY)
        own = {} if kept is None else {CONVERTED_KEY: kept}
    else:
        own = {CONVERTED_KEY: record(request, component, checkpoints, {})}
        metadata.setdefault(LIBRARY, TORCH)
    if component.is_dequantised or component.plan.marker is not None:
        metadata.pop(QUANTISED_LAYERS, None)
    for key in request.without_metadata:
        metadata.pop(key, None)
    return {**metadata, **dict(request.metadata), **own}


def record(
    request: ConvertRequest,
    component: OutputComponent,
    checkpoints: Sequence[Checkpoint],
    digests: Mapping[int, str],
) -> str:
    """What an output component was converted from, as canonical JSON."""
    asked: dict[str, object] = {}
    if request.dtype is not None:
        asked["dtype"] = request.dtype.value
    if request.dtype_for:
        asked["dtype_for"] = [[glob, dtype.value] for glob, dtype in request.dtype_for]
    if request.layout is not None:
        asked["layout"] = request.layout.value
    if request.quantize is not None:
        asked["quantize"] = request.quantize.value
    if request.keys:
        asked["keys"] = list(request.keys)
    if request.excludes:
        asked["excludes"] = list(request.excludes)
    sources = [
        {"digest": digests.get(number, UNKNOWN), "name": _name(checkpoints[number])}
        for number in sources_of(component)
    ]
    value = {"asked": asked, "format": FORMAT, "sources": sources}
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _name(checkpoint: Checkpoint) -> str:
    component = checkpoint.component
    if not component.files:
        return checkpoint.label
    return printable(Path(component.path).name)


def kept_ledger(
    request: ConvertRequest, component: OutputComponent, checkpoints: Sequence[Checkpoint]
) -> str | None:
    """The ledger that stays with an output component, if it has one that does."""
    numbers = sources_of(component)
    if request.ignore_ledger or not component.is_unchanged or not numbers:
        return None
    return ledger_text(checkpoints[numbers[0]])


def with_ledger(metadata: Mapping[str, str], ledger: str | None) -> dict[str, str]:
    """The metadata of a file with its ledger."""
    return {**metadata} if ledger is None else {**metadata, LEDGER_KEY: ledger}
