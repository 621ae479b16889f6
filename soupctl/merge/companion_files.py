"""Files beside the weights in the inputs' folders, and which of them are copied to the output.

Rule 1: config files must agree in meaning in every folder, or nothing is averaged; the user chooses
between differences that the weights do not depend on.
Rule 2: any other file is copied if all folders that have it agree, and prose from the first that
has it; files that differ are left behind, and so is everything but texts, pictures and tokenizers:
weights, code, archives.
Rule 3: no link is followed out of a folder, but for those of the hub's cache to its blobs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ..checkpoints.config_files import is_config, is_copied, is_index, is_prose, is_weights
from ..checkpoints.listing import OPTIONAL, PIPELINE
from ..checkpoints.unchanged import FileSnapshot
from ..errors import InputError, Issue, MismatchError
from ..frozen import frozen
from ..storage.files import read_file, read_json
from ..storage.folder import equal_bytes, files_in, leads_out, other_files

if TYPE_CHECKING:
    from ..configs.compare import Difference

DECIDING = "the weights mean different things and cannot be averaged"
OPEN = "--config-from INPUT chooses the configs of one input"


@frozen
class CompanionFiles:
    """Files in the input folders other than the weights that go in, by relative name."""

    copies: tuple[tuple[str, Path], ...]
    """The file to copy, by its name in the output."""
    left_behind: tuple[str, ...]
    """The names of files that are not copied."""
    seen: tuple[FileSnapshot, ...]
    """Snapshots of the files that were copied or compared."""

    def require_unchanged(self) -> None:
        """Raise OutputError if a file was changed or replaced since it was compared."""
        for file in self.seen:
            file.require_unchanged()


def companion_files(
    folders: Sequence[Path], weights: AbstractSet[Path], source: Path | None = None
) -> CompanionFiles:
    """The files of these folders, other than `weights`, for a soup in a folder.

    Configs are those of the folder `source`, which settles open differences, or of the first that
    has them. Raises MismatchError for configs that differ, InputError for a config that is a link
    out of its folder, and for what is not a regular file.
    """
    links: set[str] = set()
    every = _by_name(
        _without_other_models(_files_in(folder, weights, links), weights) for folder in folders
    )
    # a shard may have any name, even that of a config
    by_name = {name: paths for name, paths in every.items() if weights.isdisjoint(paths)}
    seen = _see(by_name)
    _require_same_configs(by_name, is_settled=source is not None)
    copies: list[tuple[str, Path]] = []
    left_behind = links | {name for name in every if not set(every[name]) <= weights}
    for name, paths in sorted(by_name.items()):
        if is_copied(name) and is_config(name):
            copies.append((name, _config_of(source, _true_listings(name, paths))))
        elif is_copied(name) and (is_prose(name) or _all_equal(paths)):
            copies.append((name, paths[0]))
    left_behind -= {name for name, _ in copies}
    return CompanionFiles(tuple(copies), tuple(sorted(left_behind)), seen)


def _files_in(folder: Path, weights: AbstractSet[Path], links: set[str]) -> dict[str, Path]:
    """The files of a folder by name; links out of it are not followed, but added to `links`."""
    # the folder of a component may be elsewhere, behind a link
    inside = [folder, *{path.parent for path in weights if path.is_relative_to(folder)}]

    def is_followed(path: Path) -> bool:
        if path in weights or not leads_out(path, inside):
            return True
        _refuse_config(path)
        links.add(path.relative_to(folder).as_posix())
        return False

    return other_files(folder, lambda name: not is_index(name), is_followed)


def _without_other_models(files: Mapping[str, Path], weights: AbstractSet[Path]) -> dict[str, Path]:
    """The files that are not of a model in a subfolder whose weights do not go in.

    Such is the `checkpoint-500` of a trainer, with a config and a tokenizer of its own.
    """
    holders: dict[str, bool] = {}
    for name, path in files.items():
        if is_weights(name):
            for folder in [each.as_posix() for each in PurePosixPath(name).parents][:-1]:
                holders[folder] = holders.get(folder, False) or path in weights
    others = frozenset(folder for folder, goes_in in holders.items() if not goes_in)

    def is_own(name: str) -> bool:
        return others.isdisjoint(each.as_posix() for each in PurePosixPath(name).parents)

    return {name: path for name, path in files.items() if is_weights(name) or is_own(name)}


def _refuse_config(path: Path) -> None:
    """Raise InputError if a link out of its folder has the name of a config, or holds configs."""
    if is_config(path.name) or (path.is_dir() and files_in(path, is_config)):
        raise InputError(
            "is a link out of its folder, and is not followed",
            path=path,
            advice="put what it leads to there",
        )


def compared_configs(folders: Sequence[Path], *, is_settled: bool = False) -> CompanionFiles:
    """The config files directly in these folders, compared but not copied, for a single file.

    Open differences are settled if `is_settled`. Raises MismatchError for configs that differ,
    InputError for a config that is a link out of its folder, and for what is not a regular file.
    """
    by_name = _by_name(files_in(folder, is_config) for folder in folders)
    for path in (path for paths in by_name.values() for path in paths):
        if leads_out(path, [path.parent]):
            _refuse_config(path)
    seen = _see(by_name)
    _require_same_configs(by_name, is_settled=is_settled)
    return CompanionFiles((), (), seen)


def _see(by_name: Mapping[str, Sequence[Path]]) -> tuple[FileSnapshot, ...]:
    """The files that may be compared or copied, with their identity."""
    return tuple(
        FileSnapshot.take(path)
        for name, paths in by_name.items()
        if is_copied(name)
        for path in paths
    )


def _by_name(found: Iterable[Mapping[str, Path]]) -> dict[str, list[Path]]:
    """The files of all folders that have the same name, each once, in the order of the folders."""
    by_name: dict[str, list[Path]] = {}
    for files in found:
        for name, path in files.items():
            paths = by_name.setdefault(name, [])
            if path not in paths:
                paths.append(path)
    return by_name


def _all_equal(paths: Sequence[Path]) -> bool:
    first, *rest = paths
    return all(equal_bytes(first, path) for path in rest)


def _true_listings(name: str, paths: Sequence[Path]) -> Sequence[Path]:
    """The pipeline indexes that list no optional component which the soup lacks."""
    if name != PIPELINE or len(paths) == 1:
        return paths
    without = [path for path in paths if not _lists_optional(path)]
    return without or paths


def _lists_optional(path: Path) -> bool:
    listing = read_json(path)
    return any(listing.get(name) not in (None, [None, None]) for name in OPTIONAL)


def _config_of(source: Path | None, paths: Sequence[Path]) -> Path:
    """The config that is used: that of the folder `source`, else the first."""
    if source is None:
        return paths[0]
    return next((path for path in paths if path.is_relative_to(source)), paths[0])


def _require_same_configs(by_name: Mapping[str, Sequence[Path]], *, is_settled: bool) -> None:
    issues = [
        _issue(each, first, path)
        for name, (first, *rest) in sorted(by_name.items())
        for path in (rest if is_config(name) else ())
        for each in _differences(name, first, path)
        if each.is_deciding or not is_settled
    ]
    if issues:
        raise MismatchError.collected(issues)


def _issue(found: Difference, first: Path, path: Path) -> Issue:
    advice = DECIDING if found.is_deciding else OPEN
    return Issue(
        f"{found.field} is {found.other}, but {found.first} in {first}", path, advice=advice
    )


def _differences(name: str, first: Path, other: Path) -> tuple[Difference, ...]:
    """The fields in which two files differ; files with equal bytes are not parsed."""
    if equal_bytes(first, other):
        return ()
    # imported late, because most commands find no configs that differ
    from ..configs.compare import differences

    classes = (_class_in_pipeline(first), _class_in_pipeline(other))
    return differences(name, read_file(first), read_file(other), classes)


def _class_in_pipeline(config: Path) -> str | None:
    """The class that the pipeline around a component gives it."""
    listing = config.absolute().parent.parent / PIPELINE
    if not listing.is_file():
        return None
    try:
        entry = read_json(listing).get(config.absolute().parent.name)
    except InputError:
        return None
    if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], str):
        return entry[1]
    return None
