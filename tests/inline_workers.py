"""Workers that are no processes: what is handed to them passes through a pickle all the same."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from soupctl.verbs import Workers


class InlineWorkers(Workers):
    """Makes every call here, the last one first."""

    def __init__(self, count: int = 2) -> None:
        super().__init__(count, 0)

    def call(
        self,
        function: Callable[[Any], Any],
        arguments: Sequence[Any],
        name: Callable[[Any], str],
        needs: object = None,
    ) -> Iterator[tuple[int, Any]]:
        """The results, as they come."""
        for place in reversed(range(len(arguments))):
            made = function(pickle.loads(pickle.dumps(arguments[place])))
            assert name(arguments[place])
            yield place, pickle.loads(pickle.dumps(made))
