"""Greedy soups: what is kept, what is read for that, and what a journal gives back."""

from __future__ import annotations

import json
from collections import Counter
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from making import contents, files, save, save_pipeline
from scores import closeness

from soupctl import verbs
from soupctl.errors import LedgerError, MismatchError, OutputError, ScorerError, UsageError
from soupctl.storage.reader import FileReader
from soupctl.verbs import Greedy, Ingredient, Request, Scoring


def chosen(inputs, output="soup.st", function=closeness, resume=False, force=False, **options):
    """A greedy soup; the names and scores of all that was scored are in `log`."""
    log = []
    minimize, jobs = options.pop("minimize", False), options.pop("jobs", 1)
    scoring = Scoring(function=function, minimize=minimize)
    if jobs > 1:
        # functions are called one at a time, but as many candidates may be made at once
        object.__setattr__(scoring, "jobs", jobs)
    asked = Greedy(Request(inputs, output, **options), scoring, resume)
    found = verbs.greedy(asked, force=force, report=log.append)
    return found, [(each.trial.label, each.score) for each in log]


def test_the_best_subset_is_found_in_the_order_of_the_best_single_ones(inputs):
    found, log = chosen(inputs)

    assert (2, 0) == found.members
    assert -0.25 == found.score
    assert [-4.0, -32.0, -3.5, -6.0] == list(found.singles)
    assert ["a.st", "b.st", "c.st", "d.st"] == [label for label, _ in log[:4]]
    assert ["a.st + c.st", "a.st + c.st + d.st", "a.st + b.st + c.st"] == [x for x, _ in log[4:]]


def test_the_result_is_byte_for_byte_what_avg_makes_of_the_chosen_ones(inputs):
    found, _ = chosen(inputs, keep_sum=True)

    verbs.average(Request(["a.st", "c.st"], "again.st"))
    assert Path("again.st").read_bytes() == Path("soup.st").read_bytes()
    assert found.made[0].sum is not None


def test_a_tie_is_not_kept_and_equal_single_ones_are_tried_in_order(inputs):
    found, log = chosen(inputs, function=lambda arrays: 1.0)

    assert (0,) == found.members
    assert ["a.st + b.st", "a.st + c.st", "a.st + d.st"] == [label for label, _ in log[4:]]


def test_the_smallest_score_is_best_on_request(inputs):
    found, _ = chosen(inputs, function=lambda arrays: -closeness(arrays), minimize=True)

    assert ((2, 0), 0.25) == (found.members, found.score)


@pytest.mark.parametrize("seed", range(6))
def test_the_result_is_never_worse_than_the_best_single_ingredient(inputs, seed):
    marks = np.random.default_rng(seed)

    found, log = chosen(inputs, function=lambda arrays: float(marks.integers(-9, 9)), jobs=3)

    assert found.score >= max(found.singles)
    assert found.score == dict(log)[" + ".join(sorted(inputs[n] for n in found.members))]


def test_candidates_that_are_made_at_once_change_no_decision(inputs):
    one, _ = chosen(inputs)
    several, _ = chosen(inputs, "other.st", jobs=3)

    assert (one.members, one.score) == (several.members, several.score)
    assert Path("soup.st").read_bytes() == Path("other.st").read_bytes()


def test_weights_are_those_of_the_ingredients(inputs):
    weighted = [Ingredient(name, Fraction(n, 3)) for n, name in enumerate(inputs, 1)]

    found, _ = chosen(weighted)

    verbs.average(Request([weighted[n] for n in sorted(found.members)], "again.st"))
    assert Path("again.st").read_bytes() == Path("soup.st").read_bytes()


@pytest.fixture
def bytes_read(monkeypatch):
    """The bytes that are read of the data of each file, by its name."""
    count = Counter()
    plain = FileReader.read_into

    def read_into(self, buffer, offset):
        count[self._path.name] += len(buffer)
        plain(self, buffer, offset)

    monkeypatch.setattr(FileReader, "read_into", read_into)
    return count


