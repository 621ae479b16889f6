"""The search for weights: planted optima are found, and the same seed leads to the same soup."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from making import contents, files, save

from soupctl import verbs
from soupctl.choices import SearchSampler
from soupctl.errors import LedgerError, LimitError, ScorerError, UsageError
from soupctl.scoring.study import PARTS, shares_of
from soupctl.storage.reader import FileReader
from soupctl.verbs import Request, Scoring, WeightSearch

pytest.importorskip("optuna")

NAMES = ("a.st", "b.st", "c.st")


@pytest.fixture(autouse=True)
def corners(tmp_path, monkeypatch):
    """Three checkpoints whose mean has their shares as its values, in two blocks."""
    monkeypatch.chdir(tmp_path)
    for place, name in enumerate(NAMES):
        corner = np.eye(3, dtype=np.float32)[place]
        save(Path(name), **{"down.w": corner, "up.w": corner})


def near(down, up=None):
    """A function that scores how near the shares are to planted ones."""

    def score(arrays):
        one = np.abs(arrays["down.w"] - down).sum()
        return -float(one + np.abs(arrays["up.w"] - (down if up is None else up)).sum())

    score.__qualname__ = "near"
    return score


def searched(function, trials=60, log=None, force=False, jobs=1, **options):
    scoring = Scoring(function=function, minimize=options.pop("minimize", False))
    # functions are called one at a time, but as many candidates may be made at once
    object.__setattr__(scoring, "jobs", jobs)
    request = Request(NAMES, options.pop("output", "soup.st"), dtype=options.pop("dtype", None))
    asked = WeightSearch(request, scoring, trials, **options)
    return verbs.search(asked, force=force, report=(log if log is not None else []).append)


@pytest.mark.parametrize("sampler", [SearchSampler.TPE, SearchSampler.CMA_ES])
def test_a_planted_optimum_is_found(sampler):
    planted = (0.6, 0.1, 0.3)

    found = searched(near(planted), trials=70, sampler=sampler)

    # fewer than one in a hundred of all weights is as near
    assert max(abs(float(x) - y) for x, y in zip(found.point.default, planted, strict=True)) < 0.06
    assert found.score > found.uniform


def test_a_planted_optimum_is_found_by_block():
    found = searched(near((1, 0, 0), (0, 0, 1)), trials=80, blocks=("down.*", "up.*"))

    (_, down), (_, up) = found.point.blocks
    assert down[0] > Fraction(7, 10)
    assert up[2] > Fraction(7, 10)


@pytest.mark.parametrize("blocks", [(), ("down.*",)])
def test_the_result_is_what_avg_makes_of_its_recipe(blocks):
    found = searched(near((0.5, 0.25, 0.25)), trials=8, blocks=blocks)

    verbs.average(
        found.point.request(
            WeightSearch(Request(NAMES, "x.st"), Scoring(function=len), 1), "again.st", False
        )
    )
    assert Path("again.st").read_bytes() == Path("soup.st").read_bytes()
    used = found.point.used
    weights = {n: found.point.default[n] for n in used}
    rows = [(glob, [row[n] for n in used]) for glob, row in found.point.blocks]
    recipe = verbs.chosen_recipe(Request(NAMES, "soup.st"), found.contents, weights, rows)
    Path("recipe.toml").write_text("\n".join(recipe))
    verbs.run_recipe(verbs.RecipeRun("recipe.toml", "run.st"))
    assert contents(Path("run.st")) == contents(Path("soup.st"))
    assert Path("run.st").read_bytes() == Path("soup.st").read_bytes()


def test_the_first_trial_is_the_mean_and_the_result_is_never_worse():
    log = []

    found = searched(lambda arrays: -len(log), trials=5, log=log)

    assert ("333/1000", "333/1000", "167/500") != log[0].trial.weights
    assert {Fraction(333, PARTS), Fraction(334, PARTS)} == set(map(Fraction, log[0].trial.weights))
    assert (0.0, 0.0) == (found.score, found.uniform)


def test_the_same_seed_leads_to_the_same_soup_and_another_one_does_not():
    logs = {}
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        logs[name] = []
        searched(near((1, 0, 0)), 12, logs[name], seed=seed, output=f"{name}.st")

    assert logs["one"] == logs["again"]
    assert logs["one"] != logs["other"]
    assert Path("one.st").read_bytes() == Path("again.st").read_bytes()


@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("sampler", SearchSampler)
def test_a_resumed_search_equals_one_that_ran_through(sampler, jobs):
    options = {"trials": 13, "sampler": sampler, "jobs": jobs}
    whole = searched(near((0.2, 0.8, 0.0)), **options)
    path = Path("soup.st.search.jsonl")
    lines, soup = path.read_text().splitlines(keepends=True), Path("soup.st").read_bytes()
    for kept in (1, 2, 7, len(lines)):
        Path("soup.st").unlink()
        path.write_text("".join(lines[:kept]) + ("{" if kept < len(lines) else ""))
        log = []

        again = searched(near((0.2, 0.8, 0.0)), log=log, resume=True, **options)

        assert whole == again
        assert kept - 1 <= sum(each.is_recorded for each in log)
        assert "".join(lines) == path.read_text()
        assert soup == Path("soup.st").read_bytes()


def test_a_resumed_search_may_have_more_trials():
    searched(near((0.2, 0.8, 0.0)), trials=4)
    log = []

    searched(near((0.2, 0.8, 0.0)), trials=6, log=log, resume=True, force=True)

    assert [True] * 4 + [False] * 2 == [each.is_recorded for each in log]


def test_candidates_made_together_read_each_ingredient_once(monkeypatch):
    for name in NAMES:
        save(Path(name), w=np.full(30_000, 3, np.float16))
    read = dict.fromkeys(NAMES, 0)
    plain = FileReader.read_into

    def read_into(self, buffer, offset):
        if self._path.name in read:
            read[self._path.name] += len(buffer)
        plain(self, buffer, offset)

    monkeypatch.setattr(FileReader, "read_into", read_into)
    searched(lambda arrays: 1.0, trials=8, jobs=4)

    # for its digest, two passes of four candidates each, and the result
    assert dict.fromkeys(NAMES, 4 * 60_000) == read


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seed": 5}, "of other options: seed"),
        ({"sampler": SearchSampler.RANDOM}, "of other options: sampler"),
        ({"blocks": ("up.*",)}, "of other options: blocks"),
        ({"dtype": verbs.DType.F16}, "of other options: dtype"),
    ],
)
def test_the_journal_of_another_search_is_refused(changes, says):
    searched(near((1, 0, 0)), trials=2)

    with pytest.raises(LedgerError, match=says):
        searched(near((1, 0, 0)), trials=2, resume=True, force=True, **changes)


def test_a_scorer_that_fails_leaves_its_scores_and_nothing_else():
    scores = iter([1.0, 2.0])

    with pytest.raises(ScorerError, match=r"a\.st .*: the scorer raised StopIteration"):
        searched(lambda arrays: next(scores))

    assert {*NAMES, "soup.st.search.jsonl"} == {*files(Path())}
    assert 3 == len(Path("soup.st.search.jsonl").read_text().splitlines())


@pytest.mark.parametrize(
    ("numbers", "parts"),
    [
        ((1.0, 1.0), (500, 500)),
        ((1.0, 1.0, 1.0), (334, 333, 333)),
        ((0.0, 0.0), (500, 500)),
        ((0.0, 1.0), (0, 1000)),
        ((1e-300, 1.0), (0, 1000)),
        ((5e-324, 5e-324, 0.0), (500, 500, 0)),
        ((0.1, 0.2, 0.7), (100, 200, 700)),
    ],
)
def test_shares_add_up_to_one(numbers, parts):
    assert tuple(Fraction(part, PARTS) for part in parts) == shares_of(numbers)


def test_named_blocks_need_a_model_that_has_them():
    with pytest.raises(UsageError, match="of no model with named blocks"):
        searched(near((1, 0, 0)), blocks=("named",))


@pytest.mark.parametrize(
    ("request_", "options", "says"),
    [
        (Request(["a.st"], "x.st"), {}, "at least two inputs"),
        (Request(NAMES, "-"), {}, "kept beside the output"),
        (Request(["-", "a.st"], "x.st"), {}, "standard input"),
        (Request([verbs.Ingredient("a.st", Fraction(2)), "b.st"], "x.st"), {}, "finds the weights"),
        (Request(NAMES, "x.st"), {"trials": 0}, "at least one trial"),
        (Request(NAMES, "x.st"), {"seed": -1}, "a seed from 0"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused(request_, options, says):
    with pytest.raises(UsageError, match=says):
        WeightSearch(request_, Scoring(function=len), **{"trials": 3} | options)


def test_without_optuna_nothing_is_begun(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)

    with pytest.raises(LimitError, match=r"optuna, which is not installed"):
        searched(near((1, 0, 0)))

    assert {*NAMES} == {*files(Path())}
