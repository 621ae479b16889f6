"""Standard input and output, lists of files, and names that try to be something else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from making import files, save_pipeline

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
ESCAPES = "\x1b]8;;x\x07\x1b[2Jz\u009b1m\r\n"


def test_a_soup_goes_through_pipes(soupctl, ingredients):
    soupctl("avg", *ingredients, "-o", "soup.st")
    soup = Path("soup.st").read_bytes()

    piped = soupctl("avg", "-", "b.st", "-o", "-", stdin=Path("a.st").read_bytes())
    hashed = soupctl("hash", "-", stdin=piped.out)
    inspected = soupctl("inspect", "-", "--json", stdin=piped.out)

    assert (0, b"") == (piped.code, piped.err)
    expected = soupctl("hash", "soup.st").text.split()[0]
    assert [expected, "standard", "input"] == hashed.text.split()
    assert expected == inspected.json["checkpoints"][0]["soup"]["digest"]
    # only the ledger tells them apart, which does not know where a stream comes from
    assert soup[-80:] == piped.out[-80:]


def test_output_to_stdout_is_the_same_file(soupctl, ingredients):
    soupctl("avg", *ingredients, "-o", "soup.st")

    assert Path("soup.st").read_bytes() == soupctl("avg", *ingredients, "-o", "-").out


def test_an_input_is_read_from_a_pipe_that_comes_in_pieces(process, soupctl, ingredients):
    running = process("avg", "-", "b.st", "-o", "-", stdin=subprocess.PIPE)
    for byte in Path("a.st").read_bytes():
        running.stdin.write(bytes([byte]))
        running.stdin.flush()
    out, err = running.communicate()

    assert (0, b"") == (running.returncode, err)
    assert out == soupctl("avg", "-", "b.st", "-o", "-", stdin=Path("a.st").read_bytes()).out


ODD_NAMES = [
    b"plain.st",
    b"two words.st",
    b" leading.st",
    b"-dash.st",
    b"--output",
    b"at@2.st",
    b"literal.st@0.7",
    b"bytes\xff\xfe.st",
    "\u00fcml\u00e4ut \U0001f372.st".encode(),
    b"return\r.st",
    b"quote'\"$(touch x).st",
    b"\x1b[31mred.st",
]


@pytest.mark.parametrize("null", [True, False], ids=["null", "lines"])
def test_a_list_of_files_may_hold_any_name(soupctl, ingredients, null):
    raw = Path("a.st").read_bytes()
    names = [*ODD_NAMES, b"new\nline.st"] if null else ODD_NAMES
    for name in names:
        Path(os.fsdecode(name)).write_bytes(raw)
    end = b"\0" if null else b"\n"
    listed = end.join(names) + end
    Path("list").write_bytes(listed)
    more = ["-0"] if null else []

    stdin = soupctl("avg", "--files-from", "-", *more, "-o", "-", "-n", "--json", stdin=listed)
    file = soupctl("avg", "--files-from", "list", *more, "-o", "-", "-n", "--json")
    soup = soupctl("avg", "--files-from", "list", *more, "-o", "soup.st")

    assert (0, b"") == (stdin.code, stdin.err)
    assert stdin.out == file.out
    paths = [each["path"] for each in stdin.json["ingredients"]]
    assert names == [path.encode("utf-8", "surrogateescape") for path in paths]
    assert {"1"} == {each["weight"] for each in stdin.json["ingredients"]}
    assert (0, b"") == (soup.code, soup.err)


def test_names_and_a_list_go_together_and_take_weights(soupctl, ingredients):
    done = soupctl("avg", "a.st@3", "--files-from", "-", "-o", "-", "-n", "--json", stdin=b"b.st")

    assert ["3", "1"] == [each["weight"] for each in done.json["ingredients"]]


def test_the_recipe_of_a_soup_is_piped_into_run(soupctl, ingredients):
    soupctl("avg", "a.st@0.7", "b.st@1/3", "-o", "soup.st")
    recipe = soupctl("log", "soup.st", "--recipe")

    again = soupctl("run", "-", "-o", "again.st", stdin=recipe.out)

    assert (0, b"", b"") == (again.code, again.out, again.err)
    assert Path("soup.st").read_bytes() == Path("again.st").read_bytes()


def test_the_recipe_of_a_pipeline_is_piped_into_run(soupctl):
    for seed, name in enumerate(("one", "two")):
        save_pipeline(Path(name), seed)
    soupctl("avg", "one@0.7", "two@1/3", "-o", "soup")
    recipe = soupctl("log", "soup", "--recipe")

    again = soupctl("run", "-", "-o", "again", stdin=recipe.out)

    assert (0, b"") == (again.code, again.out)
    weights = [path for path in files(Path("soup")) if path.endswith(".safetensors")]
    assert len(weights) == 4
    assert all(files(Path("soup"))[path] == files(Path("again"))[path] for path in weights)


@pytest.mark.parametrize(
    ("recipe", "options", "code", "said"),
    [
        (b"", [], 2, b"standard input: has no steps"),
        (b"[", [], 3, b"standard input: is not valid TOML"),
        (b"#" * (2**20 + 1), [], 3, b"standard input: has more than 1048576 bytes"),
        (b"", ["--lock"], 2, b"a recipe from standard input has no lock"),
    ],
)
def test_other_input_is_no_recipe(soupctl, ingredients, recipe, options, code, said):
    refused = soupctl("run", "-", "-o", "again.st", *options, stdin=recipe)

    assert code == refused.code
    assert said in refused.err
    assert not Path("again.st").exists()


def test_a_file_of_the_literal_name_wins_over_a_weight(soupctl, ingredients):
    Path("a.st@0.5").write_bytes(Path("b.st").read_bytes())

    done = soupctl("avg", "a.st@0.5", "a.st@0.5@2", "./a.st@2", "-o", "-", "-n", "--json")

    found = [(each["path"], each["weight"]) for each in done.json["ingredients"]]
    assert [("a.st@0.5", "1"), ("a.st@0.5", "2"), ("a.st", "2")] == found


def test_everything_after_two_dashes_is_an_input(soupctl, ingredients):
    Path("-o").write_bytes(Path("b.st").read_bytes())

    done = soupctl("avg", "-o", "-", "-n", "--json", "--", "a.st", "-o")

    assert ["a.st", "-o"] == [each["path"] for each in done.json["ingredients"]]


@pytest.mark.parametrize("verb", ["inspect", "hash"])
def test_a_reader_that_goes_away_is_quiet_141(process, save, verb):
    # more than a pipe holds
    save("a.st", {f"{number:0200}": np.zeros(1, np.float16) for number in range(2000)})
    arguments = (
        ["inspect", "a.st", "--tensors"] if verb == "inspect" else ["hash", *["a.st"] * 1500]
    )
    running = process(*arguments)

    first = running.stdout.read(4)
    running.stdout.close()

    assert 4 == len(first)
    assert (141, b"") == (running.wait(), running.stderr.read())
    running.stderr.close()


def test_a_reader_of_a_soup_that_goes_away_is_quiet_141(process, save, holds):
    save("a.st", {"w": np.zeros(1_000_000, np.float16)})
    before = holds()
    running = process("avg", "a.st", "-o", "-")

    running.stdout.close()

    assert (141, b"") == (running.wait(), running.stderr.read())
    assert before == holds()
    running.stderr.close()


def test_an_input_that_standard_output_appends_to_is_refused(process, ingredients):
    before = Path("a.st").read_bytes()

    with Path("a.st").open("ab") as end:
        running = process("avg", "a.st", "b.st", "-o", "-", stdout=end)
        _, err = running.communicate()

    assert (6, before) == (running.returncode, Path("a.st").read_bytes())
    assert err == b"soupctl: standard output: is also an input (choose another output)\n"


@needs_full
@pytest.mark.parametrize(
    "command",
    [
        "--help",
        "--version",
        "avg --help",
        "inspect a.st",
        "inspect a.st --json",
        "hash a.st",
        "hash --check list",
        "avg a.st b.st -o - -n",
        "avg a.st b.st -o -",
        "avg a.st b.st -o new.st --json",
    ],
)
def test_a_full_stdout_is_an_error_of_one_line(soupctl, ingredients, command):
    Path("list").write_bytes(soupctl("hash", "a.st").out)

    done = soupctl(*command.split(), out=FULL)

    assert 6 == done.code
    if "--json" in command:
        assert "standard output: No space left on device" == json.loads(done.message)["message"]
    else:
        assert "soupctl: standard output: No space left on device\n" == done.message


@needs_full
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_help_to_a_full_stdout_is_an_error_in_a_real_interpreter(process, unbuffered):
    with FULL.open("wb") as full:
        running = process("--help", environment={"PYTHONUNBUFFERED": unbuffered}, stdout=full)
        _, err = running.communicate()

    assert 6 == running.returncode
    assert b"soupctl: standard output: No space left on device\n" == err


@needs_full
def test_a_full_stderr_does_not_hide_the_exit_code(soupctl, ingredients):
    assert 3 == soupctl("avg", "none.st", "-o", "c.st", err=FULL).code
    assert 2 == soupctl("avg", "a.st", err=FULL).code


def closing(*fds: int) -> list[str]:
    """A shell that closes descriptors and becomes the command that follows."""
    return ["sh", "-c", f'exec "$@" {" ".join(f"{fd}>&-" for fd in fds)}', "sh"]


@pytest.mark.parametrize("fds", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_streams_that_are_closed_are_no_place_for_a_soup(ingredients, fds, soupctl):
    soupctl("avg", *ingredients, "-o", "expected.st")

    arguments = [*closing(*fds), sys.executable, "-m", "soupctl", "avg", *ingredients, "-o", "c.st"]
    done = subprocess.run(arguments, capture_output=True, check=False)

    assert (0, b"", b"") == (done.returncode, done.stdout, done.stderr)
    assert Path("expected.st").read_bytes() == Path("c.st").read_bytes()


@pytest.mark.parametrize(
    ("fd", "command", "code", "err"),
    [
        (0, "avg - b.st -o c.st", 3, b"soupctl: standard input: cannot be read: Bad file"),
        (1, "avg a.st b.st -o -", 6, b"soupctl: standard output: Bad file descriptor"),
        (1, "hash a.st", 6, b"soupctl: standard output: Bad file descriptor"),
        (2, "avg none.st -o c.st", 3, b""),
    ],
)
def test_a_closed_stream_that_is_needed_is_an_error(ingredients, holds, fd, command, code, err):
    before = holds()

    arguments = [*closing(fd), sys.executable, "-m", "soupctl", *command.split()]
    done = subprocess.run(arguments, capture_output=True, check=False)

    assert (code, b"") == (done.returncode, done.stdout)
    assert done.stderr.startswith(err)
    assert len(done.stderr.splitlines()) == bool(err)
    assert before == holds()


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    ],
    ids=str,
)
def test_names_beyond_ascii_are_shown_wherever_they_go(process, ingredients, environment):
    name = "caf\u00e9\u6c64.st"
    Path(name).write_bytes(Path("a.st").read_bytes())

    good = process("hash", name, environment=environment)
    out, err = good.communicate()
    bad = process("hash", f"no-{name}", environment=environment)
    _, message = bad.communicate()

    assert (0, b"") == (good.returncode, err)
    assert out.removeprefix(b"\\").startswith(b"blake3:")
    assert 3 == bad.returncode
    assert 1 == len(message.splitlines())
    assert message.startswith(b"soupctl: no-caf")


@pytest.fixture
def hostile(save) -> str:
    """A checkpoint whose names and metadata try to steer the terminal; so does its own name."""
    name = f"{ESCAPES}.st"
    save(name, {f"w{ESCAPES}": np.zeros(2, np.float32)}, {f"key{ESCAPES}": f"text{ESCAPES}"})
    return name


def test_no_escape_sequence_reaches_a_terminal(soupctl, hostile, save):
    save("nan.st", {f"w{ESCAPES}": np.full(2, np.nan, np.float32)})
    save("other.st", {f"v{ESCAPES}": np.zeros(2, np.float32)})
    Path("list").write_bytes(soupctl("hash", "nan.st").out.replace(b"nan", ESCAPES.encode()))
    commands = [
        ["inspect", hostile],
        ["inspect", hostile, "--json"],
        ["hash", hostile],
        ["hash", hostile, "--json"],
        ["hash", f"none{hostile}"],
        ["hash", "--check", "list"],
        ["avg", hostile, "-o", "-", "-n"],
        ["avg", hostile, "-o", "-", "-n", "--json"],
        ["avg", hostile, "-o", "soup.st", "-v"],
        ["avg", hostile, "-o", "soup2.st", "--json"],
        ["inspect", "soup.st"],
        ["avg", hostile, "nan.st", "-o", "c.st"],
        ["avg", hostile, "other.st", "-o", "c.st"],
        ["avg", hostile, "-o", f"none/{ESCAPES}.st"],
        ["avg", hostile, "-o", "c.st", "--dtype", ESCAPES],
        ["avg", hostile, "-o", "c.st", "-w", ESCAPES],
        ["avg", hostile, "-o", "c.st", f"--{ESCAPES}"],
        [ESCAPES],
    ]
    for command in commands:
        done = soupctl(*command)

        assert done.code in (0, 1, 2, 3, 4, 6), command
        for stream in (done.text, done.message):
            assert stream.replace("\n", "").isprintable(), (command, stream)
        # -v prints the plan first
        assert len(done.message.splitlines()) <= (8 if "-v" in command else 2), command


def test_a_name_that_no_unicode_can_carry_is_shown_escaped(soupctl, ingredients):
    name = os.fsdecode(b"\xff\x1b.st")
    Path(name).write_bytes(Path("a.st").read_bytes())

    done = soupctl("hash", name)

    assert done.text.startswith("\\blake3:")
    assert done.text.endswith("  \\xff\\x1b.st\n")
    for output in ("c.st", "-"):
        made = soupctl("avg", name, "b.st", "-o", output)
        raw = made.out or Path("c.st").read_bytes()
        soup = soupctl("inspect", "-", "--json", stdin=raw).json["checkpoints"][0]["soup"]

        assert (0, b"") == (made.code, made.err)
        found = {(each["name"], each["hint"]) for each in soup["ingredients"]}
        assert {("b.st", "b.st"), ("\\xff\x1b.st", "\\xff\x1b.st")} == found
