"""Walk the state machines of tests/property with new examples, for as long as one likes.

    python tools/walk.py 1800                       # half an hour, shared by all machines
    python tools/walk.py 60 Life KeptPipelineLife   # half a minute for each of two

It prints a line for each machine: how many walks, and how many changes they made. What breaks an
invariant is printed as a walk that is as short as Hypothesis can make it. CI takes the same few
walks each time.
"""

from __future__ import annotations

import importlib
import sys
import time
import traceback
from pathlib import Path
from types import ModuleType

from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, run_state_machine_as_test

TESTS = Path(__file__).parents[1] / "tests"
LONGEST = 40
"""Changes that one walk makes at most."""
AT_ONCE = 10
"""Walks between two looks at the clock."""


def machines() -> dict[str, type[RuleBasedStateMachine]]:
    """The state machines that tests/property tries, by their names."""
    sys.path[:0] = [str(TESTS.parent), str(TESTS), str(TESTS / "property")]
    files = sorted((TESTS / "property").glob("test_*.py"))
    found = (each for file in files for each in _machines_of(importlib.import_module(file.stem)))
    return {each.__name__: each for each in found}


def _machines_of(module: ModuleType) -> list[type[RuleBasedStateMachine]]:
    kinds = [each for each in vars(module).values() if isinstance(each, type)]
    base = RuleBasedStateMachine
    return [each for each in kinds if issubclass(each, base) and each is not base]


def walk(machine: type[RuleBasedStateMachine], seconds: float) -> str:
    """A line on what some time of walking found."""
    walks = states = 0

    class Counted(machine):  # type: ignore[misc, valid-type]
        @invariant()
        def is_counted(self) -> None:
            nonlocal states
            states += 1

        def teardown(self) -> None:
            nonlocal walks
            walks += 1
            super().teardown()

    Counted.__qualname__ = Counted.__name__ = machine.__name__
    chosen = settings(
        max_examples=AT_ONCE,
        stateful_step_count=LONGEST,
        derandomize=False,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    verdict, end = "no finding", time.monotonic() + seconds
    while time.monotonic() < end and verdict == "no finding":
        try:
            run_state_machine_as_test(Counted, settings=chosen)
        except Exception:  # noqa: BLE001
            verdict = traceback.format_exc()
    return f"{machine.__name__}: {walks:,} walks, {states - walks:,} changes, {verdict}"


def main(seconds: int, names: list[str]) -> None:
    """Walk the named machines, or all, one after the other."""
    found = machines()
    for name in names or found:
        sys.stdout.write(walk(found[name], seconds / len(names or found)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
