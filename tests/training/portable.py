"""Builds tiny bases and shards in the named folder, and prints a fingerprint of the arithmetic.

Rule 1: instructions that only some CPUs have are off, so that as many as possible agree. Two that
agree on the fingerprint are expected to agree on what training and sampling compute.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import tiny_bases
import torch
from torch.nn import functional


def computed() -> Iterator[torch.Tensor]:
    """Results of the operations that denoisers and optimizers are made of."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2, 8, 9, 9, generator=generator).requires_grad_()
    weight = torch.randn(8, 8, 3, 3, generator=generator).requires_grad_()
    for kind in (torch.float32, torch.bfloat16):
        with torch.autocast("cpu", torch.bfloat16, enabled=kind == torch.bfloat16):
            convolved = functional.conv2d(images, weight, padding=1)
            hidden = functional.silu(functional.group_norm(convolved, 4))
            rows = hidden.flatten(2).transpose(1, 2)
            attended = functional.scaled_dot_product_attention(rows, rows, rows)
            out = functional.gelu(attended @ weight[:, :, 1, 1]).softmax(-1).exp().log()
        out.float().pow(2).mean().backward()
        yield from (convolved, hidden, attended, out, images.grad, weight.grad)
    torch.optim.AdamW([weight], 1e-2).step()
    yield weight


def fingerprint(folder: Path) -> str:
    """A digest of those results and of the images in a folder, as Pillow saved them."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.png")):
        digest.update(path.read_bytes())
    for tensor in computed():
        digest.update(tensor.detach().float().numpy().tobytes())
    return digest.hexdigest()


def build(folder: Path) -> None:
    """A base of each family, and shards of images with captions and in classes."""
    tiny_bases.quieten()
    for family in ("text", "class", "dit", "plain"):
        getattr(tiny_bases, f"{family}_base")(folder / family)
    tiny_bases.captioned_shard(folder / "captioned")
    tiny_bases.class_shard(folder / "classes")


def main(folder: str) -> None:
    """Build them, and write the fingerprint to standard output."""
    build(Path(folder))
    sys.stdout.write(fingerprint(Path(folder)))
