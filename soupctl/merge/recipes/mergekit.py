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
from glob import escape
from pathlib import Path
from typing import Any

from ...errors import UsageError, shortened
from ...format.dtypes import DType, parse_dtype
from ...ledger.weights import parse_number
from ..blocks.request import BlockWeights
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
from .yaml_reader import read_yaml

SUFFIXES = (".yml", ".yaml")
"""What the names of such configs end with."""
LINEAR, TASKS = "linear", "task_arithmetic"
KEYS = ("merge_method", "models", "base_model", "parameters", "dtype", "out_dtype")
RESULT = "result"
NORMALIZED = {LINEAR: True, TASKS: False}
"""Whether weights are divided by their sum, unless a config says otherwise."""
FLAGS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}

Conditions = tuple[tuple[str | None, Fraction], ...]
"""Parts of names, each with a number for the tensors that it is the first to be in; None is in
all."""


def read_mergekit(path: Path) -> RecipeDocument:
    """The recipe in a mergekit config, its paths relative to the config's folder.

    Raises InputError for invalid YAML, and UsageError, with all issues, for a method or a
    parameter that is not read.
    """
    return parse_mergekit(read_yaml(path), str(path), path.parent)


def parse_mergekit(value: object, label: str, folder: Path) -> RecipeDocument:
    """The recipe in a value of YAML; UsageError, with all issues, for an invalid one."""
    issues = RecipeIssues(label)
    document = ConfigReader(folder, issues).document(value)
    issues.require_none()
    return document


