"""Content digests: BLAKE3 of each tensor's bytes, and one root over all tensors.

Rule 1: the root is BLAKE3 over the canonical JSON `[[name,dtype,shape,digest],...]`, without
spaces, in UTF-8, rows in the order of their UTF-8 names. So it depends neither on the order of the
data nor on shards, padding or metadata.
Rule 2: ledgers hold such digests; a change to either form is a new ledger format.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from json.encoder import encode_basestring as quoted

from blake3 import blake3

PREFIX = "blake3:"

# name, dtype name, shape, hexadecimal digest of the data
Row = tuple[str, str, Sequence[int], str]


def tensor_hasher() -> blake3:
    """A hasher to `update` with a tensor's bytes in order; its `hexdigest()` goes into the root."""
    return blake3()


def root_of(rows: Iterable[Row]) -> str:
    """The root of the tensors that `rows` describe, given in any order."""
    hasher = RootHasher()
    for row in sorted(rows, key=lambda row: row[0]):
        hasher.add(*row)
    return hasher.digest()


def text_digest(text: str) -> str:
    """The digest of a text's UTF-8 bytes, as `blake3:` and 64 hexadecimal digits."""
    return PREFIX + str(blake3(text.encode("utf-8")).hexdigest())


def data_digest(data: memoryview) -> str:
    """The digest of a tensor's bytes, as that of `tensor_hasher`."""
    return str(blake3(data).hexdigest())


def row_starts(names: Sequence[str], dtype: str, shapes: Sequence[Sequence[int]]) -> list[str]:
    """The text of rows up to their digests, for tensors of one dtype."""
    named = quoted(dtype)
    # the same text as json.dumps, which would make a new encoder for each row
    return [
        f"[{quoted(name)},{named},[{','.join(map(str, shape))}],"
        for name, shape in zip(names, shapes, strict=True)
    ]


class RootHasher:
    """Computes the root of tensors that are added one at a time, in the order of their names."""

    def __init__(self) -> None:
        self._hasher = blake3(b"[")
        self._last: str | None = None

    def add(self, name: str, dtype: str, shape: Sequence[int], digest: str) -> None:
        """Add the next tensor; ValueError if its name does not sort after the last one."""
        self.add_rows([name], row_starts([name], dtype, [shape]), [digest])

    def add_rows(self, names: Sequence[str], starts: Sequence[str], digests: Sequence[str]) -> None:
        """Add the next tensors, at least one, whose rows begin with `starts`; see `add`."""
        last = self._last
        for name in names:
            # code points order as their UTF-8 bytes do
            if last is not None and name <= last:
                raise ValueError(f"{name!r} does not come after {last!r}")
            last = name
        rows = ",".join(
            [f'{start}"{digest}"]' for start, digest in zip(starts, digests, strict=True)]
        )
        text = rows if self._last is None else "," + rows
        self._last = last
        self._hasher.update(text.encode("utf-8"))

    def digest(self) -> str:
        """The root of the tensors added so far, as `blake3:` and 64 hexadecimal digits."""
        whole = self._hasher.copy()
        whole.update(b"]")
        return PREFIX + str(whole.hexdigest())
