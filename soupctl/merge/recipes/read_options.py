"""Reading the options of a recipe: its keys at the top level that are neither inputs nor steps."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from ...choices import OnInt, OnMissing, Quantization
from ...errors import UsageError
from ...format.dtypes import parse_dtype
from .document import RecipeOptions
from .tables import TableReader

Value = TypeVar("Value")

OPTIONS = (
    *("dtype", "key", "exclude", "dtype-for", "take", "on-int", "on-missing"),
    *("pad", "quantize", "config-from", "allow-nonfinite", "component", "variant"),
    *("round-weights", "other-base"),
)
MOST_DECIMALS = 18


class OptionsReader(TableReader):
    """Reads the options at the top level of a recipe and collects the issues."""

    def options(self, table: Mapping[str, Any], inputs: Collection[str]) -> RecipeOptions:
        """The options in a recipe's table; `inputs` are the names that `take` may use."""
        dtype = self._text(table, "dtype")
        decimals = table.get("round-weights")
        if decimals is not None and not (type(decimals) is int and 0 <= decimals <= MOST_DECIMALS):
            self.issues.add(f"round-weights is not a whole number up to {MOST_DECIMALS}")
        take = self.table(table, "take").items()
        quantize, configs = self._text(table, "quantize"), self._text(table, "config-from")
        dtypes = self.table(table, "dtype-for").items()
        return RecipeOptions(
            dtype=None if dtype is None else self._choice("dtype", dtype, parse_dtype),
            keys=self._texts(table, "key"),
            excludes=self._texts(table, "exclude"),
            dtype_for=tuple(
                (glob, found)
                for glob, each in dtypes
                if (found := self._choice("dtype-for", each, parse_dtype)) is not None
            ),
            take=tuple((glob, self.name("take", name, inputs)) for glob, name in take),
            pad=self._texts(table, "pad"),
            quantize=self._choice("quantize", quantize, Quantization) if quantize else None,
            config_from=configs and self.name("config-from", configs, inputs),
            on_int=self._choice("on-int", table.get("on-int", "refuse"), OnInt) or OnInt.REFUSE,
            on_missing=self._choice("on-missing", table.get("on-missing", "refuse"), OnMissing)
            or OnMissing.REFUSE,
            allow_nonfinite=self.flag("the recipe", table, "allow-nonfinite"),
            component=self._text(table, "component"),
            variant=self._text(table, "variant"),
            round_weights=decimals,
            other_base=self.flag("the recipe", table, "other-base"),
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
