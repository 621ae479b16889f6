"""Scorers: what counts as a score, how each failure reads, and that paths reach them unharmed."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from making import save, save_raw
from processes import PATIENCE

from soupctl.errors import ScorerError, UsageError
from soupctl.scoring.command import CommandScorer, with_variable
from soupctl.scoring.function import FunctionScorer, arrays_of
from soupctl.scoring.scorer import Candidate, Scoring


def scored(command, *paths, timeout=None):
    """The scores of candidates at these paths."""
    found = {}
    candidates = [Candidate(f"soup {path}", Path(path)) for path in paths or ("x",)]
    CommandScorer(command, timeout).score(candidates, found.__setitem__)
    return [found[number] for number in range(len(candidates))]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1", 1.0),
        ("-0.5", -0.5),
        ("+1e-3", 1e-3),
        (".5", 0.5),
        ("7.", 7.0),
        ("loss 3\\n2.25\\n\\n", 2.25),
        ("  12  ", 12.0),
        ("1\\r\\n", 1.0),
    ],
)
def test_the_last_line_is_the_score(text, number):
    assert [number] == scored(f"printf -- '{text}' # {{}}")


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("exit 3", "the scorer ended with exit code 3"),
        ("echo one >&2; echo two >&2; exit 1", "the scorer ended with exit code 1: one / two"),
        ("kill -9 $$", "the scorer was ended by SIGKILL"),
        ("no-such-command", "exit code 127: .*no-such-command.*not found"),
        ("true", "printed nothing"),
        ("echo", "printed nothing"),
        ("echo nan", "last line is 'nan', not a finite number"),
        ("echo -inf", "last line is '-inf', not a finite number"),
        ("echo 1e999", "last line is '1e999', beyond any float64"),
        ("echo score: 1", "last line is 'score: 1', not a finite number"),
        ("echo 1; echo done", "last line is 'done'"),
        ("echo 1_0", "last line is '1_0'"),
        ("echo 0x10", "last line is '0x10'"),
        ("echo 1 2", "last line is '1 2'"),
        ("printf '\\377\\000'", "not a finite number"),
        ("echo 1; echo 2 >&2; exit 9", "exit code 9: 2"),
        ("if", "exit code 2: .*[Ss]yntax"),
    ],
)
def test_what_gives_no_score_is_an_error_that_says_why(command, says):
    with pytest.raises(ScorerError, match=rf"^soup x: .*{says}") as caught:
        scored(f": {{}}; {command}")

    assert 8 == caught.value.exit_code


def test_of_long_messages_the_end_is_shown():
    with pytest.raises(ScorerError, match=r"the end$") as caught:
        scored("yes | head -c 1000000 >&2; echo the end >&2; exit 1; {}")

    assert len(str(caught.value)) < 400


def test_of_much_output_the_last_line_counts():
    assert [5.0] == scored("yes | head -c 3000000; echo 5; : {}")


def test_a_scorer_that_takes_too_long_is_ended_with_its_children(tmp_path):
    mark = tmp_path / "child"
    command = f": {{}}; sh -c 'echo $$ > \"{mark}\"; echo slow >&2; sleep 1000' & wait"

    # a busy machine may need longer until the child runs
    for seconds in (0.5, 5, 50):
        with pytest.raises(ScorerError, match=f"took longer than {seconds} seconds") as caught:
            scored(command, timeout=seconds)
        if "slow" in str(caught.value):
            break

    assert str(caught.value).endswith(f"took longer than {seconds} seconds: slow")
    require_gone(int(mark.read_text()))


def require_gone(process: int) -> None:
    """Wait until a process that was killed is gone, which its parent sees to."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state == "Z":
            return
        os.sched_yield()
        time.sleep(0.001)
    raise AssertionError


def test_what_a_scorer_leaves_running_is_ended_when_its_score_is_known(tmp_path):
    mark = tmp_path / "child"

    assert [1.0] == scored(f": {{}}; sleep 1000 & echo $! > '{mark}'; echo 1")

    require_gone(int(mark.read_text()))


