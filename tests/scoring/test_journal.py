"""The journal of scores: what was recorded stays, and what was changed is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from soupctl.errors import LedgerError, OutputError
from soupctl.scoring.journal import open_journal

FACTS = {
    "command": "greedy",
    "ingredients": [{"digests": {"": "blake3:0"}, "name": "a.st", "weight": "1"}],
    "options": {"dtype": None},
    "scorer": "score {}",
}
PATH = Path("soup.st.greedy.jsonl")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def recorded() -> list[str]:
    """The lines of a journal of two scores."""
    with open_journal(PATH, FACTS, resume=False, replace=False) as journal:
        journal.record('["1"]', 0.1)
        journal.record('["2"]', -1e300)
    return PATH.read_text().splitlines(keepends=True)


def opened(**changes):
    """The scores of the journal that is there."""
    with open_journal(PATH, FACTS | changes, resume=True, replace=False) as journal:
        return journal.get('["1"]'), journal.get('["2"]')


def test_what_was_recorded_is_known_again(recorded):
    assert (0.1, -1e300) == opened()


def test_each_line_is_one_json_object(recorded):
    first, *rest = map(json.loads, recorded)

    assert FACTS | {"journal": 1, "digest": first["digest"]} == first
    assert [[0.1, ["1"]], [-1e300, ["2"]]] == [[x["score"], x["weights"]] for x in rest]


def test_a_new_journal_is_begun_where_there_is_none_to_resume():
    assert (None, None) == opened()
    assert (None, None) == opened()


def test_a_line_cut_short_anywhere_is_dropped_and_recorded_again(recorded):
    whole = PATH.read_bytes()
    last = len(recorded[-1])
    for cut in range(1, last):
        PATH.write_bytes(whole[:-cut])

        assert (0.1, None) == opened()
        with open_journal(PATH, FACTS, resume=True, replace=False) as journal:
            journal.record('["2"]', -1e300)
        assert whole == PATH.read_bytes()


def test_every_changed_byte_is_found(recorded):
    whole = PATH.read_bytes()
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1
        PATH.write_bytes(changed)
        if place == len(whole) - 1:
            # the end of the last line is what a kill may leave
            assert (0.1, None) == opened()
            continue

        with pytest.raises(LedgerError, match="is not the journal that was written: line"):
            opened()


@pytest.mark.parametrize(
    "order", [(0, 2), (0, 2, 1), (1, 2), (0, 1, 1, 2), (2,), (0, 0, 1)], ids=str
)
def test_lines_that_are_missing_twice_there_or_in_another_order_are_found(recorded, order):
    PATH.write_text("".join(recorded[place] for place in order))

    with pytest.raises(LedgerError, match="is not the journal that was written: line"):
        opened()


@pytest.mark.parametrize(
    "text", ["", "\n", "{}\n", "[]\n", "\0" * 9 + "\n", '{"digest":1}\n', "{" * 9000 + "\n"]
)
def test_anything_else_is_no_journal(text):
    PATH.write_text(text)

    with pytest.raises(LedgerError, match="is not the journal that was written: line 1"):
        opened()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"command": "rank"}, "of another command"),
        ({"scorer": "other {}"}, "of another scorer"),
        ({"options": {"dtype": "F32"}}, "of other options: dtype"),
        ({"ingredients": []}, "of other ingredients"),
    ],
)
def test_the_journal_of_something_else_is_refused_and_left_alone(recorded, changes, says):
    with pytest.raises(LedgerError, match=says):
        opened(**changes)

    assert "".join(recorded) == PATH.read_text()


def test_two_processes_do_not_write_one_journal(recorded):
    with (
        open_journal(PATH, FACTS, resume=True, replace=False),
        pytest.raises(OutputError, match="is written by another process"),
    ):
        opened()


def test_a_score_that_does_not_fit_the_disk_leaves_the_journal_whole(recorded, monkeypatch):
    plain = os.write

    def write(fd, data):
        if bytes(data).startswith(b'{"digest"') and len(data) > 9:
            return plain(fd, data[:9])
        raise OSError(28, "No space left on device")

    with (
        open_journal(PATH, FACTS, resume=True, replace=False) as journal,
        monkeypatch.context() as patch,
    ):
        patch.setattr(os, "write", write)
        with pytest.raises(OutputError, match="No space left"):
            journal.record('["3"]', 1.0)

    assert "".join(recorded) == PATH.read_text()


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("none")])
def test_what_is_no_regular_file_is_refused(make):
    make(PATH)

    with pytest.raises(OutputError):
        opened()
    with (
        pytest.raises(OutputError),
        open_journal(PATH, FACTS, resume=False, replace=True),
    ):
        pass
