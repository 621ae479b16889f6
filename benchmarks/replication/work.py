"""The work folder of a study: every model, set of images and figure under a key of its settings.

Rule 1: what is there is not made again, so an interrupted study goes on where it was, and one with
other settings shares what they have in common.
Rule 2: a key names its inputs by their own keys, so it stands for all that a result depends on,
but for the program itself.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiTTransformer2DModel
from PIL import Image

from replication.shapes import Pictures
from soupctl import verbs

LISTED = "study.json"
"""What a finished folder was made of."""


class Work:
    """A work folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.began = time.monotonic()
        self.trained: dict[str, Mapping[str, Any]] = {}
        """Every training run that the study asked for, by the name of its folder."""

    def made(self, kind: str, key: Mapping[str, Any], make: Callable[[Path], None]) -> Path:
        """The folder with this key, made if it is not there; `make` may find what it left."""
        text = json.dumps(_named(key), sort_keys=True)
        folder = self.root / f"{kind}-{sha256(text.encode()).hexdigest()[:16]}"
        if not (folder / LISTED).is_file():
            folder.mkdir(parents=True, exist_ok=True)
            make(folder)
            (folder / LISTED).write_text(text)
        return folder

    def figure(self, kind: str, key: Mapping[str, Any], compute: Callable[[], Any]) -> Any:
        """The figures with this key, computed if they are not known."""

        def make(folder: Path) -> None:
            (folder / "value.json").write_text(json.dumps(compute()))

        return json.loads((self.made(kind, key, make) / "value.json").read_text())

    def say(self, text: str) -> None:
        """Print a line with the minutes since the study began."""
        print(f"{(time.monotonic() - self.began) / 60:5.1f} min  {text}", flush=True)

    def data(self, pictures: Callable[[], Pictures], **key: Any) -> Path:
        """A folder of images with their labels, as `finetune` reads it."""

        def make(folder: Path) -> None:
            found = pictures()
            for number, (image, label) in enumerate(zip(found.images, found.labels, strict=True)):
                place = folder / "images" / str(label)
                place.mkdir(parents=True, exist_ok=True)
                _picture(image).save(place / f"{number:05}.png")

        return self.made("data", key, make) / "images"

    def new_base(self, seed: int, classes: int, **shape: int) -> Path:
        """An untrained DiT of pixels; `shape` has the fields of its config."""

        def make(folder: Path) -> None:
            torch.manual_seed(seed)
            model = DiTTransformer2DModel(num_embeds_ada_norm=classes, **shape)
            model.save_pretrained(folder / "model")

        key = {"seed": seed, "classes": classes, **shape}
        return self.made("new", key, make) / "model"

    def finetune(self, base: Path, data: Path, **options: Any) -> Path:
        """The model that `soupctl finetune` makes."""
        return self._trained("finetune", base, data, options) / "model"

    def patch_dmp(self, base: Path, data: Path, **options: Any) -> Path:
        """The bank that `soupctl patch-dmp` makes."""
        return self._trained("patch_dmp", base, data, options) / "bank"

    def _trained(self, verb: str, base: Path, data: Path, options: Mapping[str, Any]) -> Path:
        key = {"verb": verb, "base": base, "data": data, **options}

        def make(folder: Path) -> None:
            getattr(verbs, verb)(base, data, folder / "run", **options)
            shutil.rmtree(folder / "run" / "checkpoints", ignore_errors=True)

        folder = self.made(verb, key, make)
        self.trained[folder.name] = _named(key)
        return folder / "run"

    def soup(self, paths: list[Path], weights: list[Fraction] | None = None) -> Path:
        """The model that `soupctl avg` makes, of equal weights if none are given."""
        given = weights or [Fraction(1)] * len(paths)
        used = [(path, weight) for path, weight in zip(paths, given, strict=True) if weight]

        def make(folder: Path) -> None:
            parts = [verbs.Ingredient(str(path), weight) for path, weight in used]
            verbs.average(verbs.Request(parts, folder / "model"), force=True)

        key = {"of": [(path, str(weight)) for path, weight in used]}
        return self.made("soup", key, make) / "model"

    def without(self, soup: Path, ingredient: Path) -> Path:
        """The model that `soupctl subtract` leaves."""

        def make(folder: Path) -> None:
            removed = (str(ingredient),)
            verbs.revise(
                verbs.Revision("subtract", soup, folder / "model", removed=removed), force=True
            )

        return self.made("subtract", {"soup": soup, "without": ingredient}, make) / "model"

    def moved(self, start: Path, base: Path, fine: Path, scale: Fraction) -> Path:
        """`start` plus `scale` times (fine - base), by `soupctl delta` and `soupctl apply`."""

        def make(folder: Path) -> None:
            delta = folder / "delta.safetensors"
            verbs.make_delta(verbs.DeltaRequest(fine, base, delta), force=True)
            given = verbs.Ingredient(str(delta), scale)
            verbs.apply(
                verbs.Application(start, [given], folder / "model", other_base=True), force=True
            )

        key = {"start": start, "base": base, "fine": fine, "scale": str(scale)}
        return self.made("apply", key, make) / "model"

    def greedy(self, paths: list[Path], score: Callable[[Any], float], scored_on: str) -> Path:
        """The model that `soupctl greedy` makes: the one with the least score."""

        def make(folder: Path) -> None:
            request = verbs.Request([str(path) for path in paths], folder / "model")
            scoring = verbs.Scoring(function=score, minimize=True)
            verbs.greedy(verbs.Greedy(request, scoring), force=True)

        return self.made("greedy", {"of": paths, "scored_on": scored_on}, make) / "model"

    def search(
        self, paths: list[Path], score: Callable[[Any], float], trials: int, scored_on: str
    ) -> Path:
        """The model whose weights `soupctl search` finds."""

        def make(folder: Path) -> None:
            request = verbs.Request([str(path) for path in paths], folder / "model")
            scoring = verbs.Scoring(function=score, minimize=True)
            verbs.search(verbs.WeightSearch(request, scoring, trials), force=True)

        key = {"of": paths, "trials": trials, "scored_on": scored_on}
        return self.made("search", key, make) / "model"

    def samples(self, model: Path, bank: Path | None = None, **request: Any) -> np.ndarray:
        """Images [N, 8, 8, C] that `soupctl sample` makes; with a bank, those with it."""
        banks = [] if bank is None else [bank]

        def make(folder: Path) -> None:
            shutil.rmtree(folder / "images", ignore_errors=True)
            verbs.sample([model], folder / "images", banks=banks, **request)
            files = sorted((folder / "images").rglob("[0-9]*.png"))
            # the folder of the base alone comes first, as its name is the start of the other
            chosen = files[-request["images"] :]
            images = np.stack([np.asarray(Image.open(each)) for each in chosen])
            np.save(folder / "images.npy", images)
            shutil.rmtree(folder / "images")

        folder = self.made("samples", {"model": model, "banks": banks, **request}, make)
        images = np.load(folder / "images.npy")
        return images[..., None] if images.ndim == 3 else images


def load(model: Path) -> Any:
    """The DiT in a folder, for evaluation."""
    return DiTTransformer2DModel.from_pretrained(model, local_files_only=True).eval()


def _picture(image: np.ndarray) -> Image.Image:
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def _named(value: Any) -> Any:
    """A key as JSON has it: a path is the name of the folder in the work folder that made it."""
    if isinstance(value, Path):
        names = [part for part in value.parts if "-" in part and len(part.split("-")[-1]) == 16]
        return names[-1] if names else value.name
    if isinstance(value, Mapping):
        return {str(name): _named(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_named(each) for each in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
