"""The studies of held-out losses, and the runs that start from a converged base in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Size:
    """How large a study is."""

    images: tuple[int, int, int]
    """The numbers of images to train on, for validation and for the test."""
    shape: Mapping[str, int]
    """Fields of the config of the DiT."""
    batch: int
    rate: float
    """The learning rate of the bases."""
    schedule: str
    """The schedule of that rate."""
    chunk: int
    """Steps of a base between two measurements of its validation loss."""
    patience: int
    """Chunks without progress until a base counts as converged."""
    most: int
    """Chunks after which a base is taken as it is."""
    steps: int
    """Steps of each arm."""
    draws: int
    """Triples of an image in each quarter of the timesteps."""


SMALL_DIT = {
    "num_attention_heads": 4,
    "attention_head_dim": 16,
    "num_layers": 3,
    "patch_size": 2,
}
TINY_DIT = {
    "num_attention_heads": 1,
    "attention_head_dim": 8,
    "num_layers": 1,
    "patch_size": 4,
}

STUDIES = {
    # the base overfits: its validation loss has a minimum, and that checkpoint is used
    "few": Size(
        (160, 437, 1200),
        SMALL_DIT,
        batch=32,
        rate=3e-3,
        schedule="constant",
        chunk=1000,
        patience=2,
        most=10,
        steps=1000,
        draws=4,
    ),
    # the base would keep improving for hours, so its learning rate decays to zero
    "many": Size(
        (1117, 240, 440),
        SMALL_DIT,
        batch=32,
        rate=3e-3,
        schedule="cosine",
        chunk=5000,
        patience=1,
        most=1,
        steps=1000,
        draws=6,
    ),
}
QUICK = Size(
    (8, 8, 8),
    TINY_DIT,
    batch=2,
    rate=1e-3,
    schedule="constant",
    chunk=1,
    patience=1,
    most=2,
    steps=1,
    draws=2,
)


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to train further from a converged base."""

    words: tuple[str, ...]
    """The command, and what it is given besides base, data, output, steps, batch, seed and rate."""
    rates: tuple[float, ...]
    """Learning rates of which one is chosen."""
    uniform: bool = False
    """Whether its bank has a gate that weighs all positions alike, and is never trained."""


BANK_RATES = (1e-4, 1e-3, 1e-2)
ARMS = {
    "finetune": Arm(("finetune",), (1e-5, 1e-4, 1e-3)),
    "patch-dmp": Arm(("patch-dmp",), BANK_RATES),
    "patch-dmp, official": Arm(("patch-dmp", "--preset", "official"), BANK_RATES),
    "patch-dmp, uniform gate": Arm(("patch-dmp",), BANK_RATES, uniform=True),
}
