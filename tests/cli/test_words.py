"""What the commands say when all is well, to the letter."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
from making import save_raw

from soupctl import __version__


@pytest.fixture
def transcript(soupctl, golden):
    """Runs commands that succeed in silence, and compares what they print with a golden file."""

    def run(name: str, *commands: str) -> None:
        lines = []
        for command in commands:
            done = soupctl(*shlex.split(command))

            assert (0, "") == (done.code, done.message), command
            lines += [f"$ soupctl {command}", done.text]
        golden(name, "\n".join(lines))

    return run


HELPS = {
    "help": "--help",
    "help-avg": "avg --help",
    "help-commit": "commit --help",
    "help-ema": "ema --help",
    "help-run": "run --help",
    "help-greedy": "greedy --help",
    "help-search": "search --help",
    "help-rank": "rank --help",
    "help-inspect": "inspect --help",
    "help-hash": "hash --help",
    "help-diff": "diff --help",
    "help-doctor": "doctor --help",
    "help-bench": "bench --help",
    "help-convert": "convert --help",
    "help-report": "report --help",
    "help-record": "record --help",
    "help-finetune": "finetune --help",
    "help-patch-dmp": "patch-dmp --help",
    "help-stack": "stack --help",
    "help-sample": "sample --help",
    "help-demo": "demo --help",
    "help-help": "help --help",
}


@pytest.mark.parametrize("name", HELPS)
def test_help_reads_as_expected(transcript, name):
    transcript(name, HELPS[name])


def test_short_and_long_help_are_the_same(soupctl):
    for command in ([], ["avg"], ["inspect"], ["hash"], ["demo"]):
        assert soupctl(*command, "--help").out == soupctl(*command, "-h").out


def test_version_is_one_line(soupctl):
    assert f"soupctl {__version__}\n" == soupctl("--version").text


def test_inspect_reads_as_expected(transcript, ingredients, soupctl):
    soupctl("avg", "a.st", "b.st@2", "-o", "soup.st")

    transcript("inspect", "inspect a.st", "inspect soup.st", "inspect soup.st --summary")
    transcript("inspect-json", "inspect soup.st --json")
    transcript("inspect-json-summary", "inspect soup.st --json --summary")


def test_a_checkpoint_of_nothing_is_inspected_and_averaged(transcript, save, soupctl):
    save("none.st", {})
    save("empty.st", {"": np.zeros((0, 3), np.float16)})
    for name in ("none", "empty"):
        assert 0 == soupctl("avg", f"{name}.st", f"{name}.st", "-o", f"{name}-soup.st").code

    transcript("inspect-nothing", "inspect none-soup.st", "inspect empty-soup.st")


def test_equal_inputs_at_equal_places_give_an_equal_file(soupctl, ingredients, folder):
    soupctl("avg", "a.st", "b.st@2", "-o", "first.st")
    first = Path("first.st").read_bytes()
    other = folder / "other"
    other.mkdir()
    for name in ingredients:
        (other / name).write_bytes((folder / name).read_bytes())

    ways = [
        ["b.st@2", "a.st", "-o", "second.st", "-j", "1"],
        ["b.st", "a.st", "-w", "2,1", "-o", "third.st", "--max-memory", "1G"],
    ]
    for arguments in ways:
        assert 0 == soupctl("avg", *arguments).code
        assert first == Path(arguments[arguments.index("-o") + 1]).read_bytes()
    absolute = [str(other / "a.st"), f"{other / 'b.st'}@2", "-o", str(other / "c.st")]
    assert 0 == soupctl("avg", *absolute, environment={"TZ": "Asia/Kolkata"}, umask=0o077).code
    assert first == (other / "c.st").read_bytes()


def test_the_plan_reads_as_expected(transcript, ingredients):
    # free disk is the machine's, and unknown for standard output
    transcript("plan", "avg a.st b.st@1/3 -o - -n -j 2", "avg a.st b.st --dtype BF16 -o - -n -j 2")
    transcript("plan-selected", "avg a.st b.st --key 'conv.*' --exclude '*bias' -o - -n -j 2")
    transcript("plan-json", "avg a.st b.st@1/3 -o - -n --json -j 2")


def test_widening_of_mixed_dtypes_is_reported_with_a_way_to_avoid_it(soupctl, folder):
    for name, dtype in (("a.st", "F16"), ("b.st", "BF16")):
        save_raw(folder / name, {"w": (dtype, (2,), bytes(4))})
    said = "soupctl: F16 with BF16 becomes F32, which takes more room (avg --dtype bf16 makes BF16)"

    assert said in soupctl("avg", "a.st", "b.st", "-o", "c.st").message.splitlines()
    assert said in soupctl("avg", "a.st", "b.st", "-o", "d.st", "-n").message.splitlines()
    for more in (["--dtype", "bf16"], ["--dtype", "f32"], ["-q"]):
        assert "" == soupctl("avg", "a.st", "b.st", "-o", "f.st", "-f", *more).message
    assert 0 == soupctl("avg", "a.st", "-o", "g.st").code
    assert said in soupctl("add", "g.st", "b.st", "-o", "h.st").message.splitlines()
    assert "" == soupctl("subtract", "h.st", "b.st", "-o", "i.st").message
    assert Path("i.st").read_bytes()[-4:] == Path("a.st").read_bytes()[-4:]


def test_a_percentage_or_power_of_ten_is_the_same_exact_weight(soupctl, ingredients):
    expected = soupctl("avg", "a.st@7", "b.st@3/10", "-o", "-").out

    for first, second in (("700%", "30%"), ("7", "3e-1")):
        assert soupctl("avg", f"a.st@{first}", f"b.st@{second}", "-o", "-").out == expected
        assert soupctl("avg", "a.st", "b.st", "-w", f"{first},{second}", "-o", "-").out == expected


def test_the_plan_writes_nothing(soupctl, ingredients, holds):
    before = holds()

    assert 0 == soupctl("avg", *ingredients, "-o", "soup.st", "-n").code
    assert before == holds()


def test_hash_reads_as_expected(transcript, ingredients, soupctl):
    transcript("hash", "hash a.st b.st", "hash --sha256 a.st", "hash --json a.st")


def test_hash_check_gives_a_verdict_for_each_line(soupctl, ingredients, golden, folder):
    listed = soupctl("hash", *ingredients).out + soupctl("hash", "--sha256", "a.st").out
    (folder / "list").write_bytes(listed)
    good = soupctl("hash", "--check", "list")
    (folder / "list").write_bytes(listed.replace(b"b.st", b"a.st") + b"sha256:00  none.st\n")
    bad = soupctl("hash", "--check", "list")
    quiet = soupctl("hash", "--check", "-", "-q", stdin=listed)

    assert (0, b"a.st: OK\nb.st: OK\na.st: OK\n", b"") == (good.code, good.out, good.err)
    assert 1 == bad.code
    assert (0, b"", b"") == (quiet.code, quiet.out, quiet.err)
    golden("hash-check", bad.text + bad.message)


def test_the_result_as_json_reads_as_expected(transcript, ingredients):
    transcript("avg-json", "avg a.st b.st@1/3 -o soup.st --json -j 2")


def test_integers_taken_from_the_first_are_reported_even_in_a_pipe(soupctl, save, golden):
    for name, steps in (("a.st", 1), ("b.st", 2)):
        save(name, {"steps": np.array([steps]), "w": np.zeros(4, np.float32)})

    done = soupctl("avg", "a.st", "b.st", "-o", "soup.st", "--on-int", "first")

    assert (0, b"") == (done.code, done.out)
    golden("on-int-first", done.message)


def test_the_demo_shows_every_command_that_it_runs(soupctl, golden):
    done = soupctl("demo")

    assert (0, b"") == (done.code, done.err)
    # free disk and cores are the machine's
    lines = [
        line
        for line in done.text.splitlines(keepends=True)
        if not line.startswith(("write ", "memory "))
    ]
    golden("demo", "".join(lines))
