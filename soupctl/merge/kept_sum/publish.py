"""Publish, recognise and remove the files of a kept sum.

Rule 1: a sum is published before its soup, and the sum of a replaced soup is removed after it: a
kill at any moment leaves a soup with its own sum.
Rule 2: a sum replaces only a sum; any other file of its name is never touched.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ...errors import OutputError, UnreadableError
from ...storage.atomic import publish_file, publish_folder
from ...storage.renameat import random_name
from .find import file_name, is_kept_sum, replaced_sum, sum_place
from .survey import SumLayout


class SumPublisher:
    """A sum that is being written beside the soup at `soup`, and named after the soup's digests."""

    def __init__(self, soup: Path, is_folder: bool) -> None:
        self.soup = soup
        self.is_folder = is_folder
        self.path: Path | None = None
        """Where it is, once its name is known to be its own."""
        self._roots: dict[str, str] = {}

    @contextmanager
    def opened(self, files: Sequence[SumLayout], check: Callable[[], None]) -> Iterator[list[int]]:
        """Descriptors of its files, published on a clean exit after `check`."""
        final = Path(os.path.realpath(self.soup)) if self.soup.is_symlink() else self.soup
        provisional = final.with_name(f"{final.name}.sum")
        with ExitStack() as stack:
            if self.is_folder:
                staging = stack.enter_context(
                    publish_folder(
                        provisional,
                        replace=True,
                        may_replace=is_kept_sum,
                        check=check,
                        naming=self._name,
                    )
                )
                yield [staging.create(file_name(file.component), file.size) for file in files]
            else:
                (file,) = files
                yield [
                    stack.enter_context(
                        publish_file(
                            provisional,
                            file.size,
                            replace=True,
                            check=check,
                            naming=self._name,
                        )
                    )
                ]

    def add_root(self, component: str, root: str) -> None:
        """Add the content digest of one component of the soup."""
        self._roots[component] = root

    def _name(self) -> str:
        """The name of the sum; OutputError if a file that is not a sum has it."""
        place = sum_place(self.soup, self._roots)
        if os.path.lexists(place) and not is_kept_sum(place):
            raise OutputError("exists and is not a kept sum", path=place)
        self.path = place
        return place.name

    @contextmanager
    def withdrawn_on_failure(self) -> Iterator[None]:
        """If the block fails, remove the sum unless it belongs to the soup that exists."""
        try:
            yield
        except BaseException:
            # report the failure that led here, not this one
            with suppress(OutputError):
                if self.path is not None and self.path != replaced_sum(self.soup):
                    remove_sum(self.path)
            raise


def remove_sum(place: Path) -> None:
    """Remove the sum at a path, if there is one; OutputError if that fails."""
    left = place
    try:
        if not is_kept_sum(place):
            return
        if place.is_dir():
            # renamed first, so that an incomplete sum is never beside a soup
            left = place.rename(place.with_name(random_name()))
            shutil.rmtree(left)
        else:
            place.unlink()
    except (OSError, UnreadableError) as error:
        reason = error.args[0] if isinstance(error, UnreadableError) else error.strerror or error
        problem = f"is the sum of a replaced soup, and is not removed: {reason}"
        raise OutputError(problem, path=left) from error
