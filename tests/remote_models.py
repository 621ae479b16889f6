"""Two checkpoints, their addresses on each kind of server, and the soup of both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from loopback import Loopback
from safetensors.numpy import save

from soupctl import verbs
from soupctl.verbs import Request

FIRST, SECOND = "1" * 40, "2" * 40
PLACES = ("web", "s3", "hub")


def model(seed: int, tensors: int = 30) -> bytes:
    """A checkpoint whose tensors are in one order by name, and in another by place."""
    random = np.random.default_rng(seed)
    arrays = {
        f"block.{n}.weight": random.standard_normal(2000 + n).astype(np.float16)
        for n in range(tensors)
    }
    arrays |= {f"block.{n}.bias": np.float32([seed, n]) for n in range(tensors)}
    return save(arrays)


A, B = model(1), model(2)


def places(server: Loopback, kind: str) -> list[str]:
    if kind == "web":
        return [f"{server.url}/bucket/{name}.safetensors?token=hidden" for name in "ab"]
    start = "s3://bucket/{}" if kind == "s3" else "hf://org/{0}/{0}"
    return [start.format(name) + ".safetensors" for name in "ab"]


def local_root(tmp_path: Path) -> str:
    """The digest of the soup of the same checkpoints on disk."""
    for name, data in (("a", A), ("b", B)):
        (tmp_path / f"{name}.safetensors").write_bytes(data)
    (made,) = verbs.average(
        Request([tmp_path / "a.safetensors", tmp_path / "b.safetensors"], tmp_path / "local.st")
    )
    return made.ledger.root


def average(server: Loopback, kind: str, tmp_path: Path) -> str:
    (made,) = verbs.average(Request(places(server, kind), tmp_path / "soup.st"))
    return made.ledger.root