def test_several_run_at_once_and_each_score_belongs_to_its_candidate(tmp_path):
    # each waits for the other, which would never come if they ran in turn
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    first, second = f"echo go > '{pipe}'; echo 1", f"read go < '{pipe}'; echo 2"
    command = f"case {{}} in *a) {first};; *) {second};; esac"

    assert [1.0, 2.0] == scored(command, "a", "b", timeout=60)


def test_if_one_fails_the_others_are_ended_and_known_scores_are_recorded(tmp_path):
    mark = tmp_path / "mark"
    os.mkfifo(mark)
    found = {}
    command = f"""
        case {{}} in
            *a) echo 7; exec 3<> '{mark}'; echo go >&3; cat <&3 >/dev/null & exit 0;;
            *b) sleep 1000;;
        esac
    """
    candidates = [Candidate(name, Path(name)) for name in "ab"]

    def record(number, score):
        found[number] = score
        raise ScorerError("stop")

    with pytest.raises(ScorerError, match="stop"):
        CommandScorer(command).score(candidates, record)
    assert {0: 7.0} == found


HOSTILE = [
    "plain",
    "two words",
    "-rf",
    "a'b",
    'a"b',
    "a\nb",
    "$(touch hurt)",
    "`touch hurt`",
    "; touch hurt",
    "a\\b",
    "*",
    "{}",
    "é\U0001f372",
    os.fsdecode(b"\xff"),
    "$HOME",
    "!x",
    "#x",
    "~",
]


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
@pytest.mark.parametrize("form", ["{}", '"{}"', "'{}'", '"$SOUPCTL_CANDIDATE"'])
def test_any_path_reaches_the_command_as_one_word(tmp_path, monkeypatch, name, form):
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(b"12")

    assert [2.0] == scored(f"wc -c < {form}; : {{}}", name)
    assert [1.0] == scored(f"set -- {form}; echo $#; : {{}}", name)
    assert not Path("hurt").exists()


@pytest.mark.parametrize(
    ("command", "made"),
    [
        ("s {}", 's "${SOUPCTL_CANDIDATE}"'),
        ("s --x={} {}", 's --x="${SOUPCTL_CANDIDATE}" "${SOUPCTL_CANDIDATE}"'),
        ('s "--x={}"', 's "--x=${SOUPCTL_CANDIDATE}"'),
        ("s '{}'", "s ''\"${SOUPCTL_CANDIDATE}\"''"),
        (r"s \{} {}", r's \{} "${SOUPCTL_CANDIDATE}"'),
        (r's "\"{}"', r's "\"${SOUPCTL_CANDIDATE}"'),
        (r"s '\' {}", "s '\\' \"${SOUPCTL_CANDIDATE}\""),
    ],
)
def test_a_place_is_quoted_as_it_stands(command, made):
    assert made == with_variable(command)


@pytest.mark.parametrize("command", ["", "score.py", "score.py { }", r"echo \{}"])
def test_a_command_without_a_place_is_refused(command):
    with pytest.raises(UsageError, match="names no place for the candidate's path"):
        CommandScorer(command)


def test_a_command_is_told_nothing_on_standard_input():
    assert [0.0] == scored("wc -c; : {}")


def function_scored(function):
    """The score that a function gives the checkpoint x.st."""
    found = {}
    FunctionScorer(function).score([Candidate("x", Path("x.st"))], found.__setitem__)
    return found[0]


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return save(Path("x.st"), w=np.arange(6, dtype=np.float16).reshape(2, 3))


def test_a_function_is_given_arrays(checkpoint, capsys):
    def score(arrays):
        sys.stdout.write("not data\n")
        return arrays["w"][1, 2]

    assert 5.0 == function_scored(score)
    assert ("", "not data\n") == capsys.readouterr()


