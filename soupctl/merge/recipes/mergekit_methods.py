"""Reads mergekit configs of methods that are not linear, where they mean what `merge` does.

Rule 1: defaults are mergekit's, not those of `merge`; what means something else is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from ...choices import MergeMethod
from ...errors import UsageError, shortened
from ...frozen import frozen
from ...methods.settings import TAKES, MethodSettings
from .document import MethodStep

if TYPE_CHECKING:
    from .mergekit import ConfigReader


@frozen
class Meant:
    """What a name of mergekit means here."""

    method: MergeMethod
    shared: tuple[str, ...] = ()
    """The parameters of the whole merge that are read."""
    elect: bool = False
    normalize: bool = False
    """Whether differences are averaged unless a config says otherwise."""
    rescale: bool = False
    """The value of `rescale` that has the same meaning here; any other is refused."""


OF_DIFFERENCES = ("weight", "density", "normalize", "lambda", "int8_mask", "rescale")
MEANT = {
    "ties": Meant(MergeMethod.TIES, OF_DIFFERENCES, elect=True, normalize=True),
    "dare_linear": Meant(MergeMethod.DARE, OF_DIFFERENCES, rescale=True),
    "dare_ties": Meant(MergeMethod.DARE, OF_DIFFERENCES, elect=True, rescale=True),
    "breadcrumbs": Meant(MergeMethod.BREADCRUMBS, (*OF_DIFFERENCES, "gamma")),
    "breadcrumbs_ties": Meant(MergeMethod.BREADCRUMBS, (*OF_DIFFERENCES, "gamma"), elect=True),
    "model_stock": Meant(MergeMethod.MODEL_STOCK, ("filter_wise",)),
    "slerp": Meant(MergeMethod.SLERP, ("t",)),
    "karcher": Meant(MergeMethod.KARCHER),
}
"""The methods that are read, by their names in mergekit."""


def method_step(reader: ConfigReader, table: Mapping[str, Any], name: str) -> MethodStep | None:
    """The merge in a config; None, and issues of the reader, for one that is not read."""
    meant = MEANT[name]
    taken = TAKES[meant.method]
    shared = reader.parameters("", table, meant.shared)
    each = ("weight", "density") if taken.density else ()
    models = reader.listed(table.get("models"), each)
    base = table.get("base_model")
    if not isinstance(base, str) and (taken.base or meant.method is MergeMethod.SLERP):
        reader.issues.add(f"base_model is missing, which {name} needs")
    if meant.method is MergeMethod.SLERP and base not in models:
        reader.issues.add("base_model is not one of the models", "slerp goes from it to the other")
    if reader.flag(shared, "filter_wise", False):
        reader.issues.add("filter_wise is not supported", "leave it out")
    if taken.density and reader.flag(shared, "rescale", meant.rescale) != meant.rescale:
        reader.issues.add(f"rescale of {name} cannot be chosen", "leave it out")
    if reader.issues.found:
        return None
    first = [str(base)] if taken.base or meant.method is MergeMethod.SLERP else []
    others = {model: given for model, given in models.items() if model not in first}
    try:
        settings = _settings(reader, meant, shared, others)
    except UsageError as error:
        reader.issues.add(error.issues[0].what, error.issues[0].advice)
        return None
    return MethodStep((*first, *others), settings, taken.base)


def _settings(
    reader: ConfigReader,
    meant: Meant,
    shared: Mapping[str, Any],
    models: Mapping[str, Mapping[str, Any]],
) -> MethodSettings:
    """The settings with mergekit's defaults; UsageError for those that a method cannot have."""
    if meant.method is MergeMethod.SLERP:
        t = reader.number("t", shared.get("t"))
        return MethodSettings(meant.method, (1 - t, *(t for _ in models)))
    if not TAKES[meant.method].density:
        return MethodSettings(meant.method, (Fraction(1),) * len(models))
    for model, given in models.items():
        if given.get("weight", shared.get("weight")) is None:
            what = f"{shortened(model)!r} has no weight"
            raise UsageError(what, advice="add parameters: {weight: ...}")
    has_gamma = "gamma" in meant.shared
    return MethodSettings(
        meant.method,
        tuple(_of_each(reader, "weight", models, shared.get("weight"))),
        tuple(_of_each(reader, "density", models, shared.get("density", "1"))),
        reader.number("lambda", shared.get("lambda", "1")),
        gamma=reader.number("gamma", shared.get("gamma", "0.01" if has_gamma else "0")),
        elect=meant.elect,
        normalize=reader.flag(shared, "normalize", meant.normalize),
    )


def _of_each(
    reader: ConfigReader, key: str, models: Mapping[str, Mapping[str, Any]], usual: object
) -> list[Fraction]:
    """A parameter of each model, one number for all of its tensors."""
    pairs = [(name, given.get(key, usual)) for name, given in models.items()]
    return [reader.number(f"{key} of {shortened(name)!r}", value) for name, value in pairs]
