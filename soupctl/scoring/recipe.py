"""The recipe of a soup that was chosen, which `soupctl run` makes again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction

from ..choices import OnInt
from ..merge.average import Request
from ..merge.recipes.toml import quoted
from .journal_facts import JournaledIngredient


def chosen_recipe(
    request: Request,
    contents: Sequence[JournaledIngredient],
    weights: Mapping[int, Fraction],
    blocks: Sequence[tuple[str, Sequence[Fraction]]] = (),
) -> Iterator[str]:
    """The lines of a recipe for the ingredients that have a weight, by their places.

    `blocks` have the weights of these alone. Paths are as they were given, and contents are pinned.
    """
    yield "# the recipe of a soup that was chosen by its score"
    yield from _options(request)
    names = _names([contents[place].name for place in weights])
    yield ""
    yield "[inputs]"
    for name, place in zip(names, weights, strict=True):
        each = contents[place]
        yield f"{quoted(name)} = {{ path = {quoted(each.name)}, digest = {_digest(each)} }}"
    yield ""
    yield "[steps.soup]"
    yield f"average = [{', '.join(map(quoted, names))}]"
    yield f"weights = {_texts(weights.values())}"
    if blocks:
        yield ""
        yield "[steps.soup.blocks]"
    for glob, row in blocks:
        yield f"{quoted(glob)} = {_texts(row)}"


def _texts(weights: Iterable[Fraction]) -> str:
    return f"[{', '.join(quoted(str(weight)) for weight in weights)}]"


def _names(paths: Sequence[str]) -> list[str]:
    """A name for each input: its path, with a number where one is named twice."""
    names: list[str] = []
    for path in paths:
        name, number = path, 2
        while name in names:
            name, number = f"{path} {number}", number + 1
        names.append(name)
    return names


def _digest(contents: JournaledIngredient) -> str:
    parts = [f"{quoted(name)} = {quoted(digest)}" for name, digest in contents.digests]
    if len(parts) == 1 and not contents.digests[0][0]:
        return quoted(contents.digests[0][1])
    return f"{{ {', '.join(parts)} }}"


def _options(request: Request) -> Iterator[str]:
    if request.dtype is not None:
        yield f"dtype = {quoted(request.dtype.value)}"
    for key, globs in (("key", request.keys), ("exclude", request.excludes)):
        if globs:
            yield f"{key} = [{', '.join(map(quoted, globs))}]"
    if request.on_int is not OnInt.REFUSE:
        yield f"on-int = {quoted(request.on_int.value)}"
    for key, text in (("component", request.component), ("variant", request.variant)):
        if text is not None:
            yield f"{key} = {quoted(text)}"