@dataclass
class ConfigReader:
    """Reads the parts of a config and collects what is wrong with them."""

    folder: Path
    issues: RecipeIssues

    def document(self, value: object) -> RecipeDocument:
        """The recipe, empty if it has issues."""
        table = self._table("the config", value)
        method = table.get("merge_method")
        if method not in NORMALIZED and method not in MEANT:
            # the meaning of the other keys depends on the method
            what = f"merge_method is {shortened(str(method))!r}, which is not supported"
            self.issues.add(what, f"supported are {', '.join((LINEAR, TASKS, *MEANT))}")
            return self._document({}, (), RecipeOptions())
        self._known("", table, KEYS)
        if method in MEANT:
            merged = method_step(self, table, method)
            steps = () if merged is None else (RecipeStep(RESULT, merged),)
            names = dict.fromkeys(merged.operands) if merged is not None else {}
            return self._document(names, steps, self._options(table))
        parameters = self.parameters("", table, ("normalize", "lambda", "weight", "int8_mask"))
        listed = self._models(table.get("models"), parameters.get("weight"))
        base = table.get("base_model")
        if base is not None and not isinstance(base, str):
            self.issues.add("base_model is not a path")
        is_normalized = self.flag(parameters, "normalize", NORMALIZED[method])
        if method == LINEAR:
            step = self._mean(listed, base, is_normalized)
        else:
            scale = self.number("lambda", parameters.get("lambda", "1"))
            step = self._difference(listed, base, is_normalized, scale)
        names = dict.fromkeys(step.operands) if step is not None else {}
        return self._document(names, () if step is None else (step,), self._options(table))

    def _document(
        self, names: Collection[str], steps: Sequence[RecipeStep], options: RecipeOptions
    ) -> RecipeDocument:
        inputs = {name: RecipeInput(str(self.folder / name)) for name in names}
        return RecipeDocument(self.issues.label, inputs, tuple(steps), RESULT, options)

    def _table(self, where: str, value: object) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            self.issues.add(f"{where} is not a mapping")
            return {}
        return value

    def _known(self, where: str, table: Mapping[str, Any], keys: Collection[str]) -> None:
        for key, advice in unknown_keys(table, keys):
            what = f"{where}{key} is not supported"
            self.issues.add(what, advice or f"supported are {', '.join(keys)}")

    def parameters(
        self, where: str, table: Mapping[str, Any], keys: Collection[str]
    ) -> Mapping[str, Any]:
        """The parameters of a table, of which only these keys are read."""
        value = table.get("parameters")
        found = {} if value is None else self._table(f"{where}parameters", value)
        self._known(f"{where}parameters: ", found, keys)
        return found

    def _models(self, value: object, usual: object) -> dict[str, Conditions]:
        """The models that are listed, each with its weights; one without any has none."""
        return {
            name: self._weights(f"{shortened(name)!r}: ", given.get("weight", usual))
            for name, given in self.listed(value, ("weight",)).items()
        }

    def listed(self, value: object, keys: Collection[str]) -> dict[str, Mapping[str, Any]]:
        """The parameters of each model that is listed."""
        if not isinstance(value, list) or not value:
            self.issues.add("models is not a list", "write - model: PATH for each model")
            return {}
        found: dict[str, Mapping[str, Any]] = {}
        for number, each in enumerate(value, 1):
            where = f"model {number}: "
            table = self._table(f"model {number}", each)
            self._known(where, table, ("model", "parameters"))
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

    def _weights(self, where: str, value: object) -> Conditions:
        """A number, or numbers by a part of the names of tensors."""
        if value is None:
            return ()
        if not isinstance(value, list):
            return ((None, self.number(f"{where}weight", value)),)
        if not all(isinstance(each, dict) for each in value):
            what = f"{where}weight is a list of values over layers, which is not supported"
            self.issues.add(what, "filter and value set weights for a part of the names")
            return ((None, Fraction(1)),)
        found: list[tuple[str | None, Fraction]] = []
        for each in value:
            self._known(f"{where}weight: ", each, ("filter", "value"))
            part = each.get("filter")
            part = None if part in (None, "*") else str(part)
            found.append((part, self.number(f"{where}weight", each.get("value"))))
        if found[-1][0] is not None:
            self.issues.add(
                f"{where}weight has no value for the other tensors", "add a value without filter"
            )
        return tuple(found)

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

    def _mean(
        self, listed: Mapping[str, Conditions], base: object, is_normalized: bool
    ) -> RecipeStep | None:
        if base is not None and base not in listed:
            self.issues.add(
                "base_model is not one of the models, so it has no weight", "leave it out"
            )
        missing = [name for name, conditions in listed.items() if not conditions]
        for name in missing:
            self.issues.add(f"{shortened(name)!r} has no weight", "add parameters: {weight: ...}")
        if self.issues.found:
            return None
        usual, blocks = self._by_part(listed)
        for weights in (usual, *(weights for _, weights in blocks)):
            if sum(weights) <= 0:
                what = f"the weights add up to {sum(weights)}"
                self.issues.add(what, "their total must be positive")
        given = BlockWeights(blocks) if blocks else None
        return RecipeStep(RESULT, MeanStep(tuple(listed), usual, given, is_normalized))

    def _difference(
        self, listed: Mapping[str, Conditions], base: object, is_normalized: bool, scale: Fraction
    ) -> RecipeStep | None:
        if not isinstance(base, str):
            self.issues.add(f"base_model is missing, which {TASKS} needs")
            return None
        # as in mergekit, the base adds nothing to itself
        added = {name: conditions for name, conditions in listed.items() if name != base}
        for name, conditions in added.items():
            if not conditions:
                self.issues.add(
                    f"{shortened(name)!r} has no weight", "add parameters: {weight: ...}"
                )
        if not added:
            self.issues.add("models lists only the base")
        if self.issues.found:
            return None
        usual, blocks = self._by_part(added)

        def scaled(weights: Sequence[Fraction]) -> tuple[Fraction, ...]:
            total = sum(weights, Fraction(0)) if is_normalized else Fraction(1)
            if not total:
                self.issues.add("the weights add up to 0, so they cannot be normalized")
                return tuple(weights)
            return tuple(scale * weight / total for weight in weights)

        given = tuple((glob, scaled(weights)) for glob, weights in blocks)
        operation = DifferenceStep(
            base, tuple(added), base, scaled(usual), BlockWeights(given) if given else None
        )
        return RecipeStep(RESULT, operation)

    def _by_part(
        self, listed: Mapping[str, Conditions]
    ) -> tuple[tuple[Fraction, ...], tuple[tuple[str, tuple[Fraction, ...]], ...]]:
        """The usual numbers of all models, and those by glob for the parts that they name."""
        parts = [part for part, _ in max(listed.values(), key=len) if part is not None]
        columns = []
        for name, conditions in listed.items():
            named = [part for part, _ in conditions if part is not None]
            if named and named != parts:
                what = f"{shortened(name)!r} has other filters than the other models"
                self.issues.add(what, "give all models the same filters in the same order")
            numbers = dict(conditions)
            usual = numbers.get(None, Fraction(1))
            columns.append((usual, *(numbers.get(part, usual) for part in parts)))
        rows: list[tuple[Fraction, ...]] = list(zip(*columns, strict=True))
        globs = (f"*{escape(part)}*" for part in parts)
        return rows[0], tuple(zip(globs, rows[1:], strict=True))

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