def test_a_trial_reads_one_ingredient_and_the_sum(inputs, bytes_read):
    generator = np.random.default_rng(0)
    size = 30_000
    for name in inputs:
        save(Path(name), w=generator.normal(0, 1, size // 2).astype(np.float16))
    reads = []
    scores = iter([4, 3, 2, 1, 5, 0, 6])

    def score(arrays):
        # what the scorer itself reads is the candidate
        reads.append({name: n for name, n in bytes_read.items() if not name.startswith("cand")})
        return next(scores)

    found, _ = chosen(inputs, function=score)

    assert (0, 1, 3) == found.members
    trials = [Counter(after) - Counter(before) for before, after in pairwise(reads)]
    # the first sum is that of the best one
    assert {"a.st", "b.st"} == trials[3].keys()
    assert size == trials[3]["b.st"]
    # the second is kept, and read again for the next sum
    assert {"b.st", "c.st"} == trials[4].keys()
    assert size == trials[4]["c.st"]
    # the third is not, and the sum stays as it is
    assert {"d.st": size} == dict(trials[5])


def test_a_sum_is_read_and_not_the_ingredients_in_it(inputs, bytes_read):
    sums = []

    def score(arrays):
        sums.append(sum(n for name, n in bytes_read.items() if name.endswith(".sum")))
        return len(sums)

    chosen(inputs, function=score)

    # none for the single ones; then as many bytes for each trial and each new sum
    assert [0, 0, 0] == [after - before for before, after in pairwise(sums[:4])]
    first, second, third = (after - before for before, after in pairwise(sums[3:]))
    assert 0 < first < second == third


def journal(name="soup.st"):
    return Path(f"{name}.greedy.jsonl").read_text().splitlines(keepends=True)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_resumed_choice_equals_one_that_ran_through(inputs, jobs):
    whole, log = chosen(inputs, jobs=jobs)
    lines, soup = journal(), Path("soup.st").read_bytes()

    for kept in range(1, len(lines) + 1):
        Path("soup.st").unlink()
        # what a kill leaves: whole lines, and a part of one
        rest = lines[kept][:7] if kept < len(lines) else ""
        Path("soup.st.greedy.jsonl").write_text("".join(lines[:kept]) + rest)
        scored = []

        def score(arrays, scored=scored):
            scored.append(1)
            return closeness(arrays)

        again, other_log = chosen(inputs, function=named_alike(score), resume=True, jobs=jobs)

        assert (whole, sorted(log)) == (again, sorted(other_log))
        assert len(lines) - kept == len(scored)
        assert (lines, soup) == (journal(), Path("soup.st").read_bytes())


def named_alike(function):
    """A function that a journal takes for `closeness`."""
    function.__module__, function.__qualname__ = closeness.__module__, closeness.__qualname__
    return function


def test_nothing_is_left_but_the_soup_and_its_journal(inputs):
    chosen(inputs)

    assert {*inputs, "soup.st", "soup.st.greedy.jsonl"} == {*files(Path())}


def test_a_scorer_that_fails_leaves_its_journal_and_no_soup(inputs):
    scores = iter([1.0, 2.0])

    with pytest.raises(ScorerError, match=r"c\.st: the scorer raised StopIteration"):
        chosen(inputs, function=lambda arrays: next(scores))

    assert {*inputs, "soup.st.greedy.jsonl"} == {*files(Path())}
    assert [1.0, 2.0] == [json.loads(line)["score"] for line in journal()[1:]]


def test_an_existing_output_or_journal_is_refused_before_anything_is_scored(inputs):
    chosen(inputs)

    def score(arrays):
        raise AssertionError

    with pytest.raises(OutputError, match=r"^soup\.st: exists \(force=True replaces it\)"):
        chosen(inputs, function=score)
    Path("soup.st").unlink()
    with pytest.raises(OutputError, match=r"soup\.st\.greedy\.jsonl: exists \(resume goes on"):
        chosen(inputs, function=score)
    Path("soup.st.greedy.jsonl").write_text("mine")
    with pytest.raises(OutputError, match="is no journal, and is not replaced"):
        chosen(inputs, function=score, force=True)


def test_force_begins_again(inputs):
    _, log = chosen(inputs)

    assert log == chosen(inputs, force=True)[1]


def test_an_ingredient_that_changed_is_refused_when_resumed(inputs):
    chosen(inputs)
    save(Path("d.st"), w=np.ones(4, np.float16), ids=np.arange(3))

    with pytest.raises(LedgerError, match=r"other ingredients: d\.st has changed"):
        chosen(inputs, resume=True, force=True)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"dtype": verbs.DType.F32}, "of other options: dtype"),
        ({"minimize": True}, "of other options: minimize"),
        ({"excludes": ("ids",)}, "of other options: exclude"),
        ({"function": len}, "of another scorer"),
    ],
)
def test_the_journal_of_another_request_is_refused(inputs, changes, says):
    chosen(inputs)

    with pytest.raises(LedgerError, match=says):
        chosen(inputs, resume=True, force=True, **changes)


