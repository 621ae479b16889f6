"""How often Python looks for objects that only refer to each other.

Rule 1: most objects of a command are freed without it; a search of all of them costs time.
"""

from __future__ import annotations

import gc

NEW_OBJECTS = 100_000
"""New objects after which it looks: a ledger of thousands of ingredients is read with few searches,
and what they would free stays small beside the data of a command."""
USUAL = gc.get_threshold()


def look_seldom() -> None:
    """Look seldom, for commands whose objects are few or live until they end."""
    gc.set_threshold(NEW_OBJECTS, *USUAL[1:])


def look_as_usual() -> None:
    """Look as often as Python does by default, for libraries whose objects hold memory of a GPU."""
    gc.set_threshold(*USUAL)
