"""The files of a case: what the words of its commands stand for, and what a run leaves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from glob import escape
from pathlib import Path

from cases import INPUTS, LAST, OTHERS, OUT, SOUP, Case


@dataclass(frozen=True, slots=True)
class Files:
    """Where the files of a case lie in a folder, whether they are there or not."""

    inputs: tuple[Path, ...]
    soup: Path | None
    """A soup of all inputs, made before the case; None where there are no inputs."""
    out: Path

    @classmethod
    def of(cls, case: Case, folder: Path) -> Files:
        """The files of `case` in `folder`."""
        out = folder / "benchmark-out.safetensors"
        if case.ingredients is None:
            return cls((), None, out)
        return cls(tuple(case.ingredients.paths(folder)), case.ingredients.soup_path(folder), out)

    def arguments(self, words: Sequence[str]) -> list[str]:
        """The words of a command with paths in their places."""
        return [argument for word in words for argument in self._meant(word)]

    def read_by(self, words: Sequence[str]) -> list[Path]:
        """What a command of soupctl reads: what its words name but for OUT, and a soup's sum."""
        named = self._named()
        paths = [path for word in words if word != OUT for path in named.get(word, ())]
        sums = [] if self.soup is None or SOUP not in words else sums_of(self.soup)
        return [*paths, *sums]

    def written(self) -> list[Path]:
        """What the last run left: the output and its sum, as far as they are there."""
        return [path for path in (self.out, *sums_of(self.out)) if path.exists()]

    def _named(self) -> Mapping[str, tuple[Path, ...]]:
        return {
            INPUTS: self.inputs,
            LAST: self.inputs[-1:],
            OTHERS: self.inputs[:-1],
            SOUP: () if self.soup is None else (self.soup,),
            OUT: (self.out,),
        }

    def _meant(self, word: str) -> list[str]:
        paths = self._named().get(word)
        return [word] if paths is None else [str(path) for path in paths]


def sums_of(soup: Path) -> list[Path]:
    """The sums that lie beside a soup, whose names begin with its own."""
    return sorted(soup.parent.glob(f"{escape(soup.name)}.*.sum"))


def total_bytes(paths: Iterable[Path]) -> int:
    """The size of the files together."""
    return sum(path.stat().st_size for path in paths)


def remove_soup(soup: Path) -> None:
    """Remove a soup and the sums that are kept beside it, as far as they are there."""
    for path in (soup, *sums_of(soup)):
        path.unlink(missing_ok=True)
