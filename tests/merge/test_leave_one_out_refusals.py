"""What keeps a soup from having a family is told before, or leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from making import files, metadata, save, save_pipeline
from revising import average

from soupctl import verbs
from soupctl.checkpoints.digest import text_digest
from soupctl.errors import LedgerError, MismatchError, OutputError, UsageError
from soupctl.ledger.ledger import LEDGER_KEY
from soupctl.ledger.ledger_json import encode_ledger, parse_ledger
from soupctl.verbs import ExecutionOptions, LeaveOneOut

F16 = np.float16


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Checkpoints a to d in the working folder."""
    monkeypatch.chdir(tmp_path)
    for name in "abcd":
        values = np.random.default_rng(ord(name)).normal(0, 1, (7, 5))
        save(Path(f"{name}.st"), half=values.astype(F16), ids=np.arange(4))
    return tmp_path


@pytest.fixture
def soup(place):
    """Their soup."""
    average(place / "soup.st", "a.st", "b.st", "c.st", "d.st")


def outputs() -> dict[str, bytes]:
    """The bytes of every output."""
    return {path.name: path.read_bytes() for path in sorted(Path().glob("loo-*"))}


def test_a_soup_of_one_ingredient_has_no_variants(place):
    average(place / "soup.st", "a.st")
    before = files(place)
    with pytest.raises(
        LedgerError, match=r"a.st: cannot be removed: nothing would be left of soup.st"
    ):
        verbs.leave_one_out(LeaveOneOut("soup.st", "loo-{name}"))
    with pytest.raises(LedgerError, match=r"a.st: has no ledger"):
        verbs.leave_one_out(LeaveOneOut("a.st", "loo-{name}"))

    assert before == files(place)


@pytest.mark.parametrize("output", ["-", "loo.st", "loo-{Name}.st", ""])
def test_an_output_without_a_name_in_it_is_refused(soup, output):
    with pytest.raises(UsageError):
        LeaveOneOut("soup.st", output)


def test_one_output_that_exists_stops_all(soup):
    Path("loo-c.st").write_text("mine")
    before = files(Path())
    with pytest.raises(OutputError, match=r"loo-c.st: exists"):
        verbs.leave_one_out(LeaveOneOut("soup.st", "loo-{name}"))
    with pytest.raises(OutputError, match=r"nowhere"):
        verbs.leave_one_out(LeaveOneOut("soup.st", "nowhere/{name}"))

    assert before == files(Path())
    verbs.leave_one_out(LeaveOneOut("soup.st", "loo-{name}"), force=True)
    assert len(outputs()) == 4


def test_no_output_replaces_an_ingredient_of_the_others(soup):
    Path("soup.st").rename("loo-b.st")
    Path("link-a.st").symlink_to("c.st")
    before = files(Path())
    for output in ("loo-{name}", "{name}", "link-{name}"):
        with pytest.raises(OutputError, match="is also an input"):
            verbs.leave_one_out(LeaveOneOut("loo-b.st", output), force=True)

    assert before == files(Path())


def test_outputs_that_links_lead_to_one_place_are_refused(soup):
    Path("loo-a.st").symlink_to("target.st")
    Path("loo-b.st").symlink_to("target.st")
    with pytest.raises(OutputError, match=r"loo-b.st: would be written twice"):
        verbs.leave_one_out(LeaveOneOut("soup.st", "loo-{name}"))

    assert not Path("target.st").exists()


def test_two_ingredients_with_equal_output_names_are_refused(place):
    Path("x").mkdir()
    Path("y").mkdir()
    for old, new in (("a.st", "x/a.st"), ("b.st", "y/a.st"), ("c.st", "x-a.st")):
        Path(old).rename(new)
    average(place / "soup.st", "x/a.st", "y/a.st", "x-a.st")
    with pytest.raises(
        OutputError, match=r"would be the output without x-a\.st and that without x/a\.st"
    ):
        verbs.leave_one_out(LeaveOneOut("soup.st", "loo-{name}"))
    Path("x-a.st").rename("z.st")
    average(place / "soup2.st", "x/a.st", "y/a.st", "z.st")
    verbs.leave_one_out(LeaveOneOut("soup2.st", "loo-{name}"))

    assert ["loo-x-a.st", "loo-y-a.st", "loo-z.st"] == list(outputs())


