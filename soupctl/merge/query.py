"""Questions about a soup: which ingredients it holds, and its history.

Rule 1: the answer is no only if that is proven: for a file or a whole digest, and a soup whose
history is fully known. Any other question is an error with advice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.hashing import checkpoint_digest
from ..checkpoints.layout import SHARD
from ..checkpoints.open import find_input, open_input, with_same_components
from ..errors import LedgerError, UsageError
from ..ledger.data_files import is_image
from ..ledger.data_shard import is_data_folder
from ..ledger.ledger import IngredientEntry, Ledger
from ..ledger.lookup import (
    ambiguity,
    every_entry,
    holding,
    is_ambiguous,
    meanings,
    names_data,
    nearest,
    whole_digest,
)
from ..ledger.pipelines import is_shared
from ..ledger.read import read_ledger, require_no_sum
from ..storage.regular import reading
from .added_digest import added_digest, find_for
from .answer import Answer, Known, TrainedOn, cannot_tell
from .data_question import ask_for_folder, ask_for_image, trainings_of
from .opened_inputs import OpenedInputs, is_input, open_model
from .unknown_history import require_known
from .verified_ledger import require_ledger


def holds(
    soup: str | Path, what: str, *, component: str | None = None
) -> tuple[IngredientEntry, ...] | None:
    """The entries of an ingredient in each component of a soup; None if it does not hold it.

    Answers and errors are those of `ask`, without its notes.
    """
    answer = ask(soup, what, component=component)
    return answer.entries if answer.holds else None


def ask(
    soup: str | Path, what: str, *, component: str | None = None, search: Sequence[Path] = ()
) -> Answer:
    """Whether a soup holds a checkpoint, or anything that was trained on a data shard or an image.

    `what` is the path of one, a content digest, or the name of an ingredient or a data shard in
    the ledger. An ingredient of an ingredient is held, too, by the latter's entry. Records of data
    shards are looked for beside the ingredients and below the folders to `search`.

    Raises UsageError if neither yes nor no is proven, LedgerError for a soup without a ledger or
    with one that does not fit its tensors.
    """
    model = find_input(soup, component)
    place = Path(what) if is_input(what) else None
    is_data = place is not None and (is_image(place) or is_data_folder(place))
    if component is None and (digest := added_digest(what, model)) is not None:
        what, place = digest, None
    other = find_for(what, component) if place is not None and not is_data else None
    if other is not None:
        model, other = with_same_components([model, other])
    with ExitStack() as stack:
        inputs = [OpenedInputs(stack, search) for _ in model.components]
        opened = open_model(inputs, model)
        others = None if other is None else open_model(inputs, other)
        known = [
            (checkpoint, require_ledger(each, checkpoint))
            for each, checkpoint in zip(inputs, opened, strict=True)
        ]
        if place is not None and is_data:
            ask_for = ask_for_image if is_image(place) else ask_for_folder
            return ask_for(place, model.label, known, search)
        if others is None:
            return _ask_for_text(what, model.label, known)
        return _ask_for_model(what, model.label, inputs, known, others)


def _ask_for_text(what: str, soup: str, known: Known) -> Answer:
    """The answer for a digest or a name: yes if any component holds it."""
    entries: list[IngredientEntry] = []
    data: list[TrainedOn] = []
    for _, ledger in known:
        found = meanings(what, ledger.sources, ledger.ancestors)
        found = found or meanings(what, every_entry(ledger), ledger.ancestors)
        if is_ambiguous(found):
            raise UsageError(ambiguity(what, found), path=what, advice="give the digest of one")
        for each in found:
            entries += holding([entry.digest for entry in each.entries], ledger)
        named = {each.digest for each in found if each.is_data}
        data += [
            TrainedOn(each.data_name, each.data, each.samples)
            for each in trainings_of(ledger)
            if each.data in named or (each is ledger.training and names_data(what, each))
        ]
    entries += [
        entry
        for _, ledger in known
        for entry in ledger.ingredients
        if what in (share.digest for share in entry.pipelines)
    ]
    if entries or data:
        return Answer(True, tuple(dict.fromkeys(entries)), tuple(dict.fromkeys(data)))
    digest = whole_digest(what)
    if digest is None:
        raise _unknown_text(what, soup, known)
    require_known(what, soup, known)
    return Answer(False, notes=tuple(_notes({digest}, known)))


def _unknown_text(what: str, soup: str, known: Known) -> UsageError:
    """The error for a text that means nothing in a soup's ledger."""
    near = [each for _, ledger in known if (each := nearest(what, ledger))]
    ways = "give the path of a checkpoint, a data folder or an image, or a whole digest"
    advice = f"did you mean {near[0]}? {ways}" if near else ways
    removed = [
        change.digest
        for _, ledger in known
        for state in ledger.states
        for change in state.changed
        if change.name == what
    ]
    if removed:
        advice = f"one of that name was taken out: {removed[0]}"
    reason = "it is not an existing path, and not a name or digest in the ledger"
    return cannot_tell(what, soup, reason, advice)


