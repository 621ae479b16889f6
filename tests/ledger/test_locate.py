"""A search finds ingredients by content, and digests each file at most once."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from making import save
from revising import root

import soupctl.ledger.locate
from soupctl.checkpoints.checkpoint import open_checkpoint
from soupctl.checkpoints.layout import Component
from soupctl.format.dtypes import DType
from soupctl.ledger.ledger import IngredientEntry
from soupctl.ledger.locate import FolderSearch

COUNT = 12


@pytest.fixture
def opened():
    """Opens a checkpoint at a path, and counts how often."""
    counts: Counter[Path] = Counter()
    with ExitStack() as stack:

        def open_at(path):
            counts[path] += 1
            found = open_checkpoint(Component("", str(path), (path,)))
            return stack.enter_context(found)

        yield open_at, counts


@pytest.fixture
def digested(monkeypatch):
    """How often each file was digested."""
    counts: Counter[str] = Counter()
    real = soupctl.ledger.locate.checkpoint_digest

    def counting(checkpoint):
        counts[checkpoint.label] += 1
        return real(checkpoint)

    monkeypatch.setattr(soupctl.ledger.locate, "checkpoint_digest", counting)
    return counts


def entry(path: Path, name: str, dtype: DType = DType.F32) -> IngredientEntry:
    return IngredientEntry(root(path), name, None, Fraction(1), ((dtype, 1),))


def test_a_search_for_many_renamed_files_digests_each_once(tmp_path, opened, digested):
    paths = [save(tmp_path / f"{n:02}.st", w=np.full(3, n, np.float32)) for n in range(COUNT)]
    wanted = [entry(path, "gone.st") for path in reversed(paths)]
    search = FolderSearch([tmp_path], opened[0])

    assert list(reversed(paths)) == [search.find(each).component.path for each in wanted]
    assert {1} == set(digested.values())
    assert {1} == set(opened[1].values())


def test_a_search_digests_no_file_of_other_dtypes(tmp_path, opened, digested):
    other = save(tmp_path / "a.st", w=np.ones(3, np.float16))
    path = save(tmp_path / "b.st", w=np.ones(3, np.float32))
    search = FolderSearch([tmp_path], opened[0])

    assert path == search.find(entry(path, "x.st")).component.path
    assert [str(path)] == list(digested)
    assert other == search.find(entry(other, "x.st", DType.F16)).component.path


def test_a_search_looks_at_files_of_the_right_name_first(tmp_path, opened, digested):
    save(tmp_path / "a.st", w=np.zeros(3, np.float32))
    path = save(tmp_path / "deep" / "z.st", w=np.ones(3, np.float32))
    save(tmp_path / "z.st", w=np.ones(3, np.float32))

    found = FolderSearch([tmp_path], opened[0]).find(entry(path, "deep/z.st"))

    assert path == found.component.path
    assert [str(path)] == list(digested)
