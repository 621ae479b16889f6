"""The files of a base that soupctl uses: each is named beforehand, and nothing else is opened.

Rule 1: small files are read once and kept, so the same bytes are checked, digested and loaded.
Rule 2: no link is followed out of the base's folder, except those of the hub's cache to its blobs.
Rule 3: libraries load from a private folder that has these files alone, so code, pickles and
configs that lie beside them are out of their reach.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..checkpoints.digest import text_digest
from ..checkpoints.layout import PICKLES, Component, find_model
from ..checkpoints.preference import INDEX
from ..checkpoints.unchanged import FileSnapshot
from ..errors import InputError, MismatchError, OutputError
from ..format.strict_json import decode, parse_config
from ..ledger.sealed import canonical
from ..storage.files import read_file
from .component_classes import CONFIGS, SCHEDULER_CONFIG, ComponentClass, require_no_code

STEMS = {"diffusers": "diffusion_pytorch_model", "transformers": "model"}
"""The name of the weights, without ending, that each library looks for."""
UNTOLD = ("transformers_version",)
"""Fields without influence on any number, besides those that begin with `_`."""


@dataclass(slots=True)
class BaseFiles:
    """The files of a base; `read` and `find_weights` add to them."""

    folder: Path
    variant: str | None = None
    """The variant of the weights that is preferred, such as `fp16`."""
    contents: dict[str, bytes] = field(default_factory=dict)
    """Configs, vocabularies and indexes, by path within the base."""
    weights: dict[str, Component] = field(default_factory=dict)
    """Weights by component; those of a bare denoiser have the empty name."""
    snapshots: list[FileSnapshot] = field(default_factory=list)
    """Snapshots of all files, taken before they were read."""

    def inside(self, component: str, file: str) -> str:
        """The path within the base of a component's file: in its folder, or in the base's own."""
        own = component if component and (self.folder / component).is_dir() else ""
        return f"{own}/{file}" if own else file

    def holds(self, component: str, kind: ComponentClass) -> bool:
        """Whether a component exists: as a folder, or a scheduler in the base's own folder."""
        if (self.folder / component).is_dir():
            return True
        return kind.files[0] == SCHEDULER_CONFIG and (self.folder / SCHEDULER_CONFIG).is_file()

    def holds_any(self, component: str, names: Sequence[str]) -> bool:
        """Whether a component's folder has one of the files."""
        return any((self.folder / component / name).is_file() for name in names)

    def read(self, name: str) -> bytes | None:
        """Read a small file, and keep it; None if it does not exist.

        Raises InputError for a file that is unreadable, or a link out of the base.
        """
        path = self.folder / name
        if not os.path.lexists(path):
            return None
        self._take(path)
        self.contents[name] = read_file(path)
        return self.contents[name]

    def read_config(self, name: str) -> dict[str, Any] | None:
        """Read a config as `read` does; MismatchError if it names code, InputError if malformed."""
        if (content := self.read(name)) is None:
            return None
        try:
            config = parse_config(decode(content))
        except ValueError as error:
            path = self.folder / name
            raise InputError(f"is not a valid JSON file: {error}", path=path) from None
        require_no_code(config, self.folder / name)
        return config

    def find_weights(self, name: str) -> None:
        """Find a component's weights; InputError if it has none, or links out of the base."""
        model = find_model(self.folder / name, variant=self.variant)
        # if the denoiser is in the root folder, other components may be in subfolders
        found = [each for each in model.components if not each.name]
        if len(found) != 1:
            raise InputError("is a pipeline within a pipeline", path=self.folder / name)
        component = self.weights[name] = found[0]
        for path in component.files:
            self._take(path)
        if component.index_file is not None:
            self.read(component.index_file.path.relative_to(self.folder).as_posix())

    def require_variant(self) -> None:
        """Raise MismatchError if no component has weights of the variant that was asked for."""
        names = [
            component.index_name or path.name
            for component in self.weights.values()
            for path in component.files
        ]
        if self.variant and not any(f".{self.variant}." in name for name in names):
            what = f"has no weights of the variant {self.variant!r}"
            raise MismatchError(what, path=self.folder, advice="remove --variant")

    def published_name(self, name: str, library: str, file: str) -> str:
        """The plain name of a component's index or single file of weights; others keep theirs.

        `file` is its path within the base.
        """
        component = self.weights[name]
        ending = ".safetensors"
        if component.index_file is not None:
            if self.folder / file != component.index_file.path:
                return file
            ending = ".safetensors.index.json"
        return str(Path(file).with_name(STEMS.get(library, STEMS["transformers"]) + ending))

    def has_weights(self, name: str) -> bool:
        """Whether a component's folder has weights, or pickles, which `find_weights` refuses."""
        files = list((self.folder / name).iterdir())
        suffixes = {".safetensors", *PICKLES}
        return any(each.suffix in suffixes or INDEX.search(each.name) for each in files)

    def _take(self, path: Path) -> None:
        _require_inside(self.folder, path)
        self.snapshots.append(FileSnapshot.take(path))

    def require_unchanged(self) -> None:
        """Raise OutputError if a file was replaced or written to since it was first read."""
        for file in self.snapshots:
            if not file.identity.is_at(file.path):
                what, advice = "changed after the command began", "run the command again"
                raise OutputError(what, path=file.path, advice=advice)

    def digest(self, component: str) -> str:
        """The digest of a component's small files; the formatting of configs does not count."""
        inside = f"{component}/" if component else ""
        found = {
            name: self._meaning(name)
            for name in self.contents
            if name.removeprefix(inside) in _small_names(name, inside)
        }
        return text_digest(canonical(found))

    def _meaning(self, name: str) -> object:
        content = self.contents[name]
        if Path(name).name not in CONFIGS:
            return text_digest(content.decode("latin-1"))
        config = parse_config(decode(content))
        return {
            key: value
            for key, value in config.items()
            if not key.startswith("_") and key not in UNTOLD
        }


