"""What a prompt bank lets a person choose from; every command loads it, so nothing else is here."""

from __future__ import annotations

from enum import StrEnum


class Balance(StrEnum):
    """Over what the gates of a prompt bank are to be flat."""

    AS_CODED = "as-coded"
    """Over the prompts, for every sample, once the blocks are summed."""
    OVER_BATCH = "over-batch"
    """Over the prompts, in every block, once the samples are summed."""


class Preset(StrEnum):
    """Several options at once."""

    OFFICIAL = "official"
    """What the released code of Diffusion Model Patching does."""
