"""Exporting the recipe of a soup, from which `run` makes the same tensors.

Rule 1: a soup that no recipe can describe is refused; nothing is silently left out.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ...checkpoints.preference import INDEX
from ...choices import OnInt, OnMissing
from ...errors import LedgerError
from ...frozen import frozen
from ...ledger.ledger import IngredientEntry, Ledger, SoupState
from ...ledger.locate import is_address
from .history import history_lines
from .toml import quoted


@frozen
class Exported:
    """A soup as its recipe describes it."""

    ledger: Ledger
    inputs: Mapping[str, str]
    """The table of each ingredient and donor under `[inputs]`, by digest."""
    has_other_base: bool
    histories: Mapping[str, Sequence[SoupState]]
    """The states of each component; a file's has the name ''."""


def recipe_of(ledger: Ledger, path: str) -> Iterator[str]:
    """The lines of a recipe that makes the soup at `path`, from its ledger.

    Inputs are where the ledger hints, and are pinned to their content. Raises LedgerError for a
    soup that is neither an exact average nor a base or an average with deltas.
    """
    require_described(ledger, path)
    inputs = {}
    for each in ledger.sources:
        place = place_of(next(iter(each.hints), None), each.name, path)
        inputs[each.digest] = input_text(place, quoted(each.digest))
    histories = {"": ledger.states}
    return lines_of(Exported(ledger, inputs, has_other_base(ledger), histories))


def lines_of(soup: Exported) -> Iterator[str]:
    """The lines of the recipe of a soup."""
    yield from _lines_of_steps(soup)
    if all(len(states) == 1 for states in soup.histories.values()):
        return
    if _is_recorded_otherwise(soup.ledger):
        yield ""
        yield "# its history is left out: run makes its tensors, and records them in another way"
        return
    yield from history_lines(soup.histories)


def _is_recorded_otherwise(ledger: Ledger) -> bool:
    """Whether `run` records what is left of a soup in another way than its changes did.

    That is a mean with deltas of which one model is left, which is then a base, a donor that became
    an ingredient, and one component of pipelines, which is then a lone model.
    """
    lone = ledger.is_applied and ledger.base is None and len(ledger.models) == 1
    held = {entry.digest for entry in ledger.ingredients}
    if any(entry.pipelines for entry in ledger.ingredients):
        return True
    return (lone and bool(ledger.deltas)) or any(each.digest in held for each in ledger.donors)


def _lines_of_steps(soup: Exported) -> Iterator[str]:
    """The lines of the options, inputs and steps."""
    ledger = soup.ledger
    entries = (*_in_order(ledger), *ledger.donors)
    names = _names(entries)
    yield "# the recipe of a soup, as its ledger has it"
    yield from _options(soup, dict(zip((e.digest for e in entries), names, strict=True)))
    yield ""
    yield "[inputs]"
    for name, entry in zip(names, entries, strict=True):
        yield f"{quoted(name)} = {soup.inputs[entry.digest]}"
    named = dict(zip(names, entries, strict=True))
    counted = dict([*named.items()][: len(ledger.ingredients)])
    models = {name: entry for name, entry in counted.items() if not ledger.adds(entry)}
    deltas = {name: entry for name, entry in counted.items() if ledger.adds(entry)}
    if not deltas and ledger.base is not None:
        (base,) = models
        yield from _step("soup", "add", "scales", {}, (), f"base = {quoted(base)}")
        return
    if not deltas:
        first = () if ledger.normalize else ("normalize = false",)
        yield from _step("soup", "average", "weights", models, ledger.blocks, *first)
        return
    base = next(iter(models))
    if len(models) > 1:
        base = _unlike("mean", named)
        yield from _step(base, "average", "weights", models, ledger.blocks)
    step = _unlike("soup", [*named, base])
    yield from _step(step, "add", "scales", deltas, ledger.blocks, f"base = {quoted(base)}")


def input_text(place: str, digest: str) -> str:
    """The table of an input; `digest` is already in the form of TOML."""
    return f"{{ path = {quoted(place)}, digest = {digest} }}"


