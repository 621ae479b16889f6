"""Read a mergekit config as a recipe: linear, task_arithmetic, and the methods of `merge`.

Rule 1: the methods mean what mergekit's linear.py and task_arithmetic.py make of them: `linear`
divides by the sum of the weights if `normalize`, and `task_arithmetic` adds scaled differences to
the base, with the scales divided by their sum if `normalize`, and multiplied by `lambda`.
Rule 2: unsupported methods and parameters are refused by name, never ignored.
"""

from __future__ import annotations

import reprlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from ...errors import UsageError, shortened
from ...format.dtypes import DType, parse_dtype
from ...ledger.weights import parse_number
from .by_layer import LayerWeights
from .document import (
    DifferenceStep,
    MeanStep,
    RecipeDocument,
    RecipeInput,
    RecipeOptions,
    RecipeStep,
)
from .issues import RecipeIssues, unknown_keys
from .mergekit_methods import MEANT, method_step
from .mergekit_weights import Weights, read_weights
from .places import input_place
from .yaml_reader import read_yaml

SUFFIXES = (".yml", ".yaml")
"""What the names of such configs end with."""
LINEAR, TASKS = "linear", "task_arithmetic"
KEYS = ("merge_method", "models", "base_model", "parameters", "dtype", "out_dtype")
STACKS = "it stacks layers and merges no tensors: make the model with mergekit, then merge it"
RESULT = "result"
NORMALIZED = {LINEAR: True, TASKS: False}
"""Whether weights are divided by their sum, unless a config says otherwise."""
FLAGS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def read_mergekit(path: Path, *, hub: bool = False) -> RecipeDocument:
    """The recipe in a mergekit config, its paths relative to the config's folder.

    With `hub`, OWNER/NAME is a repository of the hub where there is no such path.

    Raises InputError for invalid YAML, and UsageError, with all issues, for a method or a
    parameter that is not read.
    """
    return parse_mergekit(read_yaml(path), str(path), path.parent, hub=hub)


def parse_mergekit(value: object, label: str, folder: Path, *, hub: bool = False) -> RecipeDocument:
    """The recipe in a value of YAML; UsageError, with all issues, for an invalid one."""
    issues = RecipeIssues(label)
    document = ConfigReader(folder, issues, hub).document(value)
    issues.require_none()
    return document


