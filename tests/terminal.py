"""A terminal that a command can be given as one of its streams."""

from __future__ import annotations

import os
import threading
from pathlib import Path


class Terminal:
    """A pseudo-terminal and what was written to it."""

    def __init__(self) -> None:
        self.master, self.slave = os.openpty()
        self.path = Path(os.ttyname(self.slave))
        self._shown = bytearray()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        # on Linux, the other end's closing is an error
        try:
            while part := os.read(self.master, 4096):
                self._shown += part
        except OSError:
            return

    def shown(self) -> bytes:
        """All of it, when those who write are gone."""
        os.close(self.slave)
        self._reader.join()
        os.close(self.master)
        return bytes(self._shown)
