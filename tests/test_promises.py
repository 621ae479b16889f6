"""The page of promises is the one that its tool writes from the counts that are kept."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def promises():
    """The tool."""
    spec = importlib.util.spec_from_file_location("promises", ROOT / "tools" / "promises.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setitem(sys.modules, "promises", module)
    spec.loader.exec_module(module)
    yield module
    monkeypatch.undo()


@pytest.fixture
def counts(promises):
    return json.loads(promises.COUNTS.read_text())


def test_the_page_is_written_from_the_counts(promises, counts):
    assert promises.PAGE.read_text() == promises.page(counts)


def test_every_promise_has_tests_and_every_count_a_promise(promises, counts):
    for promise in promises.PROMISES.values():
        for test in promise.tests:
            name, _, part = test.partition("::")
            place = ROOT / name
            files = [place] if place.is_file() else [*place.glob("test_*.py")]
            assert files, test
            texts = [each.read_text() for each in files]
            assert not part or any(re.search(rf"def test_\w*{part}", each) for each in texts), test
    assert counts.keys() == promises.PROMISES.keys()
    assert all(each["cases"] > 0 for each in counts.values())


REPORT = """<testsuites><testsuite>
<testcase classname="tests.cli.test_limits" name="a"/>
<testcase classname="tests.cli.test_limits" name="b"><skipped/></testcase>
<testcase classname="tests.attacks.test_option_fuzz" name="c">
<properties><property name="examples" value="150"/></properties></testcase>
<testcase classname="tests.cli.test_signals" name="d"><failure/></testcase>
<testcase classname="tests.cli.test_signals" name="of_two"/>
<testcase classname="tests.ledger.test_names" name="e"/>
<testcase classname="tests.cli.test_many_ingredients" name="f"/>
</testsuite></testsuites>"""


def test_only_promises_whose_tests_all_ran_and_passed_are_counted(promises, tmp_path, monkeypatch):
    tried = {
        "some that fail": ("tests/cli/test_signals.py",),
        "one that passes": ("tests/cli/test_signals.py::two", "tests/ledger/test_names.py"),
        "a folder": ("tests/attacks",),
        "some that are skipped": ("tests/cli/test_limits.py", "tests/cli/test_many_ingredients.py"),
        "one that is meant twice": ("tests/ledger", "tests/ledger/test_names.py"),
        "one that did not run": ("tests/ledger", "tests/cli/test_words.py"),
    }
    known = {name: promises.Promise(name, tests) for name, tests in tried.items()}
    monkeypatch.setattr(promises, "PROMISES", known)
    (tmp_path / "report.xml").write_text(REPORT)

    assert {
        "one that passes": {"cases": 2},
        "a folder": {"cases": 1, "examples": 150},
        "some that are skipped": {"cases": 2, "skipped": 1},
        "one that is meant twice": {"cases": 1},
    } == promises.counted([tmp_path / "report.xml"])
