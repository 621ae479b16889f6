"""Whose configs a soup has, and what its ledger says of that when ingredients come and go."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from making import metadata, save, save_pipeline
from revising import average, revise

from soupctl import verbs
from soupctl.cli.app import commands
from soupctl.cli.error_report import ErrorStyle
from soupctl.errors import LedgerError, MismatchError, UsageError
from soupctl.ledger.ledger import Ledger
from soupctl.merge.leave_one_out import LeaveOneOut

SIZES = {"a": 4, "b": 8, "c": 16}
REBUILD = verbs.Level.REBUILD
NOTE = "configs were taken from b, which is no longer in the soup"


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """Checkpoints a to c in the working folder, whose configs differ in what can be settled."""
    monkeypatch.chdir(tmp_path)
    for number, (name, size) in enumerate(SIZES.items()):
        save(Path(name, "model.safetensors"), w=np.full(4, number, np.float16))
        Path(name, "config.json").write_text(json.dumps({"hidden_size": size}))
    average(Path("soup"), "a", "b", config_from="b")


def ledger(soup: str) -> Ledger:
    ((_, found),) = verbs.history(soup)
    return found


def source(soup: str) -> str | None:
    """Name of the ingredient whose configs the ledger records; None if it records none."""
    found = ledger(soup)
    names = {entry.digest: entry.name for entry in found.ingredients}
    return None if found.config_from is None else names[found.config_from]


def size(soup: str) -> Any:
    return json.loads(Path(soup, "config.json").read_text())["hidden_size"]


def run(*words: str) -> None:
    commands().main(args=list(words), standalone_mode=False, obj=ErrorStyle())


def digest(path: str) -> str:
    (found,) = verbs.content_digests(path)
    return found.digest


def test_the_ledger_records_the_source_of_configs_by_content():
    text = metadata(Path("soup/model.safetensors"))["soupctl"]
    written = json.loads(text)

    assert (digest("b"), 2) == (written["configs"], written["format"])
    assert 8 == size("soup")
    for level in verbs.Level:
        assert [None] == [each.problem for each in verbs.verify("soup", level=level)]


def test_a_ledger_says_nothing_of_configs_that_were_not_asked_for():
    Path("b/config.json").write_text(Path("a/config.json").read_text())
    average(Path("plain"), "a", "b")
    written = json.loads(metadata(Path("plain/model.safetensors"))["soupctl"])

    assert 1 == written["format"]
    assert "configs" not in written


def test_log_and_inspect_show_the_source_of_configs(capsys):
    for command, label in (("log", "configs  "), ("inspect", "configs    ")):
        run(command, "soup")
        assert f"  {label} those of b  ({digest('b')})" in capsys.readouterr().out
    run("log", "soup", "--json")
    assert digest("b") == json.loads(capsys.readouterr().out)["components"][0]["configs"]
    run("inspect", "soup", "--json")
    assert digest("b") == json.loads(capsys.readouterr().out)["checkpoints"][0]["soup"]["configs"]


@pytest.mark.parametrize(
    ("operation", "added", "removed"), [("add", ["c"], []), ("swap", ["c"], ["a"])]
)
def test_configs_that_would_conflict_are_settled_by_the_option_that_the_refusal_names(
    operation, added, removed
):
    with pytest.raises(MismatchError) as caught:
        revise(operation, "soup", Path("out"), added, removed)
    assert "--config-from INPUT chooses the configs of one input" in caught.value.message()

    revise(operation, "soup", Path("kept"), added, removed, config_from="soup")
    revise(operation, "soup", Path("new"), added, removed, config_from="c")
    assert ("b", 8, "c", 16) == (source("kept"), size("kept"), source("new"), size("new"))
    for soup in ("kept", "new"):
        assert [None] == [each.problem for each in verbs.verify(soup, level=verbs.Level.REBUILD)]


def test_add_subtract_and_swap_keep_the_record_while_that_ingredient_is_in_the_soup():
    Path("c/config.json").write_text(Path("b/config.json").read_text())
    revise("add", "soup", Path("added"), ["c"])
    revise("subtract", "added", Path("less"), [], ["a"])
    revise("subtract", "added", Path("part"), [], [("b", Fraction(1, 2))])
    revise("swap", "soup", Path("swapped"), ["c"], ["a"])

    assert ["b"] * 4 == [source(soup) for soup in ("added", "less", "part", "swapped")]


@pytest.mark.parametrize(
    "words", ["subtract soup b -o out", "swap soup b c -o out --config-from soup"]
)
def test_removing_the_source_of_configs_keeps_the_configs_with_a_note(words, capsys):
    run(*words.split(), "-n")
    assert f"note     {NOTE}" in capsys.readouterr().out
    run(*words.split())

    assert f"soupctl: {NOTE}" in capsys.readouterr().err
    assert (None, 8) == (source("out"), size("out"))
    assert [None] == [each.problem for each in verbs.verify("out", level=verbs.Level.REBUILD)]


def steps(held: str) -> Iterator[tuple[str, list[str], list[str], str]]:
    """Every change by one ingredient: the operation, what is added, removed, and then held."""
    more, kept = sorted({*SIZES} - {*held}), held if len(held) > 1 else ""
    yield from (("add", [new], [], held + new) for new in more)
    yield from (("subtract", [], [old], held.replace(old, "")) for old in kept)
    yield from (("swap", [new], [old], held.replace(old, new)) for old in held for new in more)


@pytest.mark.parametrize("first", [*steps("ab")])
def test_through_any_changes_a_soup_has_the_configs_that_were_chosen(first):
    """By model: whose configs they are, and whether that ingredient is still in the soup."""

    def walk(soup: str, chosen: str, held: str, ways: Iterable[Any], left: int) -> None:
        for operation, added, removed, after in ways:
            for named in (soup, *added):
                out = f"{soup}{operation[0]}{len(named)}{''.join((*added, *removed))}"
                made = revise(operation, soup, Path(out), added, removed, config_from=named)
                now = chosen if named == soup else named
                is_known = now in after and (named != soup or source(soup) is not None)
                assert (SIZES[now], now if is_known else None) == (size(out), source(out))
                direct = average(Path("direct"), *after, config_from=after[0], force=True)
                assert direct.ledger.root == made.ledger.root
                assert [None] == [each.problem for each in verbs.verify(out, level=REBUILD)]
                if left:
                    walk(out, now, after, steps(after), left - 1)

    walk("soup", "b", "ab", [first], 1)


def test_a_swap_can_name_the_new_ingredient_as_the_source_of_configs(capsys):
    run("swap", "soup", "b", "c", "-o", "out", "--config-from", "c")

    assert NOTE not in capsys.readouterr().err
    assert ("c", 16) == (source("out"), size("out"))


def test_each_soup_that_lacks_the_source_of_configs_says_so(capsys):
    run("subtract", "soup", "--each", "-o", "without-{name}")

    notes = [line for line in capsys.readouterr().err.splitlines() if NOTE in line]
    assert [True] == [line.startswith("soupctl: without-b: ") for line in notes]
    assert ("b", None) == (source("without-a"), source("without-b"))
    made = verbs.leave_one_out(LeaveOneOut("soup", "again-{name}"))
    assert made["b"][0].ledger.config_from is None


def test_an_added_soup_brings_the_source_of_its_configs():
    average(Path("other"), "c")
    average(Path("recorded"), "c", config_from="c")
    revise("add", "soup", Path("from-recorded"), ["recorded"], config_from="recorded")
    revise("add", "soup", Path("from-other"), ["other"], config_from="other")

    assert ("c", 16) == (source("from-recorded"), size("from-recorded"))
    # nothing says which ingredient those configs were of
    assert (None, 16) == (source("from-other"), size("from-other"))


def test_a_soup_without_a_ledger_is_the_source_of_its_configs_itself():
    revise("add", "a", Path("out"), ["c"], total=2, config_from="a")

    assert ("a", 4) == (source("out"), size("out"))


def test_a_sweep_takes_the_configs_of_an_input_wherever_that_counts():
    run("avg", "a", "b", "--sweep", "0:1:0.5", "--config-from", "b", "-o", "soup-{t}")

    found = [(source(soup), size(soup)) for soup in ("soup-0", "soup-0.5", "soup-1")]
    assert [(None, 4), ("b", 8), ("b", 8)] == found


def test_only_an_input_can_be_the_source_of_configs():
    for named in ("b", "elsewhere"):
        with pytest.raises(UsageError, match="config_from names no input"):
            revise("add", "soup", Path("out"), ["c"], config_from=named)


def test_a_single_file_records_the_source_of_configs_too():
    average(Path("soup.st"), "a", "b", config_from="a")
    revise("subtract", "soup.st", Path("less.st"), [], ["a"])

    assert ("a", None) == (source("soup.st"), source("less.st"))


def test_of_pipelines_every_component_records_the_source_until_it_is_taken_out():
    for seed, name in enumerate("xyz"):
        save_pipeline(Path(name), seed)
    average(Path("pipes"), "x", "y", config_from="y")
    recorded = [found.config_from for _, found in verbs.history("pipes")]
    components = [checkpoint.digest for checkpoint in verbs.content_digests("y")]
    revise("subtract", "pipes", Path("out"), [], ["y"])

    assert recorded
    assert set(recorded) <= set(components)
    assert {None} == {found.config_from for _, found in verbs.history("out")}


def test_no_ledger_names_a_source_of_configs_that_is_no_ingredient():
    path = Path("soup/model.safetensors")
    raw = path.read_bytes()
    path.write_bytes(
        raw.replace(
            b'\\"configs\\":\\"' + digest("b").encode(), b'\\"configs\\":\\"' + digest("c").encode()
        )
    )

    assert raw != path.read_bytes()
    with pytest.raises(LedgerError, match="its ledger is malformed"):
        verbs.history("soup")


def test_the_recipe_of_a_soup_names_the_source_of_its_configs():
    recipe = list(verbs.recipe_of(ledger("soup"), "soup"))

    assert 'config-from = "b"' in recipe
