"""Where a soup goes: one file, a folder like the inputs', or standard output.

Rule 1: the output's shape is decided from request and inputs before anything is made.
Rule 2: nothing is at its final name before all of it is on disk.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from stat import S_ISDIR

from ..errors import Issue, MismatchError, OutputError, UsageError
from ..format.header import lay_out
from ..format.shards import Entry, OutputFile, index_name, same_files, split
from ..soup.configs import different_fields, is_copied, is_index
from ..soup.plan import Plan
from ..storage.folder import equal_bytes, other_files
from ..storage.layout import STEMS, Component, Model
from ..storage.regular import read_small
from .inputs import STREAM, Inputs, Part

FILE_SUFFIXES = (".st", ".safetensors")


@dataclass(frozen=True, slots=True)
class Share:
    """The files of one component: their names lie within `folder`, relative to the output."""

    folder: str
    files: tuple[OutputFile, ...]
    index: str | None
    """Name of the index, if there is one."""

    def path_of(self, name: str) -> str:
        """The name of one of these files within the output."""
        return str(PurePosixPath(self.folder, name))


@dataclass(frozen=True, slots=True)
class Destination:
    """What will be written where."""

    path: Path | None
    """None for standard output."""
    is_folder: bool
    shares: tuple[Share, ...]
    """One a component, in the order of the inputs' components."""
    copies: tuple[tuple[str, Path], ...]
    """Other files that go along: name within the output, and the file to copy."""
    left_behind: tuple[str, ...] = ()
    """Weights and code in the input folders that the soup has nothing of, by relative name."""

    @property
    def names(self) -> frozenset[str]:
        """All files of an output that is a folder, by their names within it."""
        made = (
            share.path_of(name)
            for share in self.shares
            for name in (*(file.name for file in share.files), share.index)
            if name is not None
        )
        return frozenset((*made, *(name for name, _ in self.copies)))

    def folder_of(self, share: Share) -> Path | None:
        """The folder that holds a component's file, or its folder; None for standard output."""
        if self.path is None:
            return None
        return (self.path / share.folder).parent


def decide(
    output: str | Path,
    inputs: Inputs,
    plans: Sequence[Plan],
    shard_size: int | None,
    variant: str | None,
) -> Destination:
    """The destination for `output`; one file if it is named like one or no input is a folder.

    Raises UsageError for several components or shards in one file, MismatchError for files beside
    the weights that say different things.
    """
    if not str(output):
        raise UsageError("the output has no name")
    stream = str(output) == STREAM
    named_like_file = stream or str(output).endswith(FILE_SUFFIXES)
    folders = [model for model in inputs.models if model.folder is not None]
    if named_like_file or not (folders or shard_size):
        if shard_size:
            raise UsageError("--shard-size makes a folder", path=output, advice="name one with -o")
        if len(inputs.parts) > 1:
            raise UsageError(
                f"one file cannot hold {len(inputs.parts)} components",
                path=output,
                advice="name a folder with -o, or pick one with --component",
            )
        # also what is not copied tells whether the ingredients are of one kind
        _copies(folders)
        name = "standard output" if stream else Path(output).name
        files = (OutputFile(name, lay_out(_entries(plans[0]))),)
        return Destination(None if stream else Path(output), False, (Share("", files, None),), ())
    shares = tuple(
        _share(part, plan, shard_size, variant)
        for part, plan in zip(inputs.parts, plans, strict=True)
    )
    left_behind = _left_behind(folders, inputs)
    return Destination(Path(output), True, shares, _copies(folders), left_behind)


def _entries(plan: Plan) -> list[Entry]:
    return [(step.name, step.out, step.shape) for step in plan.kept if step.out is not None]


def _share(part: Part, plan: Plan, shard_size: int | None, variant: str | None) -> Share:
    """Files of one component, laid out like the checkpoint that the part names, if it does."""
    like = part.like
    if like is None or shard_size or not plan.kept:
        stem = "model" if like is None else _stem(like.component, variant)
        files = split(_entries(plan), shard_size or 2**63, stem)
    else:
        names = {
            step.name: _plain(like.file_of(step.name).path.name, variant) for step in plan.kept
        }
        files = same_files(_entries(plan), names)
        stem = _stem(like.component, variant)
    indexed = len(files) > 1 or (like is not None and not shard_size and like.component.index)
    return Share(part.name, files, index_name(stem) if indexed else None)


def _plain(name: str, variant: str | None) -> str:
    """A file's name without its variant: the output is what a library loads by default."""
    return name.replace(f".{variant}", "", 1) if variant else name


def _stem(component: Component, variant: str | None) -> str:
    """What the names of a component's files begin with; without a variant, where that is plain."""
    name = _plain(component.index_name or component.files[0].name, variant)
    stem = re.split(r"\.safetensors|\.[^.]*$", name)[0]
    return next((known for known in STEMS if stem.startswith(f"{known}.")), stem)


def _copies(folders: Sequence[Model]) -> tuple[tuple[str, Path], ...]:
    """What lies beside the weights, of all folders together; it must say the same in each."""
    copies: dict[str, Path] = {}
    issues = []
    for model in folders:
        assert model.folder is not None
        for name, path in other_files(model.folder, is_copied).items():
            kept = copies.setdefault(name, path)
            if fields := () if kept == path else _different_fields(name, kept, path):
                what = f"says something else than {kept} ({', '.join(fields[:5])})"
                issues.append(Issue(what, path, advice=DIFFERENT))
    if issues:
        raise MismatchError.collected(issues)
    return tuple(sorted(copies.items()))


def _left_behind(folders: Sequence[Model], inputs: Inputs) -> tuple[str, ...]:
    """Weights and code that lie in the folders and are neither averaged nor copied."""
    used = {
        file
        for part in inputs.parts
        for checkpoint in part.checkpoints
        for file in checkpoint.component.files
    }
    found: set[str] = set()
    for model in folders:
        assert model.folder is not None
        others = other_files(model.folder, lambda name: not (is_copied(name) or is_index(name)))
        found |= {name for name, path in others.items() if path not in used}
    return tuple(sorted(found))


DIFFERENT = (
    "models of different configuration are not averaged; make the files agree if they mean the same"
)


def _different_fields(name: str, first: Path, other: Path) -> tuple[str, ...]:
    """In what two files differ; only those that differ in a byte are loaded."""
    if equal_bytes(first, other):
        return ()
    return different_fields(name, read_small(first, str(first)), read_small(other, str(other)))


def refuse_inputs(destination: Destination, inputs: Inputs, spared: Collection[Path] = ()) -> None:
    """Raise OutputError if the output is an input or holds one, whatever links lead to it.

    Files among `spared` may be replaced.
    """
    if destination.path is None:
        return
    used = {
        (stat.st_dev, stat.st_ino)
        for stat in map(_stat, _input_paths(inputs, spared))
        if stat is not None
    }
    found = _stat(destination.path)
    if found is not None and (found.st_dev, found.st_ino) in used:
        what = "holds an input" if S_ISDIR(found.st_mode) else "is also an input"
        raise OutputError(what, path=destination.path, advice="choose another output")


def _input_paths(inputs: Inputs, spared: Collection[Path]) -> set[Path]:
    """Every file that is read, and every folder around one, which would take it away with it."""
    places = {
        place
        for part in inputs.parts
        for checkpoint in part.checkpoints
        for file in checkpoint.component.files
        if file not in spared
        for place in (file.absolute(), file.resolve())
    }
    return places | {parent for place in places for parent in place.parents}


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None
