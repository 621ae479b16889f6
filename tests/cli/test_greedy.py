"""`soupctl greedy` as a command: what it prints, how it ends, and what a kill leaves."""

from __future__ import annotations

import os
import shlex
import signal
from pathlib import Path

import numpy as np
import pytest
from making import files
from scores import VALUES

FUNCTION = """
import numpy as np
def closeness(arrays):
    return -float(np.abs(arrays["w"].astype(float) - 1).sum())
"""


@pytest.fixture(autouse=True)
def inputs(folder, save):
    """Four ingredients and a scorer of them in the working folder."""
    for name, values in VALUES.items():
        save(name, {"w": np.array(values, np.float16)})
    Path("score.py").write_text(FUNCTION)


GREEDY = "greedy a.st b.st c.st d.st --scorer score.py:closeness"


def test_the_recipe_is_printed_and_makes_the_same_bytes(soupctl):
    done = soupctl(*shlex.split(f"{GREEDY} -o soup.st"))

    assert (0, "") == (done.code, done.message)
    assert 'average = ["a.st", "c.st"]' in done.text
    Path("recipe.toml").write_text(done.text)
    assert 0 == soupctl("run", "recipe.toml", "-o", "again.st").code
    assert 0 == soupctl("avg", "a.st", "c.st", "-o", "avg.st").code
    assert Path("avg.st").read_bytes() == Path("soup.st").read_bytes()
    assert Path("avg.st").read_bytes() == Path("again.st").read_bytes()
    assert 0 == soupctl("verify", "soup.st", "--level", "rebuild").code


def test_the_result_as_json(soupctl):
    found = soupctl(*shlex.split(f"{GREEDY} -o soup.st --json")).json

    assert ["c.st", "a.st"] == found["added"]
    assert -0.25 == found["score"]
    assert [-4.0, -32.0, -3.5, -6.0] == [each["score"] for each in found["singles"]]
    assert "[steps.soup]" in found["recipe"]


def test_the_plan_scores_nothing(soupctl):
    before = files(Path())

    done = soupctl(*shlex.split(f"{GREEDY} -o soup.st -n"))

    assert (0, "") == (done.code, done.message)
    assert "at most 7" in done.text
    assert before == files(Path())
    assert 7 == soupctl(*shlex.split(f"{GREEDY} -o soup.st -n --json")).json["most_scores"]


def test_scores_are_reported_with_v_and_known_ones_as_such(soupctl):
    first = soupctl(*shlex.split(f"{GREEDY} -o soup.st -v")).message
    again = soupctl(*shlex.split(f"{GREEDY} -o soup.st -v -f --resume")).message

    assert "score 5: -0.25 a.st + c.st\n" in first
    assert "soup.st: 2 of 4 ingredients, score -0.25\n" in first
    assert "score 5: -0.25 a.st + c.st (from the journal)\n" in again


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        ("--score 'exit 3 # {}'", 8, "a.st: the scorer ended with exit code 3"),
        ("--score 'echo nan {}'", 8, "a.st: the scorer's last line is 'nan"),
        ("--score 'sleep 1000 # {}' --timeout 0.2", 8, "longer than 0.2 seconds"),
        ("--scorer none.py:f", 2, "none.py: is not a file"),
        ("--score echo", 2, "names no place for the candidate's path"),
        ("", 2, "a scorer is given by either --score or --scorer"),
        ("--score 'x {}' --timeout 0", 2, "--timeout '0' is not a number of seconds"),
        ("--score 'x {}' -o -", 2, "the journal is kept beside the output"),
        ("--score 'x {}' -o a.st", 6, "a.st: is also an input"),
        ("--score 'x {}' -o none/soup.st", 6, "the folder none does not exist"),
        ("--score 'x {}' none.st", 3, "none.st: cannot be read"),
        ("--score 'x {}' -", 2, "standard input can be read once"),
    ],
)
def test_what_goes_wrong_has_an_exit_code_and_one_line(soupctl, command, code, says):
    before = files(Path())

    done = soupctl("greedy", "a.st", "b.st", "-o", "soup.st", *shlex.split(command))

    assert (code, b"") == (done.code, done.out)
    assert says in done.message
    assert 1 == done.message.count("\n")
    assert before == {k: v for k, v in files(Path()).items() if not k.endswith(".jsonl")}


def test_any_name_of_an_output_works(soupctl):
    for name in ("-x.st", "two words.st", "a'b\"c.st", "new\nline.st", "$(touch hurt).st"):
        done = soupctl(
            *("greedy", "a.st", "c.st", f"--output=./{name}", "--score", "wc -c < {}"), "--minimize"
        )

        assert (0, "") == (done.code, done.message)
        assert {name, f"{name}.greedy.jsonl"} <= {*files(Path())}
    assert not Path("hurt").exists()


@pytest.mark.parametrize("stop", [1, 3, 5, 6])
def test_after_a_kill_nothing_is_scored_again(soupctl, stop):
    plain = "cksum < {} | cut -d ' ' -f 1"
    command = f'echo scored >> log; if [ -p pipe ]; then [ "$(wc -l < log)" -lt {stop} ] ||'
    command += f" {{ echo waiting > pipe; sleep 1000; }}; fi; {plain}"
    words = shlex.split("greedy a.st b.st c.st d.st -o soup.st --resume --score")
    whole = soupctl(*words, command)
    assert 0 == whole.code
    count = len(Path("log").read_text().splitlines())
    expected = {name: Path(name).read_bytes() for name in ("soup.st", "soup.st.greedy.jsonl")}
    for name in ("log", *expected):
        Path(name).unlink()
    os.mkfifo("pipe")

    running = soupctl.start(*words, command)
    # opened once the scorer says that it waits
    assert "waiting\n" == Path("pipe").read_text()
    running.send(signal.SIGKILL)
    assert -signal.SIGKILL == running.wait().code
    Path("pipe").unlink()
    assert stop == len(Path("soup.st.greedy.jsonl").read_text().splitlines())
    assert Path(".soup.st.greedy").is_dir()
    again = soupctl(*words, command)

    assert (whole.code, whole.text) == (again.code, again.text)
    # the score that was cut short is the only one twice
    assert count + 1 == len(Path("log").read_text().splitlines())
    assert expected == {name: Path(name).read_bytes() for name in expected}
    assert not Path(".soup.st.greedy").exists()


def test_an_interruption_leaves_the_journal_and_nothing_else(soupctl):
    os.mkfifo("pipe")
    command = "[ -e two ] || { touch two; echo 1; exit; }; echo waiting > pipe; sleep 1000; : {}"
    running = soupctl.start(*shlex.split("greedy a.st b.st -o soup.st --score"), command)
    assert "waiting\n" == Path("pipe").read_text()

    running.send(signal.SIGINT)

    done = running.wait()
    assert (130, "soupctl: interrupted\n") == (done.code, done.message)
    left = {"soup.st.greedy.jsonl", "two", "pipe", "score.py", *VALUES}
    assert left == {each.name for each in Path().iterdir()}
    assert 2 == len(Path("soup.st.greedy.jsonl").read_text().splitlines())
