"""A family has the files that taking out one ingredient at a time would make, from one pass."""

from __future__ import annotations

import json
import os
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3
from making import files, metadata, save, save_pipeline, save_shards
from revising import average, revise

import soupctl.execute
from soupctl import verbs
from soupctl.errors import LedgerError, LimitError, MismatchError, OutputError, UsageError
from soupctl.format.dtypes import DType
from soupctl.soup.choices import OnInt
from soupctl.soup.ledger import KEY
from soupctl.soup.ledgertext import encode_ledger, parse_ledger
from soupctl.storage.digest import text_digest
from soupctl.verbs import Family, Pace

F16 = np.float16
NAMES = "abcd"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Checkpoints a to d of mixed dtypes, of which d alone has float32, in the working folder."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(3)
    for number, name in enumerate(NAMES):
        save(
            Path(f"{name}.st"),
            {"format": "pt"},
            half=generator.normal(0, 1, (7, 5)).astype(F16),
            mixed=generator.normal(0, 1, 900).astype(np.float32 if name == "d" else F16),
            ids=np.arange(4) + number,
            empty=np.zeros(0, F16),
            skipped=np.full(3, number, F16),
        )
    return tmp_path


@pytest.fixture
def soup(place):
    """Their soup, with unequal weights, integers of the first and one tensor left out."""
    inputs = [("a.st", 2), "b.st", ("c.st", 3), "d.st"]
    average(place / "soup.st", *inputs, on_int=OnInt.FIRST, excludes=("skipped",))
    return place / "soup.st"


def outputs(pattern: str = "loo-*") -> dict[str, bytes]:
    """The bytes of every file in the working folder that matches."""
    return {path.name: path.read_bytes() for path in sorted(Path().glob(pattern))}


@pytest.mark.parametrize("approximate", [False, True])
def test_each_file_is_the_one_that_subtract_makes(soup, approximate):
    options = {"approximate": approximate}
    expected = {}
    for name in NAMES:
        revise("subtract", "soup.st", Path(f"loo-{name}.st"), (), [f"{name}.st"], **options)
        expected[f"loo-{name}.st.st"] = Path(f"loo-{name}.st").read_bytes()
        Path(f"loo-{name}.st").unlink()
    made = verbs.leave_one_out(Family("soup.st", "loo-{name}.st", **options))

    assert [f"{name}.st" for name in NAMES] == list(made)
    assert expected == outputs()
    assert {not approximate} == {each.ledger.exact for (each,) in made.values()}


def test_a_soup_of_two_and_a_soup_with_a_past_have_families(place):
    average(place / "1.st", "a.st", "b.st", excludes=("ids",), dtype=DType("F32"))
    revise("add", "1.st", place / "2.st", ["c.st"])
    for soup, names in (("1.st", "ab"), ("2.st", "abc")):
        expected = {}
        for name in names:
            revise("subtract", soup, Path("x.st"), (), [f"{name}.st"])
            expected[f"loo-{name}.st"] = Path("x.st").read_bytes()
            Path("x.st").unlink()
        verbs.leave_one_out(Family(soup, "loo-{name}"), force=True)

        assert expected == outputs()


def test_threads_and_chunks_do_not_show(soup):
    verbs.leave_one_out(Family("soup.st", "one-{name}"), pace=Pace(1))
    verbs.leave_one_out(Family("soup.st", "two-{name}"), pace=Pace(5, 2))

    assert list(outputs("one-*").values()) == list(outputs("two-*").values())


def test_every_input_is_read_and_digested_once_for_all_outputs(soup, monkeypatch):
    digested, told = [], []

    class Counting:
        def __init__(self) -> None:
            self.hasher = blake3()

        def update(self, data: memoryview) -> None:
            digested.append(len(data))
            self.hasher.update(data)

        def hexdigest(self) -> str:
            return self.hasher.hexdigest()

    monkeypatch.setattr(soupctl.execute, "tensor_hasher", Counting)
    with verbs.open_family(Family("soup.st", "loo-{name}")) as members:
        rounds = verbs.arrange([member.job for member in members], 2)
        verbs.carry_out_together(rounds, pace=Pace(2, progress=told.append))
    data = {name: 2 * 35 + (4 if name == "d" else 2) * 900 + 32 + 6 for name in NAMES}
    made = 3 * (2 * 35 + 4 * 900 + 32) + (2 * 35 + 2 * 900 + 32)

    assert sum(data.values()) == rounds.read
    assert made == rounds.written
    assert rounds.read + rounds.written == sum(told)
    # what is copied has the digest of its source
    assert rounds.read + rounds.written - 4 * 32 == sum(digested)


def test_what_does_not_fit_at_once_is_made_in_rounds(soup):
    with verbs.open_family(Family("soup.st", "loo-{name}")) as members:
        jobs = [member.job for member in members]
        needed = [verbs.arrange(jobs[:count], 1).memory for count in (1, 2, 4)]
        rounds = verbs.arrange(jobs, 1, needed[1])
        verbs.carry_out_together(rounds)
        with pytest.raises(LimitError):
            verbs.arrange(jobs, 1, needed[0] - 1)
    in_rounds = outputs()
    verbs.leave_one_out(Family("soup.st", "loo-{name}"), force=True)

    assert sorted(needed) == needed
    assert ([2, 2], needed[1]) == ([len(some) for some in rounds.rounds], rounds.memory)
    assert outputs() == in_rounds


