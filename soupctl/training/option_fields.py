"""An option of a training command, declared once: a dataclass field that carries its help text.

Rule 1: the command line, the config file, `--help`, bounds and the identity of a run follow from
the field; no other file repeats the name or the default of an option.
Rule 2: `soupctl --help` imports this module, so it imports nothing heavy.
"""

from __future__ import annotations

import math
import typing
from collections.abc import Iterator, Mapping
from dataclasses import field, fields
from functools import cache
from typing import Any, TypeVar

from ..frozen import frozen

T = TypeVar("T")

OPTION = "option"
"""Key of the description of an option in the metadata of its field."""


LARGEST_WHOLE = 1_000_000_000
"""The largest whole number that an option takes, unless its bounds name another."""
LONGEST_SHOWN = 40
"""Characters of a refused value that a message shows."""


@frozen
class Bounds:
    """The finite numbers from `least` to `most`; `least` itself is excluded if `above` is set.

    Whole numbers beyond `largest` are refused, too; `--help` does not show that limit.
    """

    least: float = 0
    most: float = math.inf
    above: bool = False
    largest: int = LARGEST_WHOLE

    def hold(self, number: float) -> bool:
        """Whether a number is within the bounds."""
        starts = number > self.least if self.above else number >= self.least
        return starts and number <= self.most and self.is_sane(number)

    def is_sane(self, number: float) -> bool:
        """Whether a number is finite, and not too large a whole number."""
        return abs(number) <= self.largest if isinstance(number, int) else math.isfinite(number)

    def __str__(self) -> str:
        """In words: `at least 1`, `positive`, `between 0 and 1`."""
        if self.most == math.inf:
            return "positive" if self.above and not self.least else f"at least {self.least:g}"
        if self.above:
            return f"above {self.least:g} and at most {self.most:g}"
        return f"between {self.least:g} and {self.most:g}"

    @property
    def formula(self) -> str:
        """As `--help` shows it: `x>=1`, `0<x<=1`."""
        sign = "" if self.above else "="
        if self.most == math.inf:
            return f"x>{sign}{self.least:g}"
        return f"{self.least:g}<{sign}x<={self.most:g}"


AT_LEAST_0, AT_LEAST_1, FRACTION = Bounds(0), Bounds(1), Bounds(0, 1)
POSITIVE = Bounds(0, above=True)
BATCH, SIDE, PROCESSES = Bounds(1, largest=65_536), Bounds(1, largest=32_768), Bounds(largest=256)
SEED = Bounds(0, largest=2**64 - 1)


@frozen
class OptionInfo:
    """Facts about an option besides its name, type and default."""

    help: str
    bounds: Bounds | None
    metavar: str | None
    default_text: str | None
    """The default that `--help` shows if the field's own default is None."""
    is_on_command_line: bool
    """False for an option that only a config file has."""
    changes_weights: bool
    """Whether it changes a trained weight, and so tells one run from another."""
    for_banks: Any
    """Default for prompt banks, if it differs; None for the field's own default."""
    is_for_banks: bool
    """False for an option that does not apply to prompt banks."""
    instead_of: str | None
    """Name of the option that this one replaces."""
    is_recorded_unset: bool
    """Whether a run's identity names it at its default; False for options that came later, so that
    earlier runs are still the same runs."""


def option(  # noqa: PLR0913
    default: T,
    help: str,
    bounds: Bounds | None = None,
    *,
    metavar: str | None = None,
    default_text: str | None = None,
    is_on_command_line: bool = True,
    changes_weights: bool = True,
    for_banks: Any = None,
    is_for_banks: bool = True,
    instead_of: str | None = None,
    is_recorded_unset: bool = True,
) -> T:
    """A dataclass field that is an option; see OptionInfo."""
    info = OptionInfo(
        help,
        bounds,
        metavar,
        default_text,
        is_on_command_line,
        changes_weights,
        for_banks,
        is_for_banks,
        instead_of,
        is_recorded_unset,
    )
    made: T = field(default=default, metadata={OPTION: info})
    return made


def options_of(kind: type[Any]) -> Mapping[str, OptionInfo]:
    """The options among the fields of a dataclass, by name."""
    return {each.name: each.metadata[OPTION] for each in fields(kind)}