@dataclass
class ConfigReader:
    """Reads the parts of a config and collects what is wrong with them."""

    folder: Path
    issues: RecipeIssues
    hub: bool

    def document(self, value: object) -> RecipeDocument:
        """The recipe, empty if it has issues."""
        table = self.table("the config", value)
        method = table.get("merge_method")
        method = method if isinstance(method, str) else str(method)
        if method not in NORMALIZED and method not in MEANT:
            # the meaning of the other keys depends on the method
            what = f"merge_method is {shortened(str(method))!r}, which is not supported"
            advice = f"supported are {', '.join((LINEAR, TASKS, *MEANT))}"
            self.issues.add(what, STACKS if method == "passthrough" else advice)
            return self._document({}, (), RecipeOptions())
        self.known("", table, KEYS if method in MEANT else (*KEYS, "slices"))
        if method in MEANT:
            merged = method_step(self, table, method)
            steps = () if merged is None else (RecipeStep(RESULT, merged),)
            names = dict.fromkeys(merged.operands) if merged is not None else {}
            return self._document(names, steps, self._options(table))
        parameters = self.parameters("", table, ("normalize", "lambda", "weight", "int8_mask"))
        base = table.get("base_model")
        needless = base if method == TASKS else None
        weights = read_weights(self, table, parameters.get("weight"), needless)
        if base is not None and not isinstance(base, str):
            self.issues.add("base_model is not a path")
        is_normalized = self.flag(parameters, "normalize", NORMALIZED[method])
        if method == LINEAR:
            step = self._mean(weights, base, is_normalized)
        else:
            scale = self.number("lambda", parameters.get("lambda", "1"))
            step = self._difference(weights, base, is_normalized, scale)
        names = dict.fromkeys(step.operands) if step is not None else {}
        return self._document(names, () if step is None else (step,), self._options(table))

    def _document(
        self, names: Collection[str], steps: Sequence[RecipeStep], options: RecipeOptions
    ) -> RecipeDocument:
        inputs = {name: RecipeInput(input_place(name, self.folder, hub=self.hub)) for name in names}
        return RecipeDocument(self.issues.label, inputs, tuple(steps), RESULT, options)

    def table(self, where: str, value: object) -> Mapping[str, Any]:
        """A mapping; an empty one, and an issue, for anything else."""
        if not isinstance(value, dict):
            self.issues.add(f"{where} is not a mapping")
            return {}
        return value

    def known(self, where: str, table: Mapping[str, Any], keys: Collection[str]) -> None:
        """Report the keys of a table that are not read."""
        for key, advice in unknown_keys(table, keys):
            what = f"{where}{key} is not supported"
            self.issues.add(what, advice or f"supported are {', '.join(keys)}")

    def parameters(
        self, where: str, table: Mapping[str, Any], keys: Collection[str]
    ) -> Mapping[str, Any]:
        """The parameters of a table, of which only these keys are read."""
        value = table.get("parameters")
        found = {} if value is None else self.table(f"{where}parameters", value)
        self.known(f"{where}parameters: ", found, keys)
        return found

    def listed(
        self,
        value: object,
        keys: Collection[str],
        kind: str = "model ",
        others: Collection[str] = (),
    ) -> dict[str, Mapping[str, Any]]:
        """The parameters of each model that is listed, whose tables may have `others`, too."""
        if not isinstance(value, list) or not value:
            what = f"{kind.removesuffix(' ')}s is not a list"
            self.issues.add(what, "write - model: PATH for each model")
            return {}
        found: dict[str, Mapping[str, Any]] = {}
        for number, each in enumerate(value, 1):
            where = f"{kind}{number}: "
            table = self.table(f"{kind}{number}", each)
            self.known(where, table, ("model", "parameters", *others))
            name = table.get("model")
            if not isinstance(name, str) or name in ("", "-"):
                self.issues.add(f"{where}model is not a path")
                continue
            if "+" in name and not (self.folder / name).exists():
                advice = "add it in a step of a TOML recipe"
                self.issues.add(
                    f"{where}{shortened(name)!r} adds a LoRA, which is not supported", advice
                )
            if name in found:
                self.issues.add(
                    f"{where}{shortened(name)!r} is listed twice",
                    "list it once, with the sum of its weights",
                )
            found[name] = self.parameters(where, table, keys)
        return found

    def number(self, where: str, value: object) -> Fraction:
        """An exact number; 1, and an issue, for anything else."""
        if isinstance(value, str):
            try:
                return parse_number(value)
            except UsageError:
                pass
        self.issues.add(f"{where} is {reprlib.repr(value)}, not a number", "such as 0.7")
        return Fraction(1)

    def flag(self, parameters: Mapping[str, Any], key: str, usual: bool) -> bool:
        """Yes or no; the usual where it is not said."""
        value = parameters.get(key)
        if value is None:
            return usual
        found = FLAGS.get(str(value).lower())
        if found is None:
            self.issues.add(f"{key} is {reprlib.repr(value)}, not true or false")
        return bool(found)

    def _mean(self, weights: Weights, base: object, is_normalized: bool) -> RecipeStep | None:
        if base is not None and base not in weights.models:
            self.issues.add(
                "base_model is not one of the models, so it has no weight", "leave it out"
            )
        if self.issues.found:
            return None
        count = len(weights.models)
        blocks = LayerWeights(weights.slices) if weights.plain is None else None
        usual = weights.plain or (Fraction(1),) * count
        if sum(usual) <= 0:
            what = f"the weights add up to {sum(usual)}"
            self.issues.add(what, "their total must be positive")
        return RecipeStep(RESULT, MeanStep(weights.models, usual, blocks, is_normalized))

    def _difference(
        self, weights: Weights, base: object, is_normalized: bool, scale: Fraction
    ) -> RecipeStep | None:
        if not isinstance(base, str):
            self.issues.add(f"base_model is missing, which {TASKS} needs")
            return None
        # as in mergekit, the base adds nothing to itself
        added = weights.without(base)
        if not added.models:
            self.issues.add("models lists only the base")
        if self.issues.found:
            return None
        ones = (Fraction(1),) * len(added.models)
        blocks = LayerWeights(added.slices, is_normalized, scale) if added.plain is None else None
        usual = added.plain or ones
        total = sum(usual, Fraction(0)) if is_normalized else Fraction(1)
        if not total:
            self.issues.add("the weights add up to 0, so they cannot be normalized")
            return None
        scales = tuple(scale * weight / total for weight in usual)
        return RecipeStep(RESULT, DifferenceStep(base, added.models, base, scales, blocks))

    def _options(self, table: Mapping[str, Any]) -> RecipeOptions:
        key = "out_dtype" if table.get("out_dtype") is not None else "dtype"
        value = table.get(key)
        dtype: DType | None = None
        if value is not None:
            try:
                dtype = parse_dtype(str(value))
            except UsageError as error:
                self.issues.add(f"{key}: {error.issues[0].what}", error.issues[0].advice)
        return RecipeOptions(dtype=dtype)
