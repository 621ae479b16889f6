"""A folder of soups is verified whole or in part, and what was not read is said not to be."""

from __future__ import annotations

from fractions import Fraction
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from making import save, save_pipeline
from revising import average

from soupctl import verbs
from soupctl.choices import Proof
from soupctl.errors import UsageError
from soupctl.verbs import Share, SoupFolder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SoupFolder:
    """Six soups, an ingredient, and a folder that is no model."""
    monkeypatch.chdir(tmp_path)
    save(Path("soups/a.st"), w=np.ones(4, np.float32))
    for number in range(6):
        save(Path("b.st"), w=np.full(4, number, np.float32))
        average(f"soups/{number}.st", "soups/a.st", "b.st")
    Path("soups/notes").mkdir()
    found = verbs.soups_in("soups")
    assert found is not None
    return found


def test_the_soups_of_a_folder_are_found_and_others_counted(folder: SoupFolder) -> None:
    assert [each.name for each in folder.soups] == [f"{number}.st" for number in range(6)]
    assert [each.name for each in folder.others] == ["a.st"]


def test_models_files_and_folders_without_soups_are_no_folders_of_soups(
    folder: SoupFolder,
) -> None:
    save_pipeline(Path("pipe"), 1)

    assert [verbs.soups_in(each) for each in ("pipe", "b.st", "soups/notes")] == [None] * 3


def test_every_soup_is_verified_and_a_false_one_decides(folder: SoupFolder) -> None:
    path = Path("soups/3.st")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)

    found = verbs.verify_folder(folder, Share())

    verdicts = {Path(each.path).name: each.verdict(None) for each in found.soups}
    assert verdicts.pop("3.st") is Proof.FAILED
    assert set(verdicts.values()) == {Proof.OK}
    assert found.unread == ()


def test_a_damaged_file_is_not_passed_over(folder: SoupFolder) -> None:
    Path("soups/2.st").write_bytes(b"damaged")

    again = verbs.soups_in("soups")
    assert again is not None
    found = verbs.verify_folder(again, Share())

    (damaged,) = (each for each in found.soups if each.problem is not None)
    assert damaged.path == "soups/2.st"
    assert damaged.verdict(None) is Proof.UNPROVEN


def test_a_sample_is_drawn_again_with_the_same_seed(folder: SoupFolder) -> None:
    def drawn(seed: int) -> list[str]:
        found = verbs.verify_folder(folder, Share(Fraction(1, 3), seed))
        assert len(found.soups) + len(found.unread) == 6
        return [each.path for each in found.soups]

    assert len(drawn(0)) == 2
    assert drawn(0) == drawn(0)
    assert len({tuple(drawn(seed)) for seed in range(8)}) > 1


def test_no_soup_is_begun_after_the_time_and_one_always_is(folder: SoupFolder) -> None:
    ticks = count()

    found = verbs.verify_folder(folder, Share(seconds=3), clock=lambda: float(next(ticks)))
    at_once = verbs.verify_folder(folder, Share(seconds=0), clock=lambda: 0.0)

    assert (len(found.soups), len(found.unread)) == (3, 3)
    assert (len(at_once.soups), len(at_once.unread)) == (1, 5)


@pytest.mark.parametrize("share", [Fraction(0), Fraction(-1, 2), Fraction(2)])
def test_a_share_that_is_none_is_refused(folder: SoupFolder, share: Fraction) -> None:
    with pytest.raises(UsageError, match="above 0% and at most 100%"):
        verbs.verify_folder(folder, Share(share))
