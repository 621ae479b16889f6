"""Writing what describes a soup to others: its bill of materials, and its model card."""

from __future__ import annotations

import os
from pathlib import Path

from ..checkpoints.layout import ModelFiles
from ..checkpoints.listing import PIPELINE
from ..checkpoints.open import STREAM, find_input
from ..errors import OutputError, UsageError
from ..frozen import frozen
from ..merge.query import history
from ..storage.atomic import publish_bytes
from ..storage.place import place_of
from .bom import bill_text
from .model_card import CARD, card_text
from .soup_files import digests_of, soup_files


@frozen
class DescribeRequest:
    """A soup, and what to write about it: at least one of the two."""

    soup: str | Path
    output: Path | None = None
    """The file of the bill of materials."""
    card: bool = False
    """Whether to write the model card, in the soup's folder."""


def describe(request: DescribeRequest, *, force: bool = False) -> tuple[Path, ...]:
    """Write the bill of materials of a soup, its model card, or both; the files that were written.

    Ledgers are read, and not verified. The card is written first, so that the bill lists it.
    Raises UsageError for a card of a soup that is no folder, LedgerError for what is not a soup,
    OutputError if a file exists and `force` is false, or is one of the soup's weights.
    """
    if request.soup == STREAM:
        raise UsageError("standard input has no files to list", advice="give the path of the soup")
    model = find_input(request.soup)
    if request.card and model.folder is None:
        what = "is a file, and --model-card writes into the folder of a soup"
        raise UsageError(what, path=request.soup, advice="leave it out")
    ledgers = [
        (part.name, ledger)
        for part, (_, ledger) in zip(model.components, history(request.soup), strict=True)
    ]
    targets = _targets(request, model, force=force)
    left_out = [] if request.output is None else [request.output]
    if request.card:
        files = soup_files(model, left_out)
        listing = model.pipeline_index
        is_pipeline = listing is not None and listing.path.name == PIPELINE
        text = card_text(files.name, ledgers, is_pipeline=is_pipeline)
        publish_bytes(targets[0], text.encode(), replace=force)
    if request.output is not None:
        files = soup_files(model, left_out)
        text = bill_text(files.name, ledgers, digests_of(files))
        publish_bytes(request.output, text.encode(), replace=force)
    return targets


def _targets(request: DescribeRequest, model: ModelFiles, *, force: bool) -> tuple[Path, ...]:
    """The files to write, the card first; OutputError if one of them cannot be."""
    card = [model.folder / CARD] if request.card and model.folder is not None else []
    targets = (*card, *([] if request.output is None else [request.output]))
    weights = {os.path.realpath(file) for each in model.components for file in each.files}
    for each in targets:
        if os.path.realpath(each) in weights:
            raise OutputError("is also an input", path=each)
        with place_of(each) as place:
            place.require_free(each, force)
    return targets
