"""A family has the files that taking out one ingredient at a time would make, from one pass."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3
from making import files, save, save_pipeline, save_shards
from revising import average, revise

import soupctl.merge.mean_writer
import soupctl.merge.small_tensors
import soupctl.merge.tensor_pass
import soupctl.merge.terms
from soupctl import verbs
from soupctl.choices import OnInt
from soupctl.errors import InputError, LimitError
from soupctl.format.dtypes import DType
from soupctl.verbs import ExecutionOptions, LeaveOneOut

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


def test_a_tensor_that_is_left_out_may_have_any_shape(place):
    for number, name in enumerate("efg"):
        save(Path(f"{name}.st"), w=np.full(3, number, F16), other=np.zeros(number, F16))
    average(Path("soup.st"), "e.st", "f.st", "g.st", excludes=("other",))
    expected = {}
    for name in "efg":
        revise("subtract", "soup.st", Path(f"loo-{name}.st"), (), [f"{name}.st"])
        expected |= outputs(f"loo-{name}.st")

    verbs.leave_one_out(LeaveOneOut(Path("soup.st"), "loo-{name}"), force=True)

    assert expected == outputs()


@pytest.mark.parametrize("approximate", [False, True])
def test_each_file_is_the_one_that_subtract_makes(soup, approximate):
    options = {"approximate": approximate}
    expected = {}
    for name in NAMES:
        revise("subtract", "soup.st", Path(f"loo-{name}.st"), (), [f"{name}.st"], **options)
        expected[f"loo-{name}.st"] = Path(f"loo-{name}.st").read_bytes()
        Path(f"loo-{name}.st").unlink()
    made = verbs.leave_one_out(LeaveOneOut("soup.st", "loo-{name}.st", **options))

    assert [f"{name}.st" for name in NAMES] == list(made)
    assert expected == outputs()
    assert {not approximate} == {each.ledger.exact for (each,) in made.values()}


def test_a_soup_of_two_and_a_changed_soup_have_variants(place):
    average(place / "1.st", "a.st", "b.st", excludes=("ids",), dtype=DType("F32"))
    revise("add", "1.st", place / "2.st", ["c.st"])
    for soup, names in (("1.st", "ab"), ("2.st", "abc")):
        expected = {}
        for name in names:
            revise("subtract", soup, Path("x.st"), (), [f"{name}.st"])
            expected[f"loo-{name}.st"] = Path("x.st").read_bytes()
            Path("x.st").unlink()
        verbs.leave_one_out(LeaveOneOut(soup, "loo-{name}"), force=True)

        assert expected == outputs()


def test_threads_and_chunks_do_not_change_a_byte(soup):
    verbs.leave_one_out(LeaveOneOut("soup.st", "one-{name}"), execution=ExecutionOptions(1))
    verbs.leave_one_out(LeaveOneOut("soup.st", "two-{name}"), execution=ExecutionOptions(5, 2))

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

    for module in (soupctl.merge.mean_writer, soupctl.merge.tensor_pass, soupctl.merge.terms):
        monkeypatch.setattr(module, "tensor_hasher", Counting)

    def data_digest(data: memoryview) -> str:
        digested.append(len(data))
        return blake3(data).hexdigest()

    monkeypatch.setattr(soupctl.merge.small_tensors, "data_digest", data_digest)
    with verbs.open_family(LeaveOneOut("soup.st", "loo-{name}")) as members:
        rounds = verbs.arrange([member.job for member in members], 2)
        verbs.carry_out_together(rounds, execution=ExecutionOptions(2, progress=told.append))
    data = {name: 2 * 35 + (4 if name == "d" else 2) * 900 + 32 + 6 for name in NAMES}
    made = 3 * (2 * 35 + 4 * 900 + 32) + (2 * 35 + 2 * 900 + 32)

    assert sum(data.values()) == rounds.read
    assert made == rounds.written
    assert rounds.read + rounds.written == sum(told)
    # what is copied has the digest of its source
    assert rounds.read + rounds.written - 4 * 32 == sum(digested)


def test_outputs_that_do_not_fit_at_once_are_made_in_rounds(soup):
    with verbs.open_family(LeaveOneOut("soup.st", "loo-{name}")) as members:
        jobs = [member.job for member in members]
        needed = [verbs.arrange(jobs[:count], 1).memory for count in (1, 2, 4)]
        rounds = verbs.arrange(jobs, 1, needed[1])
        verbs.carry_out_together(rounds)
        with pytest.raises(LimitError):
            verbs.arrange(jobs, 1, needed[0] // 2)
    in_rounds = outputs()
    verbs.leave_one_out(LeaveOneOut("soup.st", "loo-{name}"), force=True)

    assert sorted(needed) == needed
    assert ([2, 2], needed[1]) == ([len(some) for some in rounds.rounds], rounds.memory)
    assert outputs() == in_rounds


def test_fewer_threads_are_tried_before_more_rounds(soup):
    with verbs.open_family(LeaveOneOut("soup.st", "loo-{name}")) as members:
        jobs = [member.job for member in members]
        alone = verbs.arrange(jobs[:1], 3).memory
        rounds = verbs.arrange(jobs, 8, alone)

    assert (3, 4) == (rounds.threads, len(rounds.rounds))


@pytest.mark.parametrize(("hard", "expected"), [(12, [3, 1]), (None, [4])])
def test_no_more_files_are_open_than_the_hard_limit_allows(soup, monkeypatch, hard, expected):
    _, as_it_is = resource.getrlimit(resource.RLIMIT_NOFILE)
    limits = (12, hard or as_it_is)
    limit_of = resource.getrlimit
    with verbs.open_family(LeaveOneOut("soup.st", "loo-{name}")) as members:
        jobs = [member.job for member in members]
        # a process cannot raise its hard limit again, so none is set
        monkeypatch.setattr(
            resource,
            "getrlimit",
            lambda which: limits if which == resource.RLIMIT_NOFILE else limit_of(which),
        )
        rounds = verbs.arrange(jobs)

    assert expected == [len(some) for some in rounds.rounds]


def test_no_sum_is_used_or_kept_and_the_sum_of_a_replaced_soup_is_removed(place):
    Path("sub").mkdir()
    options = {"excludes": ("ids",), "keep_sum": True}
    average(place / "sub" / "plain.st", "a.st", "b.st", excludes=("ids",))
    average(place / "sub" / "soup.st", "a.st", "b.st", **options)
    average(place / "sub" / "loo-a.st", "c.st", "d.st", **options)
    (sums,) = Path("sub").glob("soup.st.*.sum")
    verbs.leave_one_out(LeaveOneOut("sub/plain.st", "sub/one-{name}"))
    verbs.leave_one_out(LeaveOneOut("sub/soup.st", "sub/loo-{name}"), force=True)
    with pytest.raises(InputError, match="is a kept sum, not a model"):
        verbs.leave_one_out(LeaveOneOut(sums, "sub/x-{name}"))
    made = {path.name: path.read_bytes() for path in Path("sub").glob("*-*")}

    assert {"one-a.st", "one-b.st", "loo-a.st", "loo-b.st"} == set(made)
    assert made["one-a.st"] == made["loo-a.st"]
    assert made["one-b.st"] == made["loo-b.st"]
    assert sums.exists()


def test_the_variants_of_a_sharded_soup_are_folders_or_files(place):
    for number, name in enumerate("xyz"):
        shards = ({"u": F16([number, 1])}, {"v": F16([number / 3])})
        save_shards(Path(name), "model", *shards)
    average(Path("soup"), "x", "y", "z")
    verbs.leave_one_out(LeaveOneOut("soup", "loo-{name}"))
    verbs.leave_one_out(LeaveOneOut("soup", "loo-{name}.st"))
    for name in "xyz":
        revise("subtract", "soup", Path("one"), (), [name], force=True)
        revise("subtract", "soup", Path("one.st"), (), [name], force=True)

        assert files(Path("one")) == files(Path(f"loo-{name}"))
        assert Path("one.st").read_bytes() == Path(f"loo-{name}.st").read_bytes()


def test_every_variant_of_a_pipeline_is_a_pipeline(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in "abc":
        save_pipeline(Path(name), ord(name))
    average(Path("soup"), "a", "b", ("c", 2))
    made = verbs.leave_one_out(LeaveOneOut("soup", "loo-{name}"))
    verbs.leave_one_out(LeaveOneOut("soup", "unet-{name}", component="unet"))
    for name in "abc":
        revise("subtract", "soup", Path(f"one-{name}"), (), [name])
        revise("subtract", "soup", Path(f"only-{name}"), (), [name], component="unet")

        assert files(Path(f"one-{name}")) == files(Path(f"loo-{name}"))
        assert files(Path(f"only-{name}")) == files(Path(f"unet-{name}"))
        assert ["text_encoder", "unet", "vae"] == [each.name for each in made[name]]