def test_threads_go_before_more_rounds_do_not_help(soup):
    with verbs.open_family(Family("soup.st", "loo-{name}")) as members:
        jobs = [member.job for member in members]
        alone = verbs.arrange(jobs[:1], 3).memory
        rounds = verbs.arrange(jobs, 8, alone)

    assert (3, 4) == (rounds.threads, len(rounds.rounds))


def test_no_more_files_are_open_than_the_system_allows(soup):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with verbs.open_family(Family("soup.st", "loo-{name}")) as members:
        resource.setrlimit(resource.RLIMIT_NOFILE, (12, limits[1]))
        try:
            rounds = verbs.arrange([member.job for member in members])
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    assert [3, 1] == [len(some) for some in rounds.rounds]


def test_a_soup_of_one_ingredient_has_no_family(place):
    average(place / "soup.st", "a.st")
    before = files(place)
    with pytest.raises(LedgerError, match=r"a.st: is all there is in soup.st"):
        verbs.leave_one_out(Family("soup.st", "loo-{name}"))
    with pytest.raises(LedgerError, match=r"a.st: has no ledger"):
        verbs.leave_one_out(Family("a.st", "loo-{name}"))

    assert before == files(place)


@pytest.mark.parametrize("output", ["-", "loo.st", "loo-{Name}.st", ""])
def test_an_output_without_a_name_in_it_is_refused(soup, output):
    with pytest.raises(UsageError):
        Family("soup.st", output)


def test_all_outputs_are_free_or_none_is_written(soup):
    Path("loo-c.st").write_text("mine")
    before = files(Path())
    with pytest.raises(OutputError, match=r"loo-c.st: exists"):
        verbs.leave_one_out(Family("soup.st", "loo-{name}"))
    with pytest.raises(OutputError, match=r"nowhere"):
        verbs.leave_one_out(Family("soup.st", "nowhere/{name}"))

    assert before == files(Path())
    verbs.leave_one_out(Family("soup.st", "loo-{name}"), force=True)
    assert len(outputs()) == 4


def test_no_output_replaces_what_the_others_are_made_of(soup):
    Path("soup.st").rename("loo-b.st")
    Path("link-a.st").symlink_to("c.st")
    before = files(Path())
    for output in ("loo-{name}", "{name}", "link-{name}"):
        with pytest.raises(OutputError, match="is also an input"):
            verbs.leave_one_out(Family("loo-b.st", output), force=True)

    assert before == files(Path())


def test_outputs_that_links_lead_to_one_place_are_refused(soup):
    Path("loo-a.st").symlink_to("target.st")
    Path("loo-b.st").symlink_to("target.st")
    with pytest.raises(OutputError, match=r"loo-b.st: would be written twice"):
        verbs.leave_one_out(Family("soup.st", "loo-{name}"))

    assert not Path("target.st").exists()


def test_names_of_which_two_would_be_one_are_refused(place):
    Path("x").mkdir()
    Path("y").mkdir()
    for old, new in (("a.st", "x/a.st"), ("b.st", "y/a.st"), ("c.st", "x-a.st")):
        Path(old).rename(new)
    average(place / "soup.st", "x/a.st", "y/a.st", "x-a.st", excludes=("ids",))
    with pytest.raises(
        OutputError, match=r"would be the output without x-a\.st and that without x/a\.st"
    ):
        verbs.leave_one_out(Family("soup.st", "loo-{name}"))
    Path("x-a.st").rename("z.st")
    average(place / "soup2.st", "x/a.st", "y/a.st", "z.st", excludes=("ids",))
    verbs.leave_one_out(Family("soup2.st", "loo-{name}"))

    assert ["loo-x-a.st", "loo-y-a.st", "loo-z.st"] == list(outputs())


@pytest.mark.parametrize(
    ("name", "template"),
    [("..", "{name}"), (".", "sub/.{name}"), ("", "{name}"), ("a\0b", "x{name}")],
)
def test_a_name_that_leads_elsewhere_is_refused(soup, name, template):
    Path("sub").mkdir()
    rename_first("soup.st", name)
    before = files(Path())
    with pytest.raises(LedgerError, match="is the name of an ingredient, and none for a file"):
        verbs.leave_one_out(Family("soup.st", template), force=True)

    assert before == files(Path())


def rename_first(soup: str, name: str) -> None:
    """Forge the ledger of a soup so that its first ingredient has another name."""
    old = metadata(Path(soup))[KEY]
    ledger = parse_ledger(old, soup, text_digest)
    first, *rest = ledger.ingredients
    forged = replace(ledger, ingredients=(replace(first, name=name), *rest))
    raw = Path(soup).read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    header["__metadata__"][KEY] = encode_ledger(forged, text_digest)
    text = json.dumps(header).encode()
    Path(soup).write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + size :])