def _small_names(name: str, inside: str) -> tuple[str, ...]:
    """The names of small files directly in the component, without indexes of weights."""
    own = name.removeprefix(inside)
    is_own = name.startswith(inside) and "/" not in own and not INDEX.search(own)
    return (own,) if is_own else ()


def _require_inside(folder: Path, path: Path) -> None:
    """Raise InputError for a file that is, through links, outside the base."""
    root, real = Path(os.path.realpath(folder)), Path(os.path.realpath(path))
    if real.is_relative_to(root):
        return
    # the Hugging Face cache has its files in `blobs`, and links to them in `snapshots/REVISION`
    caches = [each.parent for each in root.parents if each.name == "snapshots"]
    if not any(real.parent == cache / "blobs" for cache in caches):
        what = "is a link out of the base, which is not followed"
        raise InputError(what, path=path, advice="put a copy of the file in its place")


@contextmanager
def staged(
    files: BaseFiles, classes: Mapping[str, ComponentClass], rewritten: Mapping[str, object]
) -> Iterator[Path]:
    """A private folder with these components' files, for libraries to load from.

    `rewritten` are configs to be used instead of those on disk. Raises OutputError at its end if a
    file changed meanwhile.
    """
    with tempfile.TemporaryDirectory(prefix="soupctl-") as folder:
        for name, kind in classes.items():
            place = Path(folder, name)
            place.mkdir(exist_ok=True)
            for file in kind.files:
                within = files.inside(name, file)
                if within in rewritten:
                    (place / file).write_text(json.dumps(rewritten[within]), "utf-8")
                elif within in files.contents:
                    (place / file).write_bytes(files.contents[within])
            if name in files.weights:
                _link_weights(files.weights[name], place, STEMS[kind.library])
        yield Path(folder)
    files.require_unchanged()


def _link_weights(component: Component, place: Path, stem: str) -> None:
    """Links to weights, under the names that a library looks for."""
    if component.index is None:
        (place / f"{stem}.safetensors").symlink_to(os.path.realpath(component.files[0]))
        return
    index = {"metadata": {}, "weight_map": dict(component.index.weight_map)}
    (place / f"{stem}.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    assert component.folder is not None
    for file in component.files:
        link = place / file.relative_to(component.folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.realpath(file))
