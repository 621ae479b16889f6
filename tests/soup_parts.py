"""Three checkpoints of ten tensors, and a soup of them that is made in parts."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from making import save, save_raw

from soupctl import verbs
from soupctl.choices import OnInt
from soupctl.verbs import PartOfPlan, Request

F16 = np.float16
NAMES = ("a.st", "b.st", "c.st")


def save_ingredients(ending: str = "") -> None:
    """The checkpoints, in the working folder; the names of eight weights have this ending."""
    for seed, name in enumerate(NAMES):
        draw = np.random.default_rng(seed)
        weights = {f"w{n}{ending}": draw.normal(0, 1, (n + 1, 7)).astype(F16) for n in range(8)}
        save(Path(name), {"format": "pt"}, **weights, count=np.int64(seed), same=np.ones(3))


def save_quantised(*names: str) -> None:
    """Checkpoints of one weight that is stored as codes with a scale."""
    for name in names:
        codes = ("F8_E4M3", (2, 4), bytes(8))
        scale = ("F32", (), np.float32([2]).tobytes())
        save_raw(Path(name), {"layer.weight": codes, "layer.scale_weight": scale})


def request(output: str = "soup.st", *names: str, **more: object) -> Request:
    """A soup of the checkpoints, or of those that are named."""
    return Request(names or NAMES, output, on_int=OnInt.FIRST, **more)


def part(number: int, count: int, asked: Request | None = None, **more: object) -> Path:
    """A part of so many of a soup, made."""
    with verbs.open_part(asked or request(), PartOfPlan(number, count)) as planned:
        return verbs.make_part(planned, **more)


def join(output: str = "soup.st", **more: object) -> tuple[verbs.ComponentResult, ...]:
    """The parts of a soup, joined."""
    with verbs.open_parted(output) as parted:
        return verbs.commit(parted, **more)


def made_at_once(asked: Request) -> dict[str, bytes]:
    """The files of the soup that the request makes without parts, which is removed again."""
    verbs.average(asked)
    output = Path(asked.output)
    found = contents_of(output)
    shutil.rmtree(output) if output.is_dir() else output.unlink()
    return found


def contents_of(output: Path) -> dict[str, bytes]:
    """The bytes of a file, or of the files below a folder."""
    every = [path for path in output.rglob("*") if path.is_file()] if output.is_dir() else [output]
    return {str(path): path.read_bytes() for path in every}
