"""Extract a LoRA from a fine-tuned checkpoint and its base: the nearest difference of a rank.

Rule 1: a LoRA is rounded and approximate; `delta` keeps the exact difference.
Rule 2: only matrices are in a LoRA; what else differs is listed, not passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from ..checkpoints.open import STREAM
from ..errors import LimitError, MismatchError, UsageError
from ..format.dtypes import DType
from ..format.header import Tensor, encode_header, lay_out
from ..frozen import frozen
from ..storage.atomic import publish_bytes
from .delta.make import open_delta_job, require_free
from .delta.passes import ComponentDelta, DeltaRequest
from .kept_sum.reader import Source, copied_tensor
from .step import Rule, Step

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..engines.low_rank import LowRank

ENDS = (".weight", "_weight")
"""Endings of the names of matrices; the rest is the name of the module."""
DTYPES = {DType.F16: "<f2", DType.F32: "<f4"}
"""The dtypes of factors."""


@frozen
class Extraction:
    """A LoRA to extract: everything that decides what is written, and the file."""

    fine: str | Path
    base: str | Path
    output: str | Path
    rank: int = 64
    """Most columns of a factor."""
    dtype: DType = DType.F16
    keys: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    component: str | None = None
    variant: str | None = None

    def __post_init__(self) -> None:
        """Refuse, with UsageError, an impossible rank, a dtype of no factors, and streams."""
        if type(self.rank) is not int or self.rank < 1:
            raise UsageError(
                f"{self.rank!r} is not a rank", advice="give a whole number above zero"
            )
        if self.dtype not in DTYPES:
            raise UsageError(f"factors of {self.dtype.value} are not written", advice="F16 or F32")
        if STREAM in (str(self.fine), str(self.base), str(self.output)):
            raise UsageError("a LoRA is extracted from files, into a file", advice="name them")


@frozen
class ExtractedLayer:
    """A matrix of the base whose difference is in a LoRA."""

    tensor: str
    rank: int
    energy: float
    """The squared norm of what the LoRA has of the difference, before it is rounded, over that of
    all of it."""


@frozen
class ExtractedLora:
    """A finished LoRA."""

    layers: tuple[ExtractedLayer, ...]
    left: tuple[str, ...]
    """Tensors that differ and are in no LoRA."""
    written: int
    """Bytes of the file."""


def extract_lora(asked: Extraction, *, force: bool = False) -> ExtractedLora:
    """Write the LoRA of a fine-tuned checkpoint, and say what of each difference is in it.

    Raises what `make_delta` raises, MismatchError if no matrix differs, and LimitError for a
    factor beyond the range of its dtype.
    """
    request = DeltaRequest(
        fine=asked.fine,
        base=asked.base,
        output=asked.output,
        keys=asked.keys,
        excludes=asked.excludes,
        component=asked.component,
        variant=asked.variant,
    )
    with open_delta_job(request) as job:
        delta = job.only
        require_free(job, force=force)
        layers, left = [], []
        data: dict[str, tuple[tuple[int, ...], bytes]] = {}
        for step in delta.plan.kept:
            if _are_equal(delta, step):
                continue
            if step.rule is not Rule.AVERAGE or len(step.shape) < 2 or _module(step.name) is None:
                left.append(step.name)
                continue
            found = _factors(delta, step, asked.rank)
            layers.append(ExtractedLayer(step.name, found.up.shape[1], found.energy))
            data.update(_stored(asked, step, found))
        if not layers:
            what = f"has no matrix that differs from those of {delta.inputs.checkpoints[0].label}"
            raise MismatchError(what, path=delta.inputs.checkpoints[1].label)
        job.inputs.require_unchanged()
        text = _file(data, asked.dtype)
        publish_bytes(Path(asked.output), text, replace=force)
    return ExtractedLora(tuple(layers), tuple(left), len(text))


def _module(name: str) -> str | None:
    """The module of a matrix; None for a tensor that is called otherwise."""
    return next((name.removesuffix(end) for end in ENDS if name.endswith(end)), None)


def _are_equal(delta: ComponentDelta, step: Step) -> bool:
    base, fine = (copied_tensor(each, step.name) for each in delta.sources)
    if base.tensor.dtype is not fine.tensor.dtype:
        return False
    return bytes(base.read()) == bytes(fine.read())


def _factors(delta: ComponentDelta, step: Step, rank: int) -> LowRank:
    """The factors of the difference of one tensor, [rows, all other dimensions]."""
    from ..engines.low_rank import low_rank

    base, fine = (_values(source, step) for source in delta.sources)
    return low_rank(fine - base, rank)


def _values(source: Source, step: Step) -> NDArray[np.float64]:
    """The values of a tensor as a matrix; MismatchError for NaN or infinity."""
    import numpy as np

    from ..engines.update_mean import widened

    stored = copied_tensor(source, step.name)
    values = widened(memoryview(stored.read()), stored.tensor.dtype)
    if not np.isfinite(values).all():
        raise MismatchError("holds NaN or infinity", path=source.label, tensor=step.name)
    return values.reshape(step.shape[0], prod(step.shape[1:]))


def _stored(
    asked: Extraction, step: Step, found: LowRank
) -> Iterator[tuple[str, tuple[tuple[int, ...], bytes]]]:
    """The two tensors of a module by their names in PEFT, each with its shape and bytes.

    Without an alpha, the scale of a LoRA is 1.
    """
    import numpy as np

    rank, places = found.up.shape[1], (1,) * (len(step.shape) - 2)
    shapes = {"A": (rank, *step.shape[1:]), "B": (step.shape[0], rank, *places)}
    for letter, values in (("A", found.down), ("B", found.up)):
        with np.errstate(over="ignore"):
            rounded = np.ascontiguousarray(values).astype(DTYPES[asked.dtype])
        if not np.isfinite(rounded).all():
            what = f"has a difference whose factors are beyond the range of {asked.dtype.value}"
            raise LimitError(what, tensor=step.name, advice="write factors of F32")
        name = f"{_module(step.name)}.lora_{letter}.weight"
        yield name, (shapes[letter], rounded.tobytes())


def _file(data: dict[str, tuple[tuple[int, ...], bytes]], dtype: DType) -> bytes:
    """The safetensors file of these tensors."""
    entries = [(name, dtype, shape) for name, (shape, _) in sorted(data.items())]
    tensors: tuple[Tensor, ...] = lay_out(entries)
    header = encode_header(tensors, {"format": "pt"})
    return b"".join([header, *(data[tensor.name][1] for tensor in tensors)])
