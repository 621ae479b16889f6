"""Ranking: the score of a soup without each ingredient, made in one pass and kept in a journal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from making import contents, files, save, save_pipeline
from scores import closeness

from soupctl import verbs
from soupctl.errors import LedgerError, OutputError, ScorerError, UsageError
from soupctl.storage.reader import FileReader
from soupctl.verbs import IngredientEffect, Rank, Ranking, Request, Scoring


@pytest.fixture
def soup(inputs):
    verbs.average(Request(inputs, "soup.st"))
    return inputs


def ranked(function=closeness, log=None, resume=False, force=False, minimize=False, **options):
    asked = Rank("soup.st", Scoring(function=function, minimize=minimize), resume=resume, **options)
    return verbs.rank(asked, force=force, report=(log if log is not None else []).append)


def test_each_effect_is_the_score_with_an_ingredient_less_that_without_it(soup):
    expected = {}
    for name in soup:
        others = [other for other in soup if other != name]
        verbs.average(Request(others, f"no-{name}"))
        value = np.frombuffer(contents(Path(f"no-{name}"))["w"][2], np.float16)
        expected[name] = closeness({"w": value})
    whole = closeness({"w": np.frombuffer(contents(Path("soup.st"))["w"][2], np.float16)})

    found = ranked()

    assert whole == found.score
    assert {name: expected[name] for name in soup} == {x.name: x.without for x in found.effects}
    assert [whole - x.without for x in found.effects] == [x.effect for x in found.effects]
    assert ["c.st", "a.st", "d.st", "b.st"] == [each.name for each in found.effects]


def test_the_smallest_score_is_best_on_request(soup):
    largest, smallest = ranked(), ranked(lambda x: -closeness(x), minimize=True, force=True)

    assert [(x.name, x.effect) for x in largest.effects] == [
        (x.name, x.effect) for x in smallest.effects
    ]


def test_equal_effects_are_in_the_order_of_names(soup):
    found = ranked(lambda arrays: 2.0)

    assert Ranking(2.0, tuple(IngredientEffect(name, 2.0, 0.0) for name in soup)) == found


def test_the_soup_and_its_ingredients_stay_and_nothing_else_is_left(soup):
    before = files(Path())

    ranked()

    after = files(Path())
    assert {"soup.st.rank.jsonl"} == after.keys() - before.keys()
    assert before == {name: after[name] for name in before}


def test_each_ingredient_is_read_once_for_all_candidates(soup, monkeypatch):
    generator = np.random.default_rng(0)
    for name in soup:
        save(Path(name), w=generator.normal(0, 1, 30_000).astype(np.float16))
    verbs.average(Request(soup, "soup.st"), force=True)
    read = dict.fromkeys(soup, 0)
    plain = FileReader.read_into

    def read_into(self, buffer, offset):
        if self._path.name in read:
            read[self._path.name] += len(buffer)
        plain(self, buffer, offset)

    monkeypatch.setattr(FileReader, "read_into", read_into)
    ranked(lambda arrays: float(arrays["w"][0]))

    assert dict.fromkeys(soup, 60_000) == read


def test_a_resumed_ranking_equals_one_that_ran_through(soup):
    whole = ranked()
    path = Path("soup.st.rank.jsonl")
    lines = path.read_text().splitlines(keepends=True)
    for kept in range(1, len(lines) + 1):
        path.write_text("".join(lines[:kept]) + ("{" if kept < len(lines) else ""))
        log = []

        assert whole == ranked(log=log, resume=True)
        assert kept - 1 == sum(each.is_recorded for each in log)
        assert "".join(lines) == path.read_text()


def test_a_journal_is_not_replaced_without_being_asked_to(soup):
    ranked()

    with pytest.raises(OutputError, match=r"soup\.st\.rank\.jsonl: exists"):
        ranked()
    ranked(force=True)


def test_a_scorer_that_fails_leaves_its_scores(soup):
    scores = iter([1.0, 2.0])

    with pytest.raises(ScorerError, match=r"without b\.st: the scorer raised"):
        ranked(lambda arrays: next(scores))

    assert 3 == len(Path("soup.st.rank.jsonl").read_text().splitlines())
    assert not Path(".soup.st.rank").exists()


def test_the_journal_of_another_soup_is_refused(soup):
    ranked()
    verbs.average(Request(soup, "soup.st", dtype=verbs.DType.F32), force=True)

    with pytest.raises(LedgerError, match="of other options: soup"):
        ranked(resume=True)
    verbs.average(Request(soup[:3], "soup.st"), force=True)
    with pytest.raises(LedgerError, match="of other"):
        ranked(resume=True)


def test_a_changed_ingredient_is_refused(soup):
    save(Path("a.st"), w=np.ones(4, np.float16), ids=np.arange(3))

    with pytest.raises(LedgerError, match=r"a\.st"):
        ranked()


def test_ingredients_are_searched_for(soup):
    Path("moved").mkdir()
    Path("a.st").rename("moved/a.st")

    with pytest.raises(LedgerError, match=r"a\.st"):
        ranked()
    assert 4 == len(ranked(search=(Path("moved"),)).effects)


def test_what_is_no_soup_is_refused(soup):
    with pytest.raises(LedgerError, match="has no ledger"):
        verbs.rank(Rank("a.st", Scoring(function=closeness)))
    with pytest.raises(UsageError, match="journal is kept beside the soup"):
        Rank("-", Scoring(function=closeness))


def test_pipelines_are_ranked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [f"pipe-{seed}" for seed in range(3)]
    for seed, name in enumerate(names):
        save_pipeline(Path(name), seed)
    verbs.average(Request(names, "soup"))

    def score(arrays):
        return -np.abs(arrays["vae/quant_conv.weight"].astype(float)).sum()

    found = verbs.rank(Rank("soup", Scoring(function=score)))

    assert {*names} == {each.name for each in found.effects}
    assert all(each.effect > 0 for each in found.effects)
    assert Path("soup.rank.jsonl").is_file()
