"""Candidates that workers make and score: the same choice, and nothing left of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from inline_workers import InlineWorkers
from making import save_pipeline
from scores import closeness

from soupctl import verbs
from soupctl.choices import SearchSampler
from soupctl.errors import ScorerError
from soupctl.verbs import Greedy, Request, Scoring, WeightSearch


def scores_in(journal: str) -> dict[str, float]:
    """The scores in a journal, by the weights of the candidates."""
    _, *lines = map(json.loads, Path(journal).read_text().splitlines())
    return {json.dumps(each["weights"]): each["score"] for each in lines}


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_greedy_soup_is_the_same(inputs, jobs):
    scoring = Scoring(function=closeness)
    object.__setattr__(scoring, "jobs", jobs)
    alone = verbs.greedy(Greedy(Request(inputs, "alone.st"), scoring))
    log: list[verbs.Scored] = []
    found = verbs.greedy(
        Greedy(Request(inputs, "soup.st"), scoring), workers=InlineWorkers(), report=log.append
    )

    assert (alone.members, alone.singles, alone.score) == (
        found.members,
        found.singles,
        found.score,
    )
    assert Path("alone.st").read_bytes() == Path("soup.st").read_bytes()
    assert scores_in("alone.st.greedy.jsonl") == scores_in("soup.st.greedy.jsonl")
    assert len(log) == len(scores_in("soup.st.greedy.jsonl"))
    assert not list(Path().glob(".soup.st.*"))


def test_a_greedy_soup_of_pipelines_is_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pipelines = [save_pipeline(Path(f"p{n}"), n) for n in range(3)]
    scoring = Scoring(function=closest)
    alone = verbs.greedy(Greedy(Request(pipelines, "alone", component="unet"), scoring))
    request = Request(pipelines, "soup", component="unet")
    found = verbs.greedy(Greedy(request, scoring), workers=InlineWorkers())

    assert (alone.members, alone.score) == (found.members, found.score)
    assert alone.made[0].ledger.root == found.made[0].ledger.root


def closest(arrays: dict) -> float:
    return -abs(sum(float(each.sum()) for each in arrays.values()) - 0.5)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_search_tries_the_same_weights(inputs, jobs):
    scoring = Scoring(function=closeness)
    object.__setattr__(scoring, "jobs", jobs)
    found = [
        verbs.search(
            WeightSearch(Request(inputs, output), scoring, 6, SearchSampler.RANDOM), workers=workers
        )
        for output, workers in (("alone.st", None), ("soup.st", InlineWorkers()))
    ]

    assert found[0].point == found[1].point
    assert Path("alone.st").read_bytes() == Path("soup.st").read_bytes()
    assert scores_in("alone.st.search.jsonl") == scores_in("soup.st.search.jsonl")


def test_a_resumed_search_scores_nothing_again_on_workers(inputs):
    class Unused(InlineWorkers):
        def call(self, function, arguments, name, needs=None):
            assert [] == [*arguments]
            return iter(())

    asked = WeightSearch(Request(inputs, "soup.st"), Scoring(function=closeness), 4)
    first = verbs.search(asked, workers=InlineWorkers())
    Path("soup.st").unlink()
    log: list[verbs.Scored] = []
    again = WeightSearch(asked.request, asked.scoring, 4, resume=True)
    second = verbs.search(again, workers=Unused(), report=log.append)

    assert first.point == second.point
    assert all(each.is_recorded for each in log)


def test_a_scorer_that_fails_on_a_worker_keeps_the_scores_so_far(inputs):
    scoring = Scoring(command="test $(basename {} .st) != candidate-2 && echo 1")
    with pytest.raises(ScorerError):
        verbs.greedy(Greedy(Request(inputs, "soup.st"), scoring), workers=InlineWorkers())

    # the last candidate is made first
    assert 2 == len(scores_in("soup.st.greedy.jsonl"))
    assert not Path("soup.st").exists()
    assert not list(Path().glob(".soup.st.*"))
