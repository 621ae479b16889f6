"""The steps of a plan: what becomes of each tensor."""

from __future__ import annotations

from enum import Enum

from ..format.dtypes import DType
from ..format.scales import CodeScale
from ..frozen import frozen
from ..kinds.kind import WEIGHT, TensorKind
from .step_weights import StepWeights


class Rule(Enum):
    """The treatment of a tensor."""

    AVERAGE = "averaged"
    IDENTICAL = "copied, must be identical in all"
    FIRST = "taken from the first ingredient"
    TAKEN = "taken from one ingredient by --take"
    LEFT_OUT = "left out by --key or --exclude"
    READ = "read with the codes that it belongs to"


@frozen
class Step:
    """One tensor of the soup, or one that is only digested."""

    name: str
    shape: tuple[int, ...]
    rule: Rule
    sources: tuple[int, ...]
    """Indices of the ingredients that hold the tensor; of a taken tensor, its one source."""
    dtypes: tuple[DType, ...]
    """Its dtype in each of `sources`; for codes, the dtype that they count as."""
    out: DType | None
    """Its dtype in the soup; None if it is left out."""
    weights: StepWeights
    """The weights of `sources`; a source that does not count is digested, but not combined."""
    kind: TensorKind = WEIGHT
    """Its kind; a plain weight if it is left out, unless it must equal the tensor that is kept,
    rounded."""
    scales: tuple[CodeScale | None, ...] = ()
    """The scales of its codes in each of `sources`; empty if it is nowhere quantised."""
    is_quantised: bool = False
    """Whether the soup stores it as codes with a scale."""