@pytest.mark.parametrize(
    ("text", "place"),
    [("score.py", "score.py:best"), ("score_7.py", "score_7:best"), ("a b.py", "a b.py:best")],
)
def test_a_function_is_found_in_a_file_or_a_module_of_this_folder(checkpoint, text, place):
    Path(text).write_text("def best(arrays):\n    return arrays['w'].sum()\n")

    assert 15.0 == function_scored(place)


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("score", "is not module:function"),
        (":f", "is not module:function"),
        ("score:", "is not module:function"),
        ("none_such:f", "is not a module that is found"),
        ("none.py:f", "is not a file"),
        ("json:none", "has no function 'none'"),
        ("json:__name__", "has no function"),
    ],
)
def test_a_function_that_is_not_there_is_refused(checkpoint, place, says):
    with pytest.raises(UsageError, match=says):
        FunctionScorer(place)


@pytest.mark.parametrize(
    "text", ["import none_such", "1 / 0", "(", "raise SystemError('x')", "import sys; sys.exit(0)"]
)
def test_a_module_that_fails_is_a_failure_of_the_scorer(checkpoint, text):
    Path("bad.py").write_text(text)

    with pytest.raises(ScorerError, match=r"bad\.py: the scorer cannot be loaded"):
        FunctionScorer("bad.py:f")


@pytest.mark.parametrize("code", [0, 3, None, "done"])
def test_a_function_that_exits_is_a_failure_of_the_scorer(checkpoint, code):
    with pytest.raises(ScorerError, match="the scorer raised SystemExit"):
        function_scored(lambda arrays: sys.exit(code))


@pytest.mark.parametrize(
    ("result", "says"),
    [
        (float("nan"), "returned nan, not a finite number"),
        (float("inf"), "returned inf, not a finite number"),
        ("1", "returned a value of type str, not a number"),
        (None, "returned a value of type NoneType, not a number"),
        ([1.0], "returned a value of type list, not a number"),
        (10**400, "returned a number beyond the range of floats"),
        (np.ones(2), "returned a value of type ndarray, not a number"),
    ],
)
def test_a_result_that_is_no_score_is_an_error(checkpoint, result, says):
    with pytest.raises(ScorerError, match=says):
        function_scored(lambda arrays: result)


def test_every_dtype_has_an_array(tmp_path):
    path = save_raw(
        tmp_path / "x.st",
        {
            "bf16": ("BF16", (2,), np.array([0x3F80, 0xC000], "<u2").tobytes()),
            "fp8": ("F8_E4M3", (2,), bytes([0x38, 0xB8])),
            "flags": ("BOOL", (2,), bytes([0, 1])),
            "long": ("I64", (), np.array(-5, "<i8").tobytes()),
            "half": ("F16", (1,), np.array([1.5], "<f2").tobytes()),
            "scale": ("F8_E8M0", (3,), b"abc"),
            "none": ("F32", (0, 4), b""),
        },
    )

    found = arrays_of(path)

    assert [1.0, -2.0] == found["bf16"].tolist()
    assert np.float32 == found["bf16"].dtype
    assert [1.0, -1.0] == found["fp8"].tolist()
    assert [False, True] == found["flags"].tolist()
    assert -5 == found["long"]
    assert [1.5] == found["half"].tolist()
    assert b"abc" == found["scale"].tobytes()
    assert (0, 4) == found["none"].shape


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "either --score or --scorer"),
        ({"command": "x {}", "function": "a:b"}, "either --score or --scorer"),
        ({"command": "x {}", "jobs": 0}, "at least one job is needed"),
        ({"command": "x {}", "timeout": 0.0}, "a timeout must be positive"),
        ({"command": "x {}", "timeout": float("nan")}, "a timeout must be positive"),
        ({"function": "a:b", "jobs": 2}, "apply to commands, not to a function"),
        ({"function": "a:b", "timeout": 1.0}, "apply to commands, not to a function"),
    ],
)
def test_a_scorer_that_makes_no_sense_is_refused(options, says):
    with pytest.raises(UsageError) as caught:
        Scoring(**options)

    assert says in caught.value.message()
