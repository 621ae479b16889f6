"""A stack's folder: members whole, bound by digest, and taken out without a trace."""

import os
from fractions import Fraction

import bases
import pytest

from soupctl.banks.files import WEIGHTS, save_bank
from soupctl.banks.stack_files import STACK, is_stack, load_stack, save_stack
from soupctl.errors import InputError, LedgerError, MismatchError, OutputError, UsageError

ASKED = {"a": Fraction(1, 3), "b.x": Fraction(2), "c": Fraction(-1)}


@pytest.fixture
def members(tmp_path):
    base = bases.dit(layers=2)
    for seed, name in enumerate(ASKED):
        bank = bases.filled_bank(base, seed=seed)
        save_bank(bank, tmp_path / f"bank-{name}", metadata={"note": name})
    return {name: tmp_path / f"bank-{name}" for name in ASKED}


def files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_stack_holds_every_byte_of_its_members(members, tmp_path):
    save_stack(members, ASKED, tmp_path / "stack")
    found = files(tmp_path / "stack")

    assert STACK in found
    for name, folder in members.items():
        for file, content in files(folder).items():
            assert content == found.pop(f"{name}/{file}")
    assert [STACK] == list(found)


def test_a_stack_reads_back_as_it_was_written(members, tmp_path):
    saved = save_stack(members, ASKED, tmp_path / "stack")
    loaded = load_stack(tmp_path / "stack")

    assert ASKED == saved.weights == loaded.weights
    for one, two in zip(saved.members, loaded.members, strict=True):
        assert (one.name, one.scale, one.bank.config) == (two.name, two.scale, two.bank.config)
        for name, tensor in one.bank.tensors().items():
            assert bases.same_bits(tensor, two.bank.tensors()[name])


@pytest.mark.parametrize("name", ASKED)
def test_a_stack_without_a_removed_bank_has_the_files_of_one_that_never_held_it(
    members, tmp_path, name
):
    rest = {other: weight for other, weight in ASKED.items() if other != name}
    save_stack(members, ASKED, tmp_path / "stack")
    save_stack({other: tmp_path / "stack" / other for other in rest}, rest, tmp_path / "without")
    save_stack({other: members[other] for other in rest}, rest, tmp_path / "never")

    assert files(tmp_path / "never") == files(tmp_path / "without")


def test_a_member_that_was_exchanged_is_found_out(members, tmp_path):
    save_stack(members, ASKED, tmp_path / "stack")
    (tmp_path / "stack" / "a" / WEIGHTS).write_bytes((members["c"] / WEIGHTS).read_bytes())

    with pytest.raises(LedgerError, match="a: was changed after it was stacked"):
        load_stack(tmp_path / "stack")


def test_a_missing_bank_of_a_stack_is_named(members, tmp_path):
    save_stack(members, ASKED, tmp_path / "stack")
    (tmp_path / "stack" / "c" / WEIGHTS).unlink()

    with pytest.raises(InputError, match=f"c/{WEIGHTS}: cannot be read"):
        load_stack(tmp_path / "stack")


def test_only_a_stack_is_replaced_and_only_one_with_nothing_else_in_it(members, tmp_path):
    target = tmp_path / "stack"
    save_stack(members, ASKED, target)
    one = {"a": members["a"]}
    with pytest.raises(OutputError, match="exists"):
        save_stack(one, {"a": Fraction(1)}, target)
    (target / "a" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError):
        save_stack(one, {"a": Fraction(1)}, target, replace=True)
    (target / "a" / "notes.txt").unlink()
    save_stack(one, {"a": Fraction(1)}, target, replace=True)

    assert is_stack(target)
    assert ["a"] == [member.name for member in load_stack(target).members]
    assert not is_stack(members["a"])


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda members: members.update({"../a": members["a"]}), UsageError),
        (lambda members: members.update({"d": members["a"]}), UsageError),
        (lambda members: members.update({"c": members["c"] / "none"}), InputError),
    ],
)
def test_a_refused_stack_writes_nothing(members, tmp_path, change, error):
    before = sorted(os.listdir(tmp_path))
    change(members)

    with pytest.raises(error):
        save_stack(members, ASKED, tmp_path / "stack")
    assert before == sorted(os.listdir(tmp_path))


def test_banks_of_different_bases_are_not_stacked(members, tmp_path):
    save_bank(bases.zero_bank(bases.dit(layers=3)), tmp_path / "other")
    asked = {"a": Fraction(1), "other": Fraction(1)}

    with pytest.raises(MismatchError, match="other: was trained on a base with different config"):
        save_stack({"a": members["a"], "other": tmp_path / "other"}, asked, tmp_path / "stack")


def test_no_member_changes_while_it_is_copied(members, tmp_path, monkeypatch):
    """Somebody writes another bank over one between the check and the copy."""
    own = os.open

    def writing(path, *rest, **options):
        if os.path.basename(os.fspath(path)) == STACK:
            other = bases.filled_bank(bases.dit(layers=2), seed=9)
            save_bank(other, tmp_path / "new")
            (members["b.x"] / WEIGHTS).write_bytes((tmp_path / "new" / WEIGHTS).read_bytes())
        return own(path, *rest, **options)

    monkeypatch.setattr(os, "open", writing)
    with pytest.raises(OutputError, match=r"bank-b\.x: changed while it was read"):
        save_stack(members, ASKED, tmp_path / "stack")
    assert not (tmp_path / "stack").exists()
