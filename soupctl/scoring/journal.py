"""The journal of scores: one JSON object a line, each on disk before the next candidate is made.

Rule 1: the first line says what is scored: contents of the ingredients, scorer and options. A
journal of anything else is never continued.
Rule 2: every line is bound to all before it by a digest, so that a changed, added or missing line
is found; a last line that was cut off by a kill is dropped.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..checkpoints.digest import text_digest
from ..errors import LedgerError, OutputError
from ..format.strict_json import decode, parse_object
from ..frozen import frozen
from ..ledger.sealed import canonical
from ..storage.atomic import publish_bytes
from ..storage.files import pieces, read_file
from ..storage.place import FOLDER, refusing, sync_folder

FORMAT = 1
LARGEST = 1 << 30
"""Bytes of a journal that is shown."""
CONTINUES = "--resume goes on with it, -f begins again"
ANEW = "-f begins again, without --resume"
Key = str
"""The weights of a candidate, as canonical JSON."""


class Journal:
    """The scores that are known, and the open file that gets new ones."""

    def __init__(self, path: Path, fd: int, facts: Mapping[str, Any]) -> None:
        self._path = path
        self._fd = fd
        self._facts = facts
        self._digest = ""
        """Of the last line."""
        self._scores: dict[Key, float] = {}

    def get(self, key: Key) -> float | None:
        """The recorded score of a candidate; None if it was not scored."""
        return self._scores.get(key)

    def record(self, key: Key, score: float) -> None:
        """Append a score, on disk when this returns; OutputError."""
        self._append({"score": score, "weights": json.loads(key)})
        self._scores[key] = score

    def __len__(self) -> int:
        return len(self._scores)

    def _append(self, body: Mapping[str, Any]) -> None:
        line, digest = _line(body, self._digest)
        with refusing(self._path):
            end = os.fstat(self._fd).st_size
            try:
                rest = memoryview(line)
                while rest:
                    rest = rest[os.write(self._fd, rest) :]
                os.fsync(self._fd)
            except OSError:
                # half a line would be dropped later; the next one must not be joined to it
                with suppress(OSError):
                    os.ftruncate(self._fd, end)
                raise
        self._digest = digest

    def read(self) -> None:
        """Read what is recorded, and cut off an unfinished last line.

        Raises LedgerError for a journal of something else, or one that was changed.
        """
        with refusing(self._path):
            size = os.fstat(self._fd).st_size
            raw = b"".join(pieces(self._fd, size, self._path))
        *lines, rest = raw.split(b"\n")
        for number, line in enumerate(lines, 1):
            self._read_line(line, number)
        if rest:
            with refusing(self._path):
                os.ftruncate(self._fd, size - len(rest))
        if not lines:
            raise self._damaged(1)

    def _read_line(self, line: bytes, number: int) -> None:
        try:
            body = parse_object(decode(line))
            digest = body.pop("digest")
            whole = _line(body, self._digest)
        except (ValueError, KeyError):
            raise self._damaged(number) from None
        if whole != (line + b"\n", digest):
            raise self._damaged(number)
        self._digest = digest
        if number == 1:
            self._require_same(body)
            return
        if body.keys() != {"score", "weights"} or not isinstance(body["score"], int | float):
            raise self._damaged(number)
        self._scores[canonical(body["weights"])] = float(body["score"])

    def _damaged(self, number: int) -> LedgerError:
        return _damaged(self._path, number, ANEW)

    def _require_same(self, found: Mapping[str, Any]) -> None:
        """Raise LedgerError unless the first line has the facts of this request."""
        if found.get("journal") != FORMAT:
            what = "is no journal of scores that this version reads"
            raise LedgerError(what, path=self._path, advice=ANEW)
        # JSON has no tuples
        expected = json.loads(json.dumps(self._facts))
        for name, kind in (
            ("command", "of another command"),
            ("scorer", "of another scorer"),
            ("options", "of other options"),
            ("ingredients", "of other ingredients"),
        ):
            if found.get(name) != expected[name]:
                what = f"is the journal {kind}{_differing(name, found.get(name), expected[name])}"
                raise LedgerError(what, path=self._path, advice=ANEW)


def _differing(name: str, found: Any, expected: Any) -> str:
    """Which ingredient or option differs, as the end of a message."""
    if name == "ingredients" and isinstance(found, list) and len(found) == len(expected):
        for old, new in zip(found, expected, strict=True):
            if old != new:
                same = isinstance(old, dict) and old.get("name") == new["name"]
                return f": {new['name']} {'has changed' if same else 'is new'}"
    if name == "options" and isinstance(found, dict):
        every = sorted({*found, *expected})
        return f": {', '.join(each for each in every if found.get(each) != expected.get(each))}"
    return ""


def _line(body: Mapping[str, Any], before: str) -> tuple[bytes, str]:
    """A line with the digest that binds it to the one before, and that digest."""
    digest = text_digest(f"{before}\n{canonical(body)}")
    return f"{canonical({**body, 'digest': digest})}\n".encode(), digest


@frozen
class RecordedScores:
    """What a journal of a command records."""

    path: Path
    command: str
    minimize: bool
    """Whether a smaller score is better."""
    ingredients: tuple[str, ...]
    scores: tuple[tuple[tuple[Any, ...], float], ...]
    """The weights of each candidate, in the order of the ingredients, and its score."""

    @property
    def best(self) -> int | None:
        """The index of the first of the best scores; None if there are none."""
        if not self.scores:
            return None
        sign = 1 if self.minimize else -1
        return min(range(len(self.scores)), key=lambda place: sign * self.scores[place][1])


def read_scores(path: Path) -> RecordedScores:
    """The scores in a journal, which may still be written; its last line may be unfinished.

    Raises InputError for a file that cannot be read, LedgerError for one that is no journal, or
    was changed.
    """
    *lines, _ = read_file(path, limit=LARGEST).split(b"\n")
    before, bodies = "", []
    for number, line in enumerate(lines, 1):
        try:
            body = parse_object(decode(line))
            digest = body.pop("digest")
            whole = _line(body, before)
        except (ValueError, KeyError):
            raise _damaged(path, number, None) from None
        if whole != (line + b"\n", digest):
            raise _damaged(path, number, None)
        before = digest
        bodies.append(body)
    try:
        facts, *scores = bodies
        if facts["journal"] != FORMAT:
            raise ValueError("is no journal of this version")
        names = tuple(str(each["name"]) for each in facts["ingredients"])
        return RecordedScores(
            path,
            str(facts["command"]),
            bool(facts["options"]["minimize"]),
            names,
            tuple(_scored(each["weights"], each["score"], len(names)) for each in scores),
        )
    except (ValueError, KeyError, TypeError):
        raise LedgerError("is no journal of scores", path=path) from None


def _scored(weights: Any, score: Any, count: int) -> tuple[tuple[Any, ...], float]:
    """A candidate of so many ingredients with its score; ValueError or TypeError for another."""
    by_block = bool(weights) and isinstance(weights[0], list)
    if any(len(row) != count for row in (weights if by_block else [weights])):
        raise ValueError("its weights are not those of its ingredients")
    if not isinstance(score, int | float):
        raise TypeError("its score is no number")
    return tuple(weights), float(score)


def _damaged(path: Path, number: int, advice: str | None) -> LedgerError:
    what = f"is not the journal that was written: line {number} was changed"
    return LedgerError(what, path=path, advice=advice)


@contextmanager
def open_journal(
    path: Path, facts: Mapping[str, Any], *, resume: bool, replace: bool
) -> Iterator[Journal]:
    """The journal at `path`, locked: a new one, or with `resume` the one that is there.

    `facts` have the names command, scorer, options and ingredients. Raises OutputError for an
    existing journal with neither `resume` nor `replace`, and for one that another process writes;
    LedgerError for one of other facts.
    """
    if not resume or not os.path.lexists(path):
        _require_free(path, replace=replace)
        line, _ = _line({"journal": FORMAT, **facts}, "")
        publish_bytes(path, line, replace=replace)
    with refusing(path):
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        _lock(fd, path)
        journal = Journal(path, fd, facts)
        journal.read()
        with refusing(path):
            folder = os.open(Path(os.path.realpath(path)).parent, FOLDER)
            try:
                sync_folder(folder)
            finally:
                os.close(folder)
        yield journal
    finally:
        os.close(fd)


def _require_free(path: Path, *, replace: bool) -> None:
    """Raise OutputError for an existing file, unless it is a journal to replace."""
    if not os.path.lexists(path):
        return
    if not replace:
        raise OutputError("exists", path=path, advice=CONTINUES)
    with refusing(path):
        is_journal = stat.S_ISREG(path.stat().st_mode) and _begins_like_one(path)
    if not is_journal:
        raise OutputError("is no journal, and is not replaced", path=path)


BEGINNING = b'{"command":'


def _begins_like_one(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(BEGINNING)) == BEGINNING


def _lock(fd: int, path: Path) -> None:
    """Lock an open journal; OutputError if another process has it, or replaced it meanwhile."""
    with refusing(path):
        state = os.fstat(fd)
        if not stat.S_ISREG(state.st_mode):
            raise OutputError("is not a regular file", path=path)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError("is written by another process", path=path) from None
        except OSError as error:
            # a file system without locks
            if error.errno not in (errno.EBADF, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
                raise
        if not os.path.samestat(state, path.stat()):
            raise OutputError("was replaced by another process meanwhile", path=path)
