"""Reading tensors of files elsewhere in the order of their names, ahead of need.

Rule 1: only bytes of tensors are read, in blocks that tensors next to each other share, and each
once, if tensors are read in order.
Rule 2: blocks are read several at once, in the order in which a checkpoint is read, whatever files
it is in; where room is short, in smaller pieces.
Rule 3: a read out of order is right, only slower: no read waits for another to be used.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from operator import itemgetter

from ...errors import OutputError
from ...storage.elsewhere import FileElsewhere
from ...workers import needed_while, require_needed
from .blocks import Span, blocks
from .room import A_REQUEST, AN_ORDER, ROOM, HeldPiece

LARGEST_BLOCK = 4 << 20
"""Bytes of a block, and the most of one request."""
SMALLEST_BLOCK = 256 << 10
"""The most that is asked for at once where no room is left."""
AT_FIRST = 8
"""The first request for one of n checkpoints takes one part in this times n of all room."""
AHEAD = 16
"""Blocks that are looked at to be asked for ahead of the one that is needed."""
AT_ONCE = 8
"""Requests at one time."""
MOMENT = 0.2
"""Seconds after which it is looked whether a range is still needed."""


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(AT_ONCE, thread_name_prefix="soupctl-ahead")


class Version:
    """The version of a file elsewhere that was opened."""

    def __init__(self, file: FileElsewhere) -> None:
        self._file = file

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self._file is other._file

    def __hash__(self) -> int:
        return id(self._file)

    def is_at(self, _path: object) -> bool:
        """Whether the server still has it; InputError if it does not answer."""
        return self._file.is_unchanged()


class RangeBlock:
    """A part of a file that is asked for at once, or in pieces where room is short."""

    __slots__ = ("_missing", "_reader", "pieces", "place", "start", "stop")

    def __init__(self, reader: RangeReader, start: int, stop: int) -> None:
        self._reader = reader
        self.start, self.stop = start, stop
        self.place = 0
        """Its place in the order of reading."""
        self.pieces: tuple[HeldPiece, ...] = ()
        """The parts of it that are in memory, or asked for."""
        self._missing: tuple[Span, ...] | None = None

    @property
    def used(self) -> int:
        """Bytes of its checkpoint that were used."""
        return self._reader.order.used

    @property
    def missing(self) -> tuple[Span, ...]:
        """What was not asked for so far, or was let go and is needed again."""
        return ((self.start, self.stop),) if self._missing is None else self._missing

    def held(self, offset: int) -> HeldPiece | None:
        """The piece that holds a byte."""
        return next((each for each in self.pieces if each.start <= offset < each.stop), None)

    def missing_at(self, offset: int) -> Span:
        """What is missing around a byte that is not held."""
        for start, stop in self.missing:
            if start <= offset < stop:
                return start, stop
        # it was used or let go, and is needed again, probably with what follows
        starts = [each.start for each in self.pieces] + [start for start, _ in self.missing]
        again = offset, min((start for start in starts if start > offset), default=self.stop)
        self._missing = (*self.missing, again)
        return again

    def ask(self, start: int, stop: int, is_ahead: bool) -> HeldPiece:
        """Ask for a missing range."""
        halves = [half for a, b in self.missing for half in ((a, min(b, start)), (max(a, stop), b))]
        self._missing = tuple((a, b) for a, b in halves if a < b)
        future = _pool().submit(self._reader.fetch, start, stop)
        piece = HeldPiece(self, start, stop, future, is_ahead)
        self.pieces = (*self.pieces, piece)
        self._reader.order.ahead += piece.size * is_ahead
        ROOM.add(piece)
        return piece

    def lose(self, piece: HeldPiece) -> None:
        """Let go of a piece, which is asked for again only if it is needed."""
        self.pieces = tuple(each for each in self.pieces if each is not piece)
        self._reader.order.ahead -= piece.size * piece.is_ahead


class ReadOrder:
    """The order in which the files of one checkpoint are read, and how far that has got."""

    def __init__(self) -> None:
        self.ahead = 0
        """Bytes that were asked for, and not needed so far."""
        self.used = 0
        """Bytes that were used."""
        self._readers: list[RangeReader] = []
        self._open = 0
        self._blocks: list[RangeBlock] | None = None

    def add(self, reader: RangeReader) -> None:
        """Read a file with the others; all are added before the first is read."""
        self._readers.append(reader)
        ROOM.orders += not self._open
        self._open += 1

    def close_one(self) -> None:
        """Note that a file was closed."""
        self._open -= 1
        ROOM.orders -= not self._open

    def divide(self) -> None:
        """Divide all files into blocks, in the order of the names of the tensors in them."""
        if self._blocks is not None:
            return
        begun = [pair for reader in self._readers for pair in reader.divided()]
        # the blocks of one file stay in their order, which is that of names
        begun.sort(key=itemgetter(0))
        self._blocks = [block for _, block in begun]
        for place, block in enumerate(self._blocks):
            block.place = place

    def most(self) -> int:
        """The most bytes of the next request."""
        return min(LARGEST_BLOCK, ROOM.left // A_REQUEST, max(SMALLEST_BLOCK, self._trusted))

    @property
    def _trusted(self) -> int:
        """Bytes that are likely to be used: more, the more were used before."""
        return ROOM.size // (AT_FIRST * max(1, ROOM.orders)) + self.used

    def ask_ahead(self, place: int) -> None:
        """Ask for what follows a place in the order, as far as there is room."""
        assert self._blocks is not None
        for block in self._blocks[place : place + AHEAD]:
            for start, stop in block.missing:
                at = start
                while at < stop:
                    size = min(stop - at, self.most())
                    most = min(ROOM.left // AN_ORDER, 2 * self._trusted)
                    if size < min(stop - at, SMALLEST_BLOCK) or self.ahead + size > most:
                        return
                    block.ask(at, at + size, is_ahead=True)
                    at += size


class RangeReader:
    """Reads parts of one file, from several threads at once, until it is closed."""

    def __init__(
        self,
        file: FileElsewhere,
        spans: Mapping[str, Span],
        order: ReadOrder | None = None,
        first: bytes = b"",
    ) -> None:
        """Reader of the tensors that lie at `spans`, which are read in the order of their names.

        `order` is shared by the files of one checkpoint; `first` is what was read of the file.
        """
        self.file = file
        self.identity = None
        self.order = ReadOrder() if order is None else order
        self._spans = spans
        self._blocks: list[RangeBlock] = []
        self._starts: list[int] = []
        self._is_closed = False
        with ROOM.lock:
            self._first = first if ROOM.keep(len(first)) else b""
            self.order.add(self)

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill `buffer` with the bytes at `offset`.

        Raises InputError if they cannot be read, OutputError if the file has changed, ValueError
        after `close`.
        """
        if self._is_closed:
            raise ValueError("the file is closed")
        filled = 0
        while filled < len(buffer):
            filled += self._read_some(buffer[filled:], offset + filled)

    def _read_some(self, buffer: memoryview, offset: int) -> int:
        """Fill the beginning of `buffer`, and return how much of it."""
        if offset < len(self._first):
            size = min(len(self._first) - offset, len(buffer))
            buffer[:size] = memoryview(self._first)[offset:][:size]
            return size
        with ROOM.lock:
            piece = self._piece_at(offset, len(buffer))
        while not piece.future.done():
            require_needed()
            wait((piece.future,), MOMENT)
        try:
            data = piece.future.result()
        except BaseException:
            with ROOM.lock:
                ROOM.drop(piece)
            raise
        size = min(piece.stop - offset, len(buffer))
        buffer[:size] = memoryview(data)[offset - piece.start :][:size]
        with ROOM.lock:
            self.order.used += size
            ROOM.use(piece, size)
        return size

    def _piece_at(self, offset: int, needed: int) -> HeldPiece:
        """The piece that holds a byte, asked for if it is not held; what follows is, too."""
        self.order.divide()
        place = bisect_right(self._starts, offset) - 1
        if place < 0 or offset >= self._blocks[place].stop:
            raise OutputError("changed while it was read", path=self.file.address)
        block = self._blocks[place]
        piece = block.held(offset) or self._asked(block, offset, needed)
        self.order.ahead -= piece.size * piece.is_ahead
        ROOM.need(piece)
        self.order.ask_ahead(block.place)
        return piece

    def _asked(self, block: RangeBlock, offset: int, needed: int) -> HeldPiece:
        """The piece from a byte on that is not held, or from what is missing before it on."""
        ROOM.make_room()
        start, stop = block.missing_at(offset)
        needed = min(needed, stop - offset, SMALLEST_BLOCK)
        size = max(needed, self.order.most())
        at = start if offset + needed - start <= size else offset
        return block.ask(at, min(stop, at + size), is_ahead=False)

    def fetch(self, start: int, stop: int) -> bytes | bytearray:
        """The bytes of a range, while the file is open; the errors of `read_into`."""
        with needed_while(lambda: not self._is_closed):
            return self.file.read(start, stop)

    def divided(self) -> list[tuple[str, RangeBlock]]:
        """Its blocks in the order of reading, each with the name of the tensor that begins it."""
        names = sorted(self._spans)
        begin = len(self._first)
        # what was read already is not asked for again
        every = (self._spans[name] for name in names)
        spans = [(max(begin, start), max(begin, stop)) for start, stop in every]
        begun = [
            (names[number], RangeBlock(self, *span))
            for number, span in blocks(spans, LARGEST_BLOCK)
        ]
        self._blocks = sorted((block for _, block in begun), key=lambda block: block.start)
        self._starts = [block.start for block in self._blocks]
        self._spans = {}
        return begun

    def close(self) -> None:
        """Let go of all that is held; nothing can be read any more."""
        with ROOM.lock:
            if self._is_closed:
                return
            self._is_closed = True
            self.order.close_one()
            ROOM.free(len(self._first))
            self._first = b""
            for piece in [piece for block in self._blocks for piece in block.pieces]:
                piece.future.cancel()
                ROOM.drop(piece)