def _ask_for_model(
    what: str, soup: str, inputs: Sequence[OpenedInputs], known: Known, others: Sequence[Checkpoint]
) -> Answer:
    """The answer for a checkpoint: yes if each of its components is held."""
    digests: list[str] = []
    entries: list[list[IngredientEntry]] = []
    for each, (_, ledger), other in zip(inputs, known, others, strict=True):
        require_no_sum(other)
        digests.append(checkpoint_digest(other))
        entries.append(holding([digests[-1]], ledger) or _parts_held(each, other, ledger))
    if all(entries):
        return Answer(True, tuple(chain.from_iterable(entries)))
    names = [checkpoint.component.name for checkpoint, _ in known]
    apart = [
        name
        for name, found, (_, ledger) in zip(names, entries, known, strict=True)
        if found and not is_shared(ledger)
    ]
    if apart:
        lacks = [name for name, found in zip(names, entries, strict=True) if not found]
        reason = f"it holds its {', '.join(apart)}, but not its {', '.join(lacks)}"
        raise cannot_tell(what, soup, reason, "--component asks for one")
    _require_whole(what, soup)
    require_known(what, soup, known)
    return Answer(False, notes=tuple(_notes(set(digests), known)))


def _require_whole(what: str, soup: str) -> None:
    """Raise UsageError for a shard: the soup may hold the checkpoint that it is a part of."""
    # imported late, because most questions are not about shards
    from ..checkpoints.shard_index import index_of_shard

    place = Path(what)
    with reading(what):
        is_file = place.is_file()
        index = index_of_shard(place) if is_file else None
    if index is not None:
        raise cannot_tell(what, soup, f"it is a shard of {index}", f"ask for {index.parent}")
    if is_file and SHARD.search(place.name):
        reason = "it is a shard by its name, and its index is not there"
        raise cannot_tell(what, soup, reason, "put the index beside it, and ask for the folder")


def _parts_held(inputs: OpenedInputs, model: Checkpoint, ledger: Ledger) -> list[IngredientEntry]:
    """The ingredients of a model that is a soup, if all are held, as after adding it."""
    try:
        own = inputs.ledger(model)
    except LedgerError:
        return []
    if own is None or own.root != model.digest:
        return []
    parts = [holding([entry.digest], ledger) for entry in own.ingredients]
    return list(dict.fromkeys(chain.from_iterable(parts))) if all(parts) else []


def _notes(digests: set[str], known: Known) -> Iterator[str]:
    """Remarks on content that a soup does not hold."""
    for _, ledger in known:
        if any(training.base in digests for training in trainings_of(ledger)):
            yield "it is the base that ingredients were trained from"
        removed = {change.digest for state in ledger.states for change in state.changed}
        if digests & removed and not ledger.exact:
            yield "it was taken out, and the soup is approximate: a trace of it may remain"


def history(
    soup: str | Path, *, component: str | None = None, variant: str | None = None
) -> tuple[tuple[str, Ledger], ...]:
    """Path and ledger of each component of a soup, from headers alone.

    Raises LedgerError for a component without a sound ledger.
    """
    found = []
    for each in find_input(soup, component, variant).components:
        with open_input(each) as checkpoint:
            ledger = read_ledger(checkpoint)
            if ledger is None:
                raise LedgerError("has no ledger: it is not a soup", path=checkpoint.label)
            found.append((checkpoint.label, ledger))
    return tuple(found)