def test_disks_have_room_for_all_or_nothing_is_written(soup, monkeypatch):
    with verbs.open_family(Family("soup.st", "loo-{name}")) as members:
        rounds = verbs.arrange([member.job for member in members])
    together = sum(job.size for job in rounds.jobs)
    real = os.statvfs

    class Nearly:
        f_blocks, f_frsize, f_bavail = 1 << 40, 1, together - 1

    monkeypatch.setattr(os, "statvfs", lambda path: Nearly)
    with pytest.raises(OutputError, match=rf"loo-d.st: .* {together} bytes of disk"):
        verbs.leave_one_out(Family("soup.st", "loo-{name}"))
    monkeypatch.setattr(os, "statvfs", real)

    assert {} == outputs()


def test_an_ingredient_of_another_content_leaves_nothing(soup):
    for shape in ((7, 5), (5,)):
        save(
            Path("b.st"),
            half=np.ones(shape, F16),
            mixed=np.ones(900, F16),
            ids=np.arange(4),
            empty=np.zeros(0, F16),
            skipped=np.ones(3, F16),
        )
        before = files(Path())
        with pytest.raises(LedgerError, match=r"b.st: is not the content that the ledger records"):
            verbs.leave_one_out(Family("soup.st", "loo-{name}"))

        assert before == files(Path())


def test_two_ingredients_that_do_not_fit_each_other_are_told_from_their_contents(place):
    average(place / "soup.st", "a.st", "b.st", on_int=OnInt.FIRST)
    tensors = {"half": np.ones(9, F16), "mixed": np.ones(5, F16), "ids": np.arange(2)}
    save(Path("b.st"), **tensors, empty=np.zeros(0, F16), skipped=np.ones(1, F16))
    with pytest.raises(LedgerError, match=r"b.st: is not the content that the ledger records"):
        verbs.leave_one_out(Family("soup.st", "loo-{name}"))

    assert {} == outputs()


def test_an_output_that_comes_into_being_meanwhile_stops_those_after_it(soup):
    def meddle(size: int) -> None:
        Path("loo-c.st").write_text("mine")

    with pytest.raises(OutputError, match=r"loo-c.st: has come into being meanwhile"):
        verbs.leave_one_out(Family("soup.st", "loo-{name}"), pace=Pace(1, progress=meddle))
    found = outputs()
    Path("loo-c.st").unlink()
    verbs.leave_one_out(Family("soup.st", "loo-{name}"), force=True)

    assert ["loo-a.st", "loo-b.st", "loo-c.st"] == list(found)
    assert [found["loo-a.st"], found["loo-b.st"]] == list(outputs().values())[:2]
    assert [] == [name for name in os.listdir() if name.startswith(".")]


def test_a_sharded_soup_has_a_family_of_folders_or_files(place):
    for number, name in enumerate("xyz"):
        shards = ({"u": F16([number, 1])}, {"v": F16([number / 3])})
        save_shards(Path(name), "model", *shards)
    average(Path("soup"), "x", "y", "z")
    verbs.leave_one_out(Family("soup", "loo-{name}"))
    verbs.leave_one_out(Family("soup", "loo-{name}.st"))
    for name in "xyz":
        revise("subtract", "soup", Path("one"), (), [name], force=True)
        revise("subtract", "soup", Path("one.st"), (), [name], force=True)

        assert files(Path("one")) == files(Path(f"loo-{name}"))
        assert Path("one.st").read_bytes() == Path(f"loo-{name}.st").read_bytes()


def test_every_soup_of_a_pipeline_is_a_pipeline(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in "abc":
        save_pipeline(Path(name), ord(name))
    average(Path("soup"), "a", "b", ("c", 2))
    made = verbs.leave_one_out(Family("soup", "loo-{name}"))
    verbs.leave_one_out(Family("soup", "unet-{name}", component="unet"))
    for name in "abc":
        revise("subtract", "soup", Path(f"one-{name}"), (), [name])
        revise("subtract", "soup", Path(f"only-{name}"), (), [name], component="unet")

        assert files(Path(f"one-{name}")) == files(Path(f"loo-{name}"))
        assert files(Path(f"only-{name}")) == files(Path(f"unet-{name}"))
        assert ["text_encoder", "unet", "vae"] == [each.name for each in made[name]]


def test_components_of_different_ingredients_have_no_common_family(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in "abc":
        save_pipeline(Path(name), ord(name))
    for path in Path("b/vae").glob("*.safetensors"):
        path.write_bytes(Path("a/vae", path.name).read_bytes())
    average(Path("soup"), "a", "b", "c")
    before = files(Path())
    with pytest.raises(MismatchError, match="soup/vae: is made of a, c where soup/text_encoder"):
        verbs.leave_one_out(Family("soup", "loo-{name}"))

    assert before == files(Path())
    verbs.leave_one_out(Family("soup", "loo-{name}", component="unet"))
    assert 3 == len(list(Path().glob("loo-*")))