def test_other_ingredients_are_refused_when_resumed(inputs):
    chosen(inputs)

    with pytest.raises(LedgerError, match="of other ingredients"):
        chosen(inputs[:3], resume=True, force=True)
    with pytest.raises(LedgerError, match=r"of other ingredients: b\.st is new"):
        chosen(["b.st", "a.st", "c.st", "d.st"], resume=True, force=True)


def test_inputs_that_do_not_fit_are_refused_before_anything_is_scored(inputs):
    save(Path("d.st"), w=np.ones(5, np.float16), ids=np.arange(3))

    with pytest.raises(MismatchError):
        chosen(inputs)

    assert {*inputs} == {*files(Path())}


def test_standard_output_and_input_are_refused(inputs):
    with pytest.raises(UsageError, match="journal is kept beside the output"):
        chosen(inputs, "-")


def test_a_soup_or_a_trained_checkpoint_is_one_ingredient(inputs):
    verbs.average(Request(["a.st", "c.st"], "mix.st"))

    found, _ = chosen(["mix.st", "b.st", "a.st"], function=lambda arrays: arrays["w"][0])

    verbs.average(Request([["mix.st", "b.st", "a.st"][n] for n in sorted(found.members)], "x.st"))
    assert Path("x.st").read_bytes() == Path("soup.st").read_bytes()
    # the trials held the soup as one checkpoint, too: half of each, not a third
    found, log = chosen(
        ["mix.st", "b.st"], "y.st", function=lambda arrays: -abs(float(arrays["w"][0]) - 5)
    )
    assert 0.0 == dict(log)["mix.st + b.st"]


def test_the_same_content_twice_counts_twice(inputs):
    save(Path("e.st"), w=np.array([2.0, 2.0, 0.0, 0.0], np.float16), ids=np.arange(3))

    found, log = chosen(["a.st", "e.st", "c.st"], function=lambda arrays: arrays["w"].sum() * 0)

    assert (0,) == found.members
    assert ["a.st + e.st", "a.st + c.st"] == [label for label, _ in log[3:]]


@pytest.mark.parametrize("options", [{}, {"component": "unet"}])
def test_pipelines_are_ingredients(tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    for seed in range(3):
        save_pipeline(Path(f"pipe-{seed}"), seed)
    name = "conv_in.weight" if options else "unet/conv_in.weight"

    found, _ = chosen(
        [f"pipe-{seed}" for seed in range(3)],
        "soup",
        function=lambda arrays: -np.abs(arrays[name].astype(float)).sum(),
        **options,
    )

    names = [f"pipe-{seed}" for seed in sorted(found.members)]
    verbs.average(Request(names, "again", **options))
    assert len(names) > 1
    assert files(Path("again")) == files(Path("soup"))


def test_each_trial_has_the_tensors_of_an_average(inputs):
    seen = {}

    def score(arrays):
        seen[len(seen)] = arrays["w"].tobytes()
        return len(seen)

    _, log = chosen(inputs, function=score)

    for place, (label, _) in enumerate(log):
        verbs.average(Request(label.split(" + "), f"{place}.st"))
        assert seen[place] == contents(Path(f"{place}.st"))["w"][2]
    assert any(2 == label.count("+") for label, _ in log)
