"""The memory for what is read ahead from servers, shared by all files that are open.

Rule 1: nobody waits for room. Where none is left, only what is needed at once is asked for.
Rule 2: a request takes a quarter of the room that is left, and all that is read ahead for one
checkpoint half of it: so those that are read at one time share it evenly, however many are open.
Rule 3: where room is short, what seems not to be needed is let go.
"""

from __future__ import annotations

from concurrent.futures import Future
from threading import Lock
from typing import Protocol

HELD = 60 << 20
"""Bytes; what threads need at once where no room is left comes on top, and is much less."""
A_REQUEST = 4
"""A request takes one part in this many of the room that is left."""
AN_ORDER = 2
"""What is read ahead for one checkpoint takes one part in this many of it."""
SHORT = 4
"""Room is short if less than one part in this many is left."""
KEPT = 4
"""What is kept until files are closed takes at most one part in this many of all room."""
PASSED = 2
"""A piece that its checkpoint passed over is let go after so many times all room was read of it."""
IDLE = 16
"""A piece of a checkpoint that is not read on is let go after so many times all room was read."""


class Holder(Protocol):
    """Holds pieces."""

    @property
    def used(self) -> int:
        """Bytes of its checkpoint that were used."""

    def lose(self, piece: HeldPiece) -> None:
        """Let go of a piece."""


class HeldPiece:
    """A range of a file that was asked for, and is held until all its bytes were used."""

    __slots__ = ("future", "holder", "is_ahead", "left", "seen", "start", "stop")

    def __init__(
        self,
        holder: Holder,
        start: int,
        stop: int,
        future: Future[bytes | bytearray],
        is_ahead: bool,
    ) -> None:
        self.holder, self.future = holder, future
        self.start, self.stop = start, stop
        self.is_ahead = is_ahead
        """Whether none of it was needed so far."""
        self.left = stop - start
        """Bytes that were not used."""
        self.seen = (0, 0)
        """Bytes of its checkpoint and of all that were used before it was needed last."""

    @property
    def size(self) -> int:
        """Its bytes."""
        return self.stop - self.start


class Room:
    """What all readers hold together. Its methods are called by the holder of `lock`."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.lock = Lock()
        self.orders = 0
        """How many checkpoints are open."""
        self.held = 0
        """Bytes of all pieces, and of what is kept."""
        self._kept = self._used = self._looked = 0
        self._pieces: dict[HeldPiece, None] = {}

    @property
    def left(self) -> int:
        """Bytes that may be asked for besides what is needed at once."""
        return max(0, self.size - self.held)

    def keep(self, size: int) -> bool:
        """Whether there is room for what is kept until a file is closed; if so, it is taken."""
        fits = self._kept + size <= self.size // KEPT
        if fits:
            self._kept += size
            self.held += size
        return fits

    def free(self, size: int) -> None:
        """Free the room that `keep` took."""
        self._kept -= size
        self.held -= size

    def add(self, piece: HeldPiece) -> None:
        """Hold a piece that was asked for."""
        piece.seen = piece.holder.used, self._used
        self._pieces[piece] = None
        self.held += piece.size

    def need(self, piece: HeldPiece) -> None:
        """Note that a piece is needed now."""
        piece.is_ahead = False
        piece.seen = piece.holder.used, self._used

    def use(self, piece: HeldPiece, size: int) -> None:
        """Note that bytes of a piece were used, and let go of it once all were."""
        self._used += size
        piece.left -= size
        if piece.left <= 0:
            self.drop(piece)

    def drop(self, piece: HeldPiece) -> None:
        """Let go of a piece."""
        if piece in self._pieces:
            del self._pieces[piece]
            self.held -= piece.size
            piece.holder.lose(piece)

    def make_room(self) -> None:
        """Let go of pieces that seem not to be needed, where room is short."""
        is_short = self.left < self.size // SHORT
        # looked for now and then only, because there may be many
        if not is_short or self._used < self._looked + self.size // KEPT:
            return
        self._looked = self._used
        for piece in [*self._pieces]:
            own, every = piece.seen
            is_passed = piece.holder.used - own > PASSED * self.size
            is_idle = self._used - every > IDLE * self.size
            if piece.future.done() and (is_passed or is_idle):
                self.drop(piece)


ROOM = Room(HELD)
