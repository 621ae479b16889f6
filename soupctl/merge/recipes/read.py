"""Reading a recipe file: TOML with every key and name checked, all issues at once."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

from ...choices import OnInt, OnMissing
from ...errors import UsageError, shortened
from ...format.dtypes import parse_dtype
from ...ledger.weights import parse_number
from ..blocks.request import BlockWeights, ClassicBlocks, read_blocks
from .document import (
    Blocks,
    DifferenceStep,
    MeanStep,
    Operation,
    RecipeDocument,
    RecipeInput,
    RecipeOptions,
    RecipeStep,
    TakeStep,
    recipe_folder,
)
from .issues import RecipeIssues, near, unknown_keys
from .mergekit import SUFFIXES as MERGEKIT
from .mergekit import read_mergekit
from .toml import is_digest, read_toml

Value = TypeVar("Value")

TOP = ("inputs", "steps", "result")
OPTIONS = (
    *("dtype", "key", "exclude", "dtype-for", "take", "on-int", "on-missing"),
    *("allow-nonfinite", "component", "variant", "round-weights", "other-base"),
)
STEPS = {
    "average": ("average", "weights", "blocks"),
    "base": ("base", "add", "minus", "scales", "blocks"),
    "from": ("from", "take"),
}
"""The keys of each kind of step, by the key that identifies it."""
MATERIALISE = "materialise"
MOST_DECIMALS = 18
KINDS = "average, base with add, or from with take"


def read_recipe(path: str | Path) -> RecipeDocument:
    """The recipe in a file, its paths relative to the file's folder.

    A file named .yml or .yaml is a mergekit config. Raises InputError for invalid TOML or YAML,
    and UsageError, with all issues, for an invalid recipe.
    """
    folder = recipe_folder(path)
    if Path(path).suffix.lower() in MERGEKIT:
        return read_mergekit(Path(path))
    return parse_recipe(read_toml(Path(path)), str(path), folder)


def parse_recipe(table: Mapping[str, Any], label: str, folder: Path) -> RecipeDocument:
    """The recipe in a table; UsageError, with all issues, for any other table."""
    issues = RecipeIssues(label)
    document = _RecipeReader(folder, issues).document(table)
    issues.require_none()
    return document


@dataclass
class _RecipeReader:
    """Reads the parts of a recipe and collects the issues."""

    folder: Path
    issues: RecipeIssues

    def document(self, table: Mapping[str, Any]) -> RecipeDocument:
        self._known("", table, (*TOP, *OPTIONS))
        inputs = {
            name: self._input(name, value) for name, value in self._table(table, "inputs").items()
        }
        known, steps = [*inputs], []
        for name, value in self._table(table, "steps").items():
            if name in known:
                self.issues.add(
                    f"step {shortened(name)!r} has the name of an input",
                    "rename one of them",
                )
            steps.append(self._step(name, value, known))
            known.append(name)
        if not steps:
            self.issues.add("has no steps", "begin each with [steps.NAME]")
        result = table.get("result", steps[-1].name if steps else "")
        if steps:
            self._name("result", result, [step.name for step in steps])
        return RecipeDocument(
            self.issues.label, inputs, tuple(steps), str(result), self._options(table, inputs)
        )

    def _known(self, where: str, table: Mapping[str, Any], keys: Collection[str]) -> None:
        """Report unknown keys of a table."""
        place = f" in {where}" if where else ""
        for key, advice in unknown_keys(table, keys):
            what = f"{key}{place} is not a known key"
            self.issues.add(what, advice or f"known are {', '.join(keys)}")

    def _name(self, where: str, name: object, known: Collection[str]) -> str:
        """A name that must be defined earlier."""
        if not isinstance(name, str) or name not in known:
            what = f"{where} names {reprlib.repr(name)}, which is not an input or earlier step"
            self.issues.add(
                what, near(str(name), known) or f"there are {shortened(', '.join(known)) or 'none'}"
            )
        return str(name)

    def _table(self, table: Mapping[str, Any], key: str) -> Mapping[str, Any]:
        found = table.get(key, {})
        if not isinstance(found, dict):
            self.issues.add(f"{key} is not a table", f"begin it with [{key}]")
            return {}
        return found

    def _input(self, name: str, value: object) -> RecipeInput:
        where = f"input {shortened(name)!r}"
        entry = {"path": value} if isinstance(value, str) else value
        if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
            self.issues.add(f"{where} is not a path", 'such as a = "a.safetensors"')
            return RecipeInput("")
        self._known(where, entry, ("path", "digest"))
        digests = entry.get("digest", {})
        digests = {"": digests} if isinstance(digests, str) else digests
        if not isinstance(digests, dict) or not all(map(is_digest, digests.values())):
            self.issues.add(f"{where} has an invalid digest", "soupctl hash prints it")
            digests = {}
        if entry["path"] in ("", "-"):
            self.issues.add(f"{where} is not a file", "a recipe cannot read standard input")
        return RecipeInput(str(self.folder / entry["path"]), digests)

    def _step(self, name: str, value: object, known: Collection[str]) -> RecipeStep:
        where = f"step {shortened(name)!r}"
        table = value if isinstance(value, dict) else {}
        kinds = [kind for kind in STEPS if kind in table]
        if len(kinds) != 1:
            self._known(where, table, [key for keys in STEPS.values() for key in keys])
            self.issues.add(f"{where} is not a step", f"a step has one of {KINDS}")
            return RecipeStep(name, TakeStep("", ()))
        (kind,) = kinds
        self._known(where, table, (*STEPS[kind], MATERIALISE))
        read = {"average": self._mean, "base": self._difference, "from": self._take}[kind]
        is_materialised = self._flag(where, table, MATERIALISE)
        if is_materialised and not _is_file_name(name):
            self.issues.add(f"{where} is materialised, but no file can have this name", "rename it")
        return RecipeStep(name, read(where, table, known), is_materialised)

    def _mean(self, where: str, table: Mapping[str, Any], known: Collection[str]) -> Operation:
        operands = self._names(f"{where}: average", table["average"], known)
        weights = self._numbers(where, table, "weights", len(operands))
        if weights and sum(weights) <= 0:
            self.issues.add(f"{where}: the weights add up to {sum(weights)}", "it must be positive")
        return MeanStep(operands, weights, self._blocks(where, table))

    def _difference(
        self, where: str, table: Mapping[str, Any], known: Collection[str]
    ) -> Operation:
        base = self._name(f"{where}: base", table["base"], known)
        added = self._names(f"{where}: add", table.get("add"), known)
        minus = self._name(f"{where}: minus", table.get("minus", table["base"]), known)
        scales = self._numbers(where, table, "scales", len(added))
        blocks = self._blocks(where, table)
        if isinstance(blocks, ClassicBlocks):
            self.issues.add(
                f"{where}: blocks must be a table here", "give a list of scales for each glob"
            )
            blocks = None
        return DifferenceStep(base, added, minus, scales, blocks)

    def _take(self, where: str, table: Mapping[str, Any], known: Collection[str]) -> Operation:
        source = self._name(f"{where}: from", table["from"], known)
        takes = self._table(table, "take")
        if not takes:
            self.issues.add(f"{where} has no tensors to take", 'such as take = {"vae.*" = "other"}')
        named = ((glob, self._name(f"{where}: take", name, known)) for glob, name in takes.items())
        return TakeStep(source, tuple(named))

    def _names(self, where: str, value: object, known: Collection[str]) -> tuple[str, ...]:
        if not isinstance(value, list) or not value:
            self.issues.add(f"{where} is not a list of names", 'such as ["a", "b"]')
            return ()
        return tuple(self._name(where, name, known) for name in value)

    def _numbers(
        self, where: str, table: Mapping[str, Any], key: str, count: int
    ) -> tuple[Fraction, ...]:
        """A list of exact numbers of that length; ones if the table has none."""
        found = table.get(key, [1] * count)
        if not isinstance(found, list) or len(found) != count:
            self.issues.add(f"{where}: {key} is not a list of {count} numbers")
            return (Fraction(1),) * count
        return tuple(self._number(f"{where}: {key}", each) for each in found)

    def _number(self, where: str, value: object) -> Fraction:
        if type(value) not in (int, str):
            self.issues.add(
                f"{where}: {reprlib.repr(value)} is not a number", "such as 0.7 or '1/3'"
            )
            return Fraction(1)
        try:
            return parse_number(str(value))
        except UsageError as error:
            self.issues.add(f"{where}: {error.issues[0].what}", error.issues[0].advice)
            return Fraction(1)

    def _blocks(self, where: str, table: Mapping[str, Any]) -> Blocks:
        found = table.get("blocks")
        if found is None:
            return None
        if isinstance(found, str):
            try:
                return read_blocks(self.folder / found if found.endswith(".toml") else found)
            except UsageError as error:
                self.issues.found += error.issues
                return None
        if not isinstance(found, dict) or not all(isinstance(v, list) for v in found.values()):
            self.issues.add(
                f"{where}: blocks is not a table", 'such as blocks = {"*.attn2.*" = [1, 0]}'
            )
            return None
        return BlockWeights(
            tuple(
                (
                    glob,
                    tuple(
                        self._number(f"{where}: blocks {shortened(glob)!r}", each)
                        for each in weights
                    ),
                )
                for glob, weights in found.items()
            )
        )

    def _flag(self, where: str, table: Mapping[str, Any], key: str) -> bool:
        if type(value := table.get(key, False)) is not bool:
            self.issues.add(f"{where}: {key} is not true or false")
        return value is True

    def _options(self, table: Mapping[str, Any], inputs: Collection[str]) -> RecipeOptions:
        dtype = self._text(table, "dtype")
        decimals = table.get("round-weights")
        if decimals is not None and not (type(decimals) is int and 0 <= decimals <= MOST_DECIMALS):
            self.issues.add(f"round-weights is not a whole number up to {MOST_DECIMALS}")
        take = self._table(table, "take").items()
        dtypes = self._table(table, "dtype-for").items()
        return RecipeOptions(
            dtype=None if dtype is None else self._choice("dtype", dtype, parse_dtype),
            keys=self._texts(table, "key"),
            excludes=self._texts(table, "exclude"),
            dtype_for=tuple(
                (glob, found)
                for glob, each in dtypes
                if (found := self._choice("dtype-for", each, parse_dtype)) is not None
            ),
            take=tuple((glob, self._name("take", name, inputs)) for glob, name in take),
            on_int=self._choice("on-int", table.get("on-int", "refuse"), OnInt) or OnInt.REFUSE,
            on_missing=self._choice("on-missing", table.get("on-missing", "refuse"), OnMissing)
            or OnMissing.REFUSE,
            allow_nonfinite=self._flag("the recipe", table, "allow-nonfinite"),
            component=self._text(table, "component"),
            variant=self._text(table, "variant"),
            round_weights=decimals,
            other_base=self._flag("the recipe", table, "other-base"),
        )

    def _text(self, table: Mapping[str, Any], key: str) -> str | None:
        if (found := table.get(key)) is not None and not isinstance(found, str):
            self.issues.add(f"{key} is not a string")
        return found

    def _texts(self, table: Mapping[str, Any], key: str) -> tuple[str, ...]:
        found = table.get(key, [])
        found = [found] if isinstance(found, str) else found
        if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
            self.issues.add(f"{key} is not a list of globs")
            return ()
        return tuple(found)

    def _choice(self, key: str, value: object, parse: Callable[[str], Value]) -> Value | None:
        try:
            return parse(str(value))
        except (UsageError, ValueError):
            self.issues.add(f"{key} has the value {reprlib.repr(value)}, which is not known")
            return None


def _is_file_name(name: str) -> bool:
    return name not in ("", ".", "..") and not {"/", "\0"} & set(name)
