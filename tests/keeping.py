"""Sums that are kept beside soups: found, read and forged, for tests.

Rule 1: what a sum holds is read by its description, not by soupctl.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from blake3 import blake3
from making import Raw, contents, metadata, save
from revising import average, root

FLOATS = {"F32": np.float32, "F64": np.float64}
PLACES = {"U32": np.uint32, "U64": np.uint64}


def sums_of(soup: Path) -> list[Path]:
    """All that lies beside a soup with the name of one of its sums, past or present."""
    return sorted(soup.parent.glob(f"{soup.name}.{12 * '[0-9a-f]'}.sum"))


def sum_of(soup: Path) -> Path:
    """The only sum beside a soup."""
    (found,) = sums_of(soup)
    return found


def scale_of(soup: Path) -> Fraction:
    """What the weights of a soup are multiplied by in its sum."""
    return Fraction(json.loads(metadata(sum_of(soup))["soupctl.sum"])["scale"])


def save_pots() -> None:
    """Checkpoints a.st to e.st of mixed dtypes and far exponents, in the working folder."""
    generator = np.random.default_rng(3)
    for number, name in enumerate("abcde"):
        save(
            Path(f"{name}.st"),
            {"format": "pt"},
            half=generator.normal(0, 1, (7, 5)).astype(np.float16),
            mixed=generator.normal(0, 1, 9).astype(np.float32 if number % 2 else np.float16),
            wide=(2.0 ** generator.integers(-140, 120, 60)).astype(np.float32),
            ids=np.arange(4),
        )


def save_every_kind() -> Path:
    """The sum of a.st to c.st, with planes of every kind, beside soup.st in the working folder."""
    generator = np.random.default_rng(5)
    for number, name in enumerate("abcd"):
        few = np.ones(40, np.float32)
        few[3 * number : 3 * number + 3] = 2**-60
        save(
            Path(f"{name}.st"),
            narrow=generator.normal(0, 1, 20).astype(np.float16),
            sparse=few,
            dense=3.0 ** (generator.integers(0, 60, 8) * (-1.0) ** number),
            ids=np.arange(3),
        )
    average(Path("soup.st"), "a.st", "b.st", "c.st", keep_sum=True)
    return sum_of(Path("soup.st"))


def arrays_of(path: str) -> dict[str, Any]:
    """The tensors of a checkpoint as arrays."""
    return dict(safetensors.numpy.load_file(path))


def hide(*names: str) -> None:
    """Put ingredients where nothing finds them: below `hidden`."""
    Path("hidden").mkdir(exist_ok=True)
    for name in names:
        Path(name).rename(Path("hidden", name))


def values_of(path: Path, tensor: str) -> list[Fraction]:
    """The exact sum that a file holds of each element of a tensor."""
    planes = {
        mark: raw
        for mark, name, raw in ((*full.split(":", 1), raw) for full, raw in contents(path).items())
        if name == tensor
    }
    first = _array(planes.pop("0"))
    total = [Fraction(float(value)) for value in first]
    for mark, raw in planes.items():
        if mark.endswith("i"):
            continue
        places: Any = range(len(total))
        if mark.endswith("v"):
            dtype, _, data = planes[f"{mark[0]}i"]
            places = np.frombuffer(data, PLACES[dtype])
        for place, value in zip(places, _array(raw), strict=True):
            total[int(place)] += Fraction(float(value))
    return total


def _array(raw: Raw) -> Any:
    return np.frombuffer(raw[2], FLOATS[raw[0]])


def form_of(path: Path, tensor: str) -> str:
    """The form of a tensor's sum, such as `0:F32` or `0:F64 1i:U32 1v:F64`."""
    found = [name.partition(":") for name in contents(path)]
    marks = sorted(mark for mark, _, name in found if name == tensor)
    return " ".join(f"{mark}:{contents(path)[f'{mark}:{tensor}'][0]}" for mark in marks)


def forge(
    path: Path,
    tensors: Callable[[dict[str, Raw]], object] = lambda tensors: None,
    facts: Callable[[dict[str, Any]], object] = lambda facts: None,
) -> None:
    """Change tensors and facts of a sum in place, with every digest that belongs to the change."""
    changed, texts = contents(path), metadata(path)
    tensors(changed)
    write(path, changed, texts)
    body = json.loads(texts["soupctl.sum"])
    body["root"] = root(path)
    facts(body)
    write(path, changed, {**texts, "soupctl.sum": sealed(body)})


def sealed(body: dict[str, Any]) -> str:
    """Facts with the digest that belongs to them."""
    bare = {key: value for key, value in body.items() if key != "digest"}
    return text_of({**bare, "digest": digest(text_of(bare))})


def text_of(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(text: str) -> str:
    return "blake3:" + blake3(text.encode("utf-8", "surrogatepass")).hexdigest()


def write(path: Path, tensors: Mapping[str, Raw], texts: Mapping[str, str]) -> None:
    """A checkpoint of these tensors and metadata."""
    header: dict[str, Any] = {"__metadata__": dict(texts)}
    end = 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": (end, end + len(data))}
        end += len(data)
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    data = b"".join(data for _, _, data in tensors.values())
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + data)
