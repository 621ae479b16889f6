"""A conversion as it is asked: everything that decides the bytes of the output."""

from __future__ import annotations

from pathlib import Path

from ..choices import ConvertQuantization, Layout
from ..errors import UsageError
from ..format.dtypes import DType, parse_dtype
from ..format.header import METADATA
from ..frozen import frozen
from ..ledger.ledger import LEDGER_KEY

RESERVED = f"{LEDGER_KEY}."
"""Prefix of the keys of metadata that soupctl writes itself."""


@frozen
class ConvertRequest:
    """A checkpoint to convert, and how."""

    source: str | Path
    """A file, a folder, or `-` for standard input."""
    output: str | Path
    """A file, a folder, or `-` for standard output; a name that ends in .gguf makes such a file."""
    dtype: DType | None = None
    """The float dtype of all weights; None to keep each tensor's."""
    dtype_for: tuple[tuple[str, DType], ...] = ()
    """Globs with the float dtype of weights that match; the first match counts."""
    quantize: ConvertQuantization | None = None
    """The quantisation of linear layers."""
    layout: Layout | None = None
    """The names and the division of the tensors; None to keep those of the input."""
    entry: str | None = None
    """The entry with the tensors, in a checkpoint that torch has saved; None for the usual one."""
    keys: tuple[str, ...] = ()
    """Globs; a tensor is converted if one matches its name, or if there are no globs."""
    excludes: tuple[str, ...] = ()
    """Globs; a tensor is left out if one matches its name."""
    metadata: tuple[tuple[str, str], ...] = ()
    """Keys and values of metadata to set."""
    without_metadata: tuple[str, ...] = ()
    """Keys of metadata to leave out."""
    shard_size: int | None = None
    """Most bytes of data in one file of the output, which is then a folder."""
    config_from: str | Path | None = None
    """A pipeline whose configs and tokenizers the new pipeline gets."""
    component: str | None = None
    variant: str | None = None
    allow_nonfinite: bool = False
    """Whether NaN and infinity may be cast to another dtype; they may always be copied."""
    ignore_ledger: bool = False

    def __post_init__(self) -> None:
        """Raise UsageError for a dtype that is not a float, and for keys that cannot be set."""
        for dtype in filter(None, (self.dtype, *(dtype for _, dtype in self.dtype_for))):
            parse_dtype(dtype.value)
        if self.quantize is not None and self.allow_nonfinite:
            raise UsageError("--quantize and --allow-nonfinite exclude each other")
        named = [key for key, _ in self.metadata]
        for key in (*named, *self.without_metadata):
            if key in ("", LEDGER_KEY, METADATA) or key.startswith(RESERVED):
                what = f"{key!r} is not a key of metadata that can be set or left out"
                raise UsageError(what, advice="--ignore-ledger leaves out a ledger")
        if twice := [key for key in named if named.count(key) > 1]:
            raise UsageError(f"--set gives {twice[0]!r} more than once")
        if both := [key for key in named if key in self.without_metadata]:
            raise UsageError(f"--set and --unset both name {both[0]!r}")

    @property
    def makes_gguf(self) -> bool:
        """Whether the name of the output asks for a GGUF file."""
        return str(self.output).lower().endswith(".gguf")

    @property
    def changes_values(self) -> bool:
        """Whether values are read, so that quantised weights are no longer copied as codes."""
        return self.dtype is not None or self.quantize is not None or bool(self.dtype_for)