@pytest.mark.parametrize(
    ("name", "template"),
    [("..", "{name}"), (".", "sub/.{name}"), ("", "{name}"), ("a\0b", "x{name}")],
)
def test_an_ingredient_name_that_leads_to_another_folder_is_refused(soup, name, template):
    Path("sub").mkdir()
    rename_first("soup.st", name)
    before = files(Path())
    with pytest.raises(LedgerError, match="is an ingredient's name that cannot be a file name"):
        verbs.leave_one_out(LeaveOneOut("soup.st", template), force=True)

    assert before == files(Path())


def rename_first(soup: str, name: str) -> None:
    """Forge the ledger of a soup so that its first ingredient has another name."""
    old = metadata(Path(soup))[LEDGER_KEY]
    ledger = parse_ledger(old, soup, text_digest)
    first, *rest = ledger.ingredients
    forged = replace(ledger, ingredients=(replace(first, name=name), *rest))
    raw = Path(soup).read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    header["__metadata__"][LEDGER_KEY] = encode_ledger(forged, text_digest)
    text = json.dumps(header).encode()
    Path(soup).write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + size :])


def test_without_room_for_all_outputs_none_is_written(soup, monkeypatch):
    with verbs.open_family(LeaveOneOut("soup.st", "loo-{name}")) as members:
        rounds = verbs.arrange([member.job for member in members])
    together = sum(job.size for job in rounds.jobs)
    real = os.statvfs

    class Nearly:
        f_blocks, f_frsize, f_bavail = 1 << 40, 1, together - 1

    monkeypatch.setattr(os, "statvfs", lambda path: Nearly)
    with pytest.raises(OutputError, match=rf"loo-d.st: .* {together} bytes of disk"):
        verbs.leave_one_out(LeaveOneOut("soup.st", "loo-{name}"))
    monkeypatch.setattr(os, "statvfs", real)

    assert {} == outputs()


@pytest.mark.parametrize("half", [np.ones((7, 5)), np.ones(5), np.full((7, 5), np.nan)])
def test_an_ingredient_of_another_content_leaves_nothing(soup, half):
    save(Path("b.st"), half=half.astype(F16), ids=np.arange(4))
    before = files(Path())
    with pytest.raises(LedgerError, match=r"b.st: has other content than the ledger records"):
        verbs.leave_one_out(LeaveOneOut("soup.st", "loo-{name}"))

    assert before == files(Path())


def test_an_interruption_leaves_nothing(soup):
    class StoppedByTest(BaseException):
        pass

    def interrupt(size: int) -> None:
        raise StoppedByTest

    before = files(Path())
    for threads in (1, 3):
        with pytest.raises(StoppedByTest):
            verbs.leave_one_out(
                LeaveOneOut("soup.st", "loo-{name}"),
                execution=ExecutionOptions(threads, None, interrupt),
            )

    assert before == files(Path())


def test_two_ingredients_that_do_not_fit_are_reported_as_mismatched(place):
    average(place / "soup.st", "a.st", "b.st")
    save(Path("b.st"), half=np.ones(9, F16), ids=np.arange(2))
    with pytest.raises(LedgerError, match=r"b.st: has other content than the ledger records"):
        verbs.leave_one_out(LeaveOneOut("soup.st", "loo-{name}"))

    assert {} == outputs()


def test_an_output_created_meanwhile_stops_the_ones_after_it(soup):
    def meddle(size: int) -> None:
        Path("loo-c.st").write_text("mine")

    with pytest.raises(OutputError, match=r"loo-c.st: was created by another process meanwhile"):
        verbs.leave_one_out(
            LeaveOneOut("soup.st", "loo-{name}"), execution=ExecutionOptions(1, progress=meddle)
        )
    found = outputs()
    Path("loo-c.st").unlink()
    verbs.leave_one_out(LeaveOneOut("soup.st", "loo-{name}"), force=True)

    assert ["loo-a.st", "loo-b.st", "loo-c.st"] == list(found)
    assert [found["loo-a.st"], found["loo-b.st"]] == list(outputs().values())[:2]
    assert [] == [name for name in os.listdir() if name.startswith(".")]


def test_components_of_different_ingredients_have_no_common_variants(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in "abc":
        save_pipeline(Path(name), ord(name))
    average(Path("soup"), "a", "b", "c")
    average(Path("vae"), "a", "c", component="vae")
    shutil.rmtree("soup/vae")
    shutil.copytree("vae", "soup/vae")
    before = files(Path())
    with pytest.raises(MismatchError, match="soup/vae: is made of a, c where soup/text_encoder"):
        verbs.leave_one_out(LeaveOneOut("soup", "loo-{name}"))

    assert before == files(Path())
    verbs.leave_one_out(LeaveOneOut("soup", "loo-{name}", component="unet"))
    assert 3 == len(list(Path().glob("loo-*")))