def option_name(kind: type[Any], name: str) -> str:
    """How a user sets an option: `--lr`, or `warmup in --config`."""
    dashed = name.replace("_", "-")
    return f"--{dashed}" if options_of(kind)[name].is_on_command_line else f"{dashed} in --config"


def out_of_bounds(options: Any) -> Iterator[str]:
    """A message for each option of the object with a value out of its bounds."""
    kind = type(options)
    for name, info in options_of(kind).items():
        found = getattr(options, name)
        for value in found if isinstance(found, tuple) else (found,):
            if value is not None and info.bounds is not None and not info.bounds.hold(value):
                allowed = _allowed(info.bounds, value)
                yield f"{option_name(kind, name)} must be {allowed}, not {shown_value(value)}"


def _allowed(bounds: Bounds, value: float) -> str:
    """The numbers that an option takes instead of a value, in words."""
    if bounds.is_sane(value):
        return str(bounds)
    return f"at most {bounds.largest}" if isinstance(value, int) else "a finite number"


def shown_value(value: object, longest: int = LONGEST_SHOWN) -> str:
    """A value in a message, with its middle left out if it is long."""
    text = str(value)
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]}...{text[-half:]}"


@frozen
class ShownOption:
    """An option as it is shown for a command line or a config file."""

    name: str
    type: Any
    help: str
    """Help text with default and bounds."""
    metavar: str | None


@frozen
class CommandOptions:
    """The options of a training command: the fields of one or more dataclasses."""

    kinds: tuple[type[Any], ...]
    is_for_banks: bool = False

    @property
    def defaults(self) -> Mapping[str, object]:
        """The options with another default for prompt banks."""
        if not self.is_for_banks:
            return {}
        infos = [each for kind in self.kinds for each in options_of(kind).items()]
        return {name: info.for_banks for name, info in infos if info.for_banks is not None}

    @property
    def on_command_line(self) -> Iterator[ShownOption]:
        """The options that the command line has, in order."""
        return self._shown(is_on_command_line=True)

    @property
    def in_config_only(self) -> Iterator[ShownOption]:
        """The options that only a config file has, in order."""
        return self._shown(is_on_command_line=False)

    def _shown(self, *, is_on_command_line: bool) -> Iterator[ShownOption]:
        defaults = self.defaults
        # mypy does not consider a type hashable, as the cache requires
        kind: Any
        for kind in self.kinds:
            types = _types_of(kind)
            for each in fields(kind):
                info: OptionInfo = each.metadata[OPTION]
                is_used = info.is_for_banks or not self.is_for_banks
                if is_used and info.is_on_command_line is is_on_command_line:
                    default = defaults.get(each.name, each.default)
                    text = info.default_text or _default_text(each.name, default)
                    if isinstance(default, bool) and not is_on_command_line:
                        text = str(default).lower()
                    facts = [f"default: {text}"] if text else []
                    facts += [info.bounds.formula] if info.bounds else []
                    shown = f"{info.help}  [{'; '.join(facts)}]" if facts else info.help
                    yield ShownOption(each.name, types[each.name], shown, info.metavar)

    def built(self, *layers: Mapping[str, object]) -> tuple[Any, ...]:
        """An object of each dataclass; each option is taken from the last layer that has it.

        Raises TypeError for a name that no dataclass has, UsageError for values that a dataclass
        refuses.
        """
        infos = {name: info for kind in self.kinds for name, info in options_of(kind).items()}
        chosen = dict(self.defaults)
        for layer in layers:
            if unknown := [name for name in layer if name not in infos]:
                raise TypeError(f"no such option: {', '.join(unknown)}")
            for name in layer:
                chosen.pop(infos[name].instead_of or "", None)
            chosen.update(layer)
        return tuple(
            kind(**{name: chosen[name] for name in options_of(kind) if name in chosen})
            for kind in self.kinds
        )


@cache
def _types_of(kind: Any) -> Mapping[str, Any]:
    """The types of the fields of a dataclass; reading them takes a millisecond or more."""
    return typing.get_type_hints(kind)


def _default_text(name: str, default: object) -> str | None:
    if default is None or default == ():
        return None
    if isinstance(default, bool):
        return f"{'' if default else 'no-'}{name.replace('_', '-')}"
    if isinstance(default, float):
        return f"{default:g}".replace("e-0", "e-")
    return str(default)