def _step(
    name: str,
    operation: str,
    numbers: str,
    entries: Mapping[str, IngredientEntry],
    globs: Sequence[str],
    *first: str,
) -> Iterator[str]:
    """The lines of a step with a weight or scale for each ingredient."""
    yield ""
    yield f"[steps.{quoted(name) if name not in PLAIN else name}]"
    yield from first
    yield f"{operation} = {_list(entries)}"
    yield f"{numbers} = {_list([str(entry.weight) for entry in entries.values()])}"
    spread = [entry.weights.spread(len(globs)) for entry in entries.values()]
    # no blocks are needed if each ingredient has the same weight everywhere
    if globs and any(entry.blocks for entry in entries.values()):
        yield ""
        yield f"[steps.{quoted(name) if name not in PLAIN else name}.blocks]"
        for glob, weights in zip(globs, zip(*spread, strict=True), strict=True):
            yield f"{quoted(glob)} = {_list(map(str, weights))}"


def _unlike(name: str, taken: Collection[str]) -> str:
    """A name that is none of those taken."""
    found, number = name, 2
    while found in taken:
        found, number = f"{name} {number}", number + 1
    return found


PLAIN = ("mean", "soup")
"""Names that need no quotes."""


def require_described(ledger: Ledger, path: str) -> None:
    """Raise LedgerError for a soup that no recipe can make."""
    problems = {
        "was trained, not averaged": ledger.training is not None,
        "is a delta, which soupctl delta makes": ledger.is_delta,
        "was merged by a method, which soupctl merge makes again": ledger.method is not None,
        "is approximate, so no recipe makes it again": not ledger.exact,
    }
    for what, is_so in problems.items():
        if is_so:
            raise LedgerError(what, path=path)


def _in_order(ledger: Ledger) -> list[IngredientEntry]:
    """The ingredients, starting with the source of integers and names of tensors."""
    first = None if ledger.integer_source is None else ledger.integer_source.digest
    return sorted(ledger.ingredients, key=lambda each: (each.digest != first, bool(each.renamed)))


def _names(entries: Sequence[IngredientEntry]) -> list[str]:
    """A name for each ingredient and donor, with a number where the ledger has one name twice."""
    names: list[str] = []
    for entry in entries:
        name, number = entry.name, 2
        while name in names:
            name, number = f"{entry.name} {number}", number + 1
        names.append(name)
    return names


def place_of(hint: str | None, name: str, path: str) -> str:
    """Where an ingredient should be: its hint is relative to what holds the soup at `path`."""
    if hint is None:
        return name
    if is_address(hint):
        return hint
    soup = Path(path)
    soup = soup.parent if INDEX.search(soup.name) else soup
    return os.path.normpath(soup / ".." / hint)


def _options(soup: Exported, names: Mapping[str, str]) -> Iterator[str]:
    """The lines of the options that the soup was made with."""
    ledger = soup.ledger
    words = {
        "dtype": ledger.asked_dtype and ledger.asked_dtype.value,
        "quantize": ledger.quantize and ledger.quantize.value,
        "on-int": ledger.integer_source and OnInt.FIRST.value,
        "on-missing": ledger.on_missing is not OnMissing.REFUSE and ledger.on_missing.value,
        "config-from": ledger.config_from and names[ledger.config_from],
    }
    globs = {"key": ledger.keys, "exclude": ledger.excludes, "pad": ledger.pads}
    flags = {
        "allow-nonfinite": ledger.allow_nonfinite,
        "other-base": soup.has_other_base,
    }
    tables = {
        "dtype-for": [(glob, dtype.value) for glob, dtype in ledger.dtype_for],
        "take": [(glob, names[digest]) for glob, digest in ledger.takes],
    }
    yield from (f"{key} = {quoted(word)}" for key, word in words.items() if word)
    yield from (f"{key} = {_list(each)}" for key, each in globs.items() if each)
    yield from (f"{key} = true" for key, is_set in flags.items() if is_set)
    for key, pairs in tables.items():
        if pairs:
            inside = ", ".join(f"{quoted(glob)} = {quoted(value)}" for glob, value in pairs)
            yield f"{key} = {{ {inside} }}"


def has_other_base(ledger: Ledger) -> bool:
    """Whether a delta is added to another model than its base, or to a mean."""
    known = (ledger.ancestors.get(each.digest) for each in ledger.ingredients if ledger.adds(each))
    deltas = [each for each in known if each is not None and each.is_delta]
    bases = {each.digest for each in ledger.models}
    return any(bases != {each.base} for each in deltas)


def _list(texts: Iterable[str]) -> str:
    return f"[{', '.join(map(quoted, texts))}]"
