"""The work folder of a study: every model, set of images and figure under a key of its settings.

Rule 1: what is there is not made again, so an interrupted study is resumed, and one with other
settings shares what they have in common.
Rule 2: a key names its inputs by their own keys, so it stands for all that a result depends on,
but for the program itself.
Rule 3: several processes may share the folder; what one is making, the others wait for.
Rule 4: models and samples are made by soupctl's own command line.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiTTransformer2DModel
from PIL import Image

from replication import commands, scored
from replication.shapes import Pictures

LISTED = "study.json"
"""What a finished folder was made of."""
LOCK = "study.lock"
COSTS = "costs.jsonl"
"""What each task of the study took, also those of earlier starts."""


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
            with _alone_in(folder):
                if not (folder / LISTED).is_file():
                    make(folder)
                    (folder / LISTED).write_text(text)
        return folder

    def command(self, folder: Path, *words: object) -> None:
        """Run a command of soupctl; what it prints is kept in the folder."""
        commands.run(words, folder / f"{words[0]}.txt")

    def figure(self, kind: str, key: Mapping[str, Any], compute: Callable[[], Any]) -> Any:
        """The figures with this key, computed if they are not known."""

        def make(folder: Path) -> None:
            (folder / "value.json").write_text(json.dumps(compute()))

        return json.loads((self.made(kind, key, make) / "value.json").read_text())

    def say(self, text: str) -> None:
        """Print a line with the minutes since the study began."""
        print(f"{(time.monotonic() - self.began) / 60:5.1f} min  {text}", flush=True)

    def spend(self, task: str, wall: float, seconds: float) -> None:
        """Note the seconds that a task took, and those of processors."""
        line = json.dumps({"task": task, "wall": round(wall, 2), "cpu": round(seconds, 2)})
        with (self.root / COSTS).open("a") as file:
            file.write(line + "\n")

    def cost(self) -> dict[str, Any]:
        """The minutes of processors that everything took; no less than from nothing."""
        file = self.root / COSTS
        lines = [json.loads(each) for each in file.read_text().splitlines()]
        return {"cpu_minutes": round(sum(each["cpu"] for each in lines) / 60, 1)}

    def runs(self) -> list[Mapping[str, Any]]:
        """Every training run that the study asked for."""
        return [self.trained[name] for name in sorted(self.trained)]

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
        return self._trained("patch-dmp", base, data, options) / "bank"

    def _trained(self, verb: str, base: Path, data: Path, options: Mapping[str, Any]) -> Path:
        key = {"verb": verb, "base": base, "data": data, **options}

        def make(folder: Path) -> None:
            config, run = folder / "options.toml", folder / "run"
            config.write_text(commands.toml(options))
            self.command(folder, verb, base, "--data", data, "-o", run, "--config", config)
            shutil.rmtree(run / "checkpoints", ignore_errors=True)

        folder = self.made(verb, key, make)
        self.trained[folder.name] = _named(key)
        return folder / "run"

    def soup(self, paths: list[Path], weights: list[Fraction] | None = None) -> Path:
        """The model that `soupctl avg` makes, of equal weights if none are given."""
        given = weights or [Fraction(1)] * len(paths)
        used = [(path, weight) for path, weight in zip(paths, given, strict=True) if weight]

        def make(folder: Path) -> None:
            parts = [f"{path}@{weight}" for path, weight in used]
            self.command(folder, "avg", *parts, "-o", folder / "model", "-f", "-j", 1)

        key = {"of": [(path, str(weight)) for path, weight in used]}
        return self.made("soup", key, make) / "model"

    def soup_by(self, paths: list[Path], by: str) -> Path:
        """The model that `soupctl avg --weight-by` makes."""

        def make(folder: Path) -> None:
            words = (*paths, "-o", folder / "model", "--weight-by", by, "-f", "-j", 1)
            self.command(folder, "avg", *words)

        return self.made("soup", {"of": paths, "by": by}, make) / "model"

    def without(self, soup: Path, ingredient: Path) -> Path:
        """The model that `soupctl subtract` leaves."""

        def make(folder: Path) -> None:
            words = (soup, ingredient, "-o", folder / "model", "-f", "-j", 1)
            self.command(folder, "subtract", *words)

        return self.made("subtract", {"soup": soup, "without": ingredient}, make) / "model"

    def moved(self, start: Path, base: Path, fine: Path, scale: Fraction) -> Path:
        """`start` plus `scale` times (fine - base), by `soupctl delta` and `soupctl apply`."""

        def difference(folder: Path) -> None:
            self.command(folder, "delta", fine, base, "-o", folder / "delta", "-f", "-j", 1)

        delta = self.made("delta", {"fine": fine, "base": base}, difference) / "delta"

        def make(folder: Path) -> None:
            given = (start, f"{delta}@{scale}", "--other-base")
            self.command(folder, "apply", *given, "-o", folder / "model", "-f", "-j", 1)

        key = {"start": start, "delta": delta, "scale": str(scale)}
        return self.made("apply", key, make) / "model"

    def greedy(self, paths: list[Path], score: Callable[[Any], float], scored_on: str) -> Path:
        """The model that `soupctl greedy` makes: the one with the least score."""
        return self._chosen("greedy", paths, score, {"scored_on": scored_on})

    def search(
        self, paths: list[Path], score: Callable[[Any], float], trials: int, scored_on: str
    ) -> Path:
        """The model whose weights `soupctl search` finds."""
        words = ("--trials", trials)
        return self._chosen("search", paths, score, {"scored_on": scored_on}, *words)

    def _chosen(
        self,
        verb: str,
        paths: list[Path],
        score: Callable[[Any], float],
        key: Mapping[str, Any],
        *words: object,
    ) -> Path:
        def make(folder: Path) -> None:
            given = (*paths, "-o", folder / "model", "--minimize", *words, "-f", "-j", 1)
            with scored.by(score):
                self.command(folder, verb, *given, "--scorer", scored.NAME)

        return self.made(verb, {"of": paths, "words": words, **key}, make) / "model"

    def samples(self, model: Path, bank: Path | None = None, **request: Any) -> np.ndarray:
        """Images [N, 8, 8, C] that `soupctl sample` makes; with a bank, those with it."""
        banks = [] if bank is None else [bank]

        def make(folder: Path) -> None:
            images = folder / "images"
            shutil.rmtree(images, ignore_errors=True)
            words = [word for bank in banks for word in ("--bank", bank)]
            for name, value in request.items():
                values = value if isinstance(value, tuple) else (value,)
                option = "--class" if name == "classes" else f"--{name}"
                words += [word for each in values for word in (option, each)]
            self.command(folder, "sample", model, "-o", images, *words)
            files = sorted(images.rglob("[0-9]*.png"))
            # the folder of the base alone comes first, as its name is the start of the other
            chosen = files[-request["images"] :]
            np.save(
                folder / "images.npy", np.stack([np.asarray(Image.open(each)) for each in chosen])
            )
            shutil.rmtree(images)

        folder = self.made("samples", {"model": model, "banks": banks, **request}, make)
        images = np.load(folder / "images.npy")
        return images[..., None] if images.ndim == 3 else images


def load(model: Path) -> Any:
    """The DiT in a folder, for evaluation."""
    return DiTTransformer2DModel.from_pretrained(model, local_files_only=True).eval()


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Wait until no other process is in this."""
    # commands lock the folder itself
    with (folder / LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


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
