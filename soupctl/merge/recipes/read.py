"""Reading a recipe file: TOML with every key and name checked, all issues at once."""

from __future__ import annotations

import reprlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from ...checkpoints.open import STREAM
from ...errors import UsageError, shortened
from ...ledger.weights import parse_number
from ...storage.files import STANDARD_INPUT
from ..blocks.request import BlockWeights, read_blocks
from .document import (
    Blocks,
    DifferenceStep,
    MeanStep,
    Operation,
    RecipeDocument,
    RecipeInput,
    RecipeStep,
    TakeStep,
)
from .history import History, read_history
from .issues import RecipeIssues
from .mergekit import SUFFIXES as MERGEKIT
from .mergekit import read_mergekit
from .places import input_place
from .read_options import OPTIONS, OptionsReader
from .tables import TableReader
from .toml import is_digest, read_toml

TOP = ("inputs", "steps", "result", "history")
STEPS = {
    "average": ("average", "weights", "blocks", "normalize"),
    "base": ("base", "add", "minus", "scales", "blocks"),
    "from": ("from", "take"),
}
"""The keys of each kind of step, by the key that identifies it."""
MATERIALISE = "materialise"
KINDS = "average, base with add, or from with take"


def read_recipe(path: str | Path, *, hub: bool = False) -> RecipeDocument:
    """The recipe in a file, its paths relative to the file's folder.

    With `-`, it is read from standard input, its paths relative to the working directory. A file
    named .yml or .yaml is a mergekit config. With `hub`, OWNER/NAME is a repository of the hub if
    there is no such path. Raises InputError for invalid TOML or YAML, and UsageError, with all
    issues, for an invalid recipe.
    """
    if Path(path).suffix.lower() in MERGEKIT:
        return read_mergekit(Path(path), hub=hub)
    label = STANDARD_INPUT if str(path) == STREAM else str(path)
    return parse_recipe(read_toml(Path(path)), label, Path(path).parent, hub=hub)


def parse_recipe(
    table: Mapping[str, Any], label: str, folder: Path, *, hub: bool = False
) -> RecipeDocument:
    """The recipe in a table; UsageError, with all issues, for any other table."""
    issues = RecipeIssues(label)
    document = _RecipeReader(issues, folder, hub).document(table)
    issues.require_none()
    return document


@dataclass
class _RecipeReader(TableReader):
    """Reads the parts of a recipe and collects the issues."""

    folder: Path
    hub: bool

    def document(self, table: Mapping[str, Any]) -> RecipeDocument:
        self.known("", table, (*TOP, *OPTIONS))
        inputs = {
            name: self._input(name, value) for name, value in self.table(table, "inputs").items()
        }
        known, steps = [*inputs], []
        for name, value in self.table(table, "steps").items():
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
            self.name("result", result, [step.name for step in steps])
        options = OptionsReader(self.issues).options(table, inputs)
        return RecipeDocument(
            self.issues.label, inputs, tuple(steps), str(result), options, self._history(table)
        )

    def _history(self, table: Mapping[str, Any]) -> dict[str, History]:
        """The history of what the recipe makes again; empty if it has none."""
        if "history" not in table:
            return {}
        try:
            return read_history(table["history"])
        except (KeyError, TypeError, ValueError, AttributeError):
            self.issues.add("history is not that of a soup", "the recipe that log prints has it")
            return {}

    def _input(self, name: str, value: object) -> RecipeInput:
        where = f"input {shortened(name)!r}"
        entry = {"path": value} if isinstance(value, str) else value
        if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
            self.issues.add(f"{where} is not a path", 'such as a = "a.safetensors"')
            return RecipeInput("")
        self.known(where, entry, ("path", "digest"))
        digests = entry.get("digest", {})
        digests = {"": digests} if isinstance(digests, str) else digests
        if not isinstance(digests, dict) or not all(map(is_digest, digests.values())):
            self.issues.add(f"{where} has an invalid digest", "soupctl hash prints it")
            digests = {}
        if entry["path"] in ("", "-"):
            self.issues.add(f"{where} is not a file", "a recipe cannot read standard input")
        return RecipeInput(input_place(entry["path"], self.folder, hub=self.hub), digests)

    def _step(self, name: str, value: object, known: Collection[str]) -> RecipeStep:
        where = f"step {shortened(name)!r}"
        table = value if isinstance(value, dict) else {}
        kinds = [kind for kind in STEPS if kind in table]
        if len(kinds) != 1:
            self.known(where, table, [key for keys in STEPS.values() for key in keys])
            self.issues.add(f"{where} is not a step", f"a step has one of {KINDS}")
            return RecipeStep(name, TakeStep("", ()))
        (kind,) = kinds
        self.known(where, table, (*STEPS[kind], MATERIALISE))
        read = {"average": self._mean, "base": self._difference, "from": self._take}[kind]
        is_materialised = self.flag(where, table, MATERIALISE)
        if is_materialised and not _is_file_name(name):
            self.issues.add(f"{where} is materialised, but no file can have this name", "rename it")
        return RecipeStep(name, read(where, table, known), is_materialised)

    def _mean(self, where: str, table: Mapping[str, Any], known: Collection[str]) -> Operation:
        operands = self._names(f"{where}: average", table["average"], known)
        weights = self._numbers(where, table, "weights", len(operands))
        if weights and sum(weights) <= 0:
            self.issues.add(f"{where}: the weights add up to {sum(weights)}", "it must be positive")
        normalize = self.flag(where, table, "normalize", usual=True)
        return MeanStep(operands, weights, self._blocks(where, table), normalize)

    def _difference(
        self, where: str, table: Mapping[str, Any], known: Collection[str]
    ) -> Operation:
        base = self.name(f"{where}: base", table["base"], known)
        added = self._added(where, table, known)
        minus = self.name(f"{where}: minus", table.get("minus", table["base"]), known)
        scales = self._numbers(where, table, "scales", len(added))
        return DifferenceStep(base, added, minus, scales, self._blocks(where, table))

    def _added(
        self, where: str, table: Mapping[str, Any], known: Collection[str]
    ) -> tuple[str, ...]:
        """The names of the inputs that a step adds to its base; none for an empty list."""
        given = table.get("add")
        return () if given == [] else self._names(f"{where}: add", given, known)

    def _take(self, where: str, table: Mapping[str, Any], known: Collection[str]) -> Operation:
        source = self.name(f"{where}: from", table["from"], known)
        takes = self.table(table, "take")
        if not takes:
            self.issues.add(f"{where} has no tensors to take", 'such as take = {"vae.*" = "other"}')
        named = ((glob, self.name(f"{where}: take", name, known)) for glob, name in takes.items())
        return TakeStep(source, tuple(named))

    def _names(self, where: str, value: object, known: Collection[str]) -> tuple[str, ...]:
        if not isinstance(value, list) or not value:
            self.issues.add(f"{where} is not a list of names", 'such as ["a", "b"]')
            return ()
        return tuple(self.name(where, name, known) for name in value)

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


def _is_file_name(name: str) -> bool:
    return name not in ("", ".", "..") and not {"/", "\0"} & set(name)
