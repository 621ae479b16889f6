"""Rows of Parquet and Arrow files, read with pyarrow, the only library of the extra `data`.

Rule 1: rows are read a few at a time, so that a file of any size takes little memory.
Rule 2: any failure of pyarrow to read a file is an InputError that names the file.
Rule 3: what an Arrow file holds is checked before it is used, because pyarrow trusts its offsets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import InputError, LimitError
from ..storage.regular import open_regular

AT_ONCE = 16
"""Rows in memory; one may hold an image."""
PARQUET = ".parquet"


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The open file, with the errors of pyarrow turned into InputErrors about it."""
    try:
        import pyarrow as pa  # noqa: PLC0415
    except ImportError:
        raise LimitError(
            f"{path.suffix} files need a package that is not installed: pyarrow",
            path=path,
            advice="pip install 'soupctl[data]'",
        ) from None
    with open_regular(path) as (fd, _), open(fd, "rb", closefd=False) as file:
        try:
            yield file
        except (pa.ArrowException, OSError, ValueError, TypeError, OverflowError) as error:
            reason = (str(error).strip() or type(error).__name__).partition("\n")[0]
            raise InputError(f"cannot be read: {reason}", path=path) from error


def read_rows(path: Path, wanted: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet or Arrow file as Python values, with all or the `wanted` columns.

    Raises InputError for a file that cannot be read, LimitError without pyarrow.
    """
    with _opened(path) as file:
        for batch in _batches(path, file, wanted):
            yield from batch.to_pylist()


def read_columns(path: Path) -> list[tuple[str, Any]]:
    """Name and type of each column of a Parquet or Arrow file; raises the errors of `read_rows`."""
    with _opened(path) as file:
        if path.suffix == PARQUET:
            import pyarrow.parquet  # noqa: PLC0415

            schema = pyarrow.parquet.read_schema(file)
        else:
            schema = _arrow_reader(file).schema
        return [(str(each.name), each.type) for each in schema]


def _batches(path: Path, file: BinaryIO, wanted: Sequence[str] | None) -> Iterator[Any]:
    if path.suffix == PARQUET:
        import pyarrow.parquet  # noqa: PLC0415

        opened = pyarrow.parquet.ParquetFile(file)
        known = set(opened.schema_arrow.names)
        columns = None if wanted is None else [name for name in wanted if name in known]
        yield from opened.iter_batches(AT_ONCE, columns=columns)
        return
    reader = _arrow_reader(file)
    for batch in _arrow_batches(reader):
        batch.validate(full=True)
        known = set(batch.schema.names)
        chosen = (
            batch if wanted is None else batch.select([each for each in wanted if each in known])
        )
        for start in range(0, chosen.num_rows, AT_ONCE):
            yield chosen.slice(start, AT_ONCE)


def _arrow_reader(file: BinaryIO) -> Any:
    """A reader of Arrow's stream format, as `datasets` saves it, or of its file format."""
    import pyarrow as pa  # noqa: PLC0415

    is_file = file.read(6) == b"ARROW1"
    file.seek(0)
    return pa.ipc.open_file(file) if is_file else pa.ipc.open_stream(file)


def _arrow_batches(reader: Any) -> Iterator[Any]:
    if not hasattr(reader, "num_record_batches"):
        yield from reader
        return
    for number in range(reader.num_record_batches):
        yield reader.get_batch(number)
