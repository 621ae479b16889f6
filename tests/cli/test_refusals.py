"""Bad input: one clear line, the documented exit code, nothing written, inputs untouched."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

USAGE, INPUT, MISMATCH, LEDGER, OUTPUT, LIMIT = 2, 3, 4, 5, 6, 7


def test_usage_errors_are_one_line(refused, ingredients):
    refused(
        "usage",
        USAGE,
        "avg a.st b.st -o ''",
        "avg a.st b.st -o c.st --component unet",
        "inspect a.st --component unet",
        "-v",
        "-v avg a.st b.st -o c.st",
        "--versoin",
        "mix a.st b.st -o c.st",
        "remove a.st b.st -o c.st",
        "swpa a.st b.st -o c.st",
        "xyzzy",
        "help remove",
        "avg a.st b.st",
        "avg -o c.st",
        "avg a.st b.st --wat -o c.st",
        "avg a.st b.st --outpt c.st",
        "avg a.st b.st --alpha 0.3 -o c.st",
        "add a.st b.st --ratio 0.3 -o c.st",
        "avg a.st b.st --overwrite -o c.st",
        "avg --models a.st b.st -o c.st",
        "subtract a.st b.st --dtype F16 -o c.st",
        "avg a.st b.st --json=1 -o c.st",
        "avg a.st b.st -o",
        "avg '' a.st -o c.st",
        "avg @0.7 a.st -o c.st",
        "avg @0.7 a.st -w 1,2 -o c.st",
        "avg a.st --files-from '' -o c.st",
        "avg - - -o c.st",
        "avg --files-from - - -o c.st",
        "avg -0 a.st b.st -o c.st",
        "avg a.st b.st -o - --json",
        "avg a.st b.st -o c.st -j 0",
        "avg a.st b.st -o c.st -j two",
        "avg a.st b.st -o c.st --max-memory lots",
        "avg a.st b.st -o c.st --max-memory 0",
        "avg a.st b.st -o c.st --dtype F17",
        "avg a.st b.st -o c.st --dtype I32",
        "avg a.st b.st -o c.st --on-int last",
        "avg a.st b.st -o c.st --key 'no.such*'",
        "avg a.st b.st -o c.st --key 'conv.*' --key steps --exclude 'convv.*' --exclude weight",
        "avg a.st b.st -o c.st --exclude '*.wght'",
        "avg a.st b.st -o c.st --exclude ''",
        "avg a.st b.st -o c.st --exclude '*'",
        "avg a.st b.st -o c.st --shard-size 1G",
        "avg a.st b.st -o new/",
        "avg a.st b.st -o new.ckpt",
        "avg a.st b.st -o new.BIN",
        "avg a.st b.st -o new.gguf --shard-size 1G",
        "merge a.st b.st -o c.st --method ties --base base.st --density 0.2 --lambda 1,2",
        "inspect",
        "inspect ''",
        "inspect a.st b.st",
        "hash",
        "hash --check list a.st",
        "hash --check list --sha256",
        "hash --check list --component unet",
        "hash --check ''",
        "hash ''",
        "hash - -",
        "hash --sha256 a.st --component unet",
        "hash --sha256 a.st --variant fp16",
        "demo --seed -1",
    )


@pytest.mark.parametrize("option", ["--max-memory", "--shard-size"])
@pytest.mark.parametrize("start", ["9", "1.", "\u0663"])
def test_a_size_of_more_digits_than_any_has_is_none(soupctl, ingredients, option, start):
    done = soupctl("avg", "a.st", "b.st", "-o", "c", option, start + "9" * 5000)

    shown = (start + "9" * 40)[:40]
    expected = f"soupctl: {option} '{shown}...' is not a size (such as 512M or 5GB)\n"
    assert (USAGE, b"", expected) == (done.code, done.out, done.message)


def test_weights_are_refused_that_are_none_or_cannot_be(refused, ingredients):
    refused(
        "weights",
        USAGE,
        "avg a.st@0 b.st -o c.st",
        "avg a.st@0.0 b.st -o c.st",
        "avg a.st@1/0 b.st -o c.st",
        "avg a.st@-1 b.st@0.5 -o c.st",
        "avg a.st@-1 b.st -o c.st",
        "avg a.st@ b.st -o c.st",
        "avg a.st@x b.st -o c.st",
        "avg a.st@nan b.st -o c.st",
        "avg a.st@inf b.st -o c.st",
        "avg a.st@1e400 b.st -o c.st",
        "avg a.st@1e99 b.st -o c.st",
        "avg a.st@1e-99 b.st -o c.st",
        "avg a.st@70%% b.st -o c.st",
        "avg a.st@0x1 b.st -o c.st",
        "avg a.st@1_0 b.st -o c.st",
        "avg 'a.st@ 1' b.st -o c.st",
        "avg a.st@\u0663 b.st -o c.st",
        "avg a.st@0.12345678901234567891 b.st -o c.st",
        "avg a.st@10000000000000000000 b.st -o c.st",
        "avg a.st@1/4611686018427387905 b.st -o c.st",
        f"avg a.st@{'9' * 61} b.st -o c.st",
        "avg a.st@-0.5 a.st@0.5 b.st -o c.st",
        "avg a.st b.st -w 1 -o c.st",
        "avg a.st b.st -w 1,2,3 -o c.st",
        "avg a.st b.st -w 1, -o c.st",
        "avg a.st b.st -w '' -o c.st",
        "avg a.st@2 b.st -w 1,1 -o c.st",
        "avg a.st b.st -w 0,1 -o c.st",
        "avg a.st b.st -w nan,1 -o c.st",
    )


def test_a_link_to_nowhere_is_refused_as_an_output(soupctl, ingredients):
    Path("dangling").symlink_to("none/c.st")

    done = soupctl("avg", "a.st", "b.st", "-o", "dangling")

    assert 6 == done.code
    assert done.message.startswith("soupctl: dangling: the folder ")
    assert done.message.endswith("/none does not exist (create it first)\n")


def test_an_output_that_may_not_be_is_refused(refused, ingredients):
    Path("old.st").write_bytes(b"old")
    Path("link.st").symlink_to("a.st")
    os.link("b.st", "hard.st")
    Path("taken").mkdir()
    Path("taken/precious").write_bytes(b"precious")
    Path("to-folder").symlink_to("taken")
    os.mkfifo("fifo")
    Path("loop").symlink_to("loop")

    refused(
        "output",
        OUTPUT,
        "avg a.st b.st -o old.st",
        "avg a.st b.st -o none/c.st",
        "avg a.st b.st -o a.st/c.st",
        "avg a.st b.st -o a.st -f",
        "avg a.st b.st -o a.st",
        "avg a.st b.st -o ./b.st -f",
        "avg a.st b.st -o link.st -f",
        "avg a.st b.st -o hard.st -f",
        "avg a.st b.st -o taken",
        "avg a.st b.st -o taken -f",
        "avg a.st b.st -o to-folder -f",
        "avg a.st b.st -o taken/ --shard-size 1k -f",
        "avg a.st b.st -o taken --shard-size 1k -f",
        "avg a.st b.st -o old.st/ --shard-size 1k -f",
        "avg a.st b.st -o .",
        "avg a.st b.st -o ..",
        "avg a.st b.st -o / --shard-size 1k",
        "avg a.st b.st -o fifo -f",
        "avg a.st b.st -o /dev/null -f",
        "avg a.st b.st -o /dev/full -f",
        "avg a.st b.st -o loop -f",
        f"avg a.st b.st -o {'n' * 300}",
        "demo taken",
        "demo none/demo",
    )


def test_a_folder_that_holds_an_input_is_not_replaced(refused, ingredients, soupctl):
    soupctl("avg", *ingredients, "-o", "soup", "--shard-size", "1k")
    Path("link").symlink_to("soup")

    refused(
        "output-of-inputs",
        OUTPUT,
        "avg soup a.st -o soup -f",
        "avg link a.st -o soup -f",
        "avg soup/model.safetensors a.st -o soup -f --shard-size 1k",
        "avg soup/model.safetensors a.st -o link -f --shard-size 1k",
    )


def test_limits_are_refused(refused, ingredients):
    refused("limits", LIMIT, "avg a.st b.st -o c.st --max-memory 1M")


def test_a_ledger_that_does_not_fit_is_refused(refused, ingredients, soupctl):
    soupctl("avg", *ingredients, "-o", "soup.st")
    raw = Path("soup.st").read_bytes()
    # the last byte belongs to a tensor
    Path("changed.st").write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    newer = raw.replace(rb"\"format\":1", rb"\"format\":9")
    Path("newer.st").write_bytes(newer)
    Path("broken.st").write_bytes(raw.replace(rb"\"format\":1", rb"\"format\":["))

    assert raw != newer
    refused("ledger", LEDGER, *(f"avg a.st {each}.st -o c.st" for each in ("changed", "newer")))
    refused("ledger-broken", LEDGER, "avg a.st broken.st -o c.st")


def test_streams_that_are_no_safetensors_file_are_refused(refused, ingredients):
    whole = Path("a.st").read_bytes()
    streams = {
        "empty": b"",
        "short": whole[:4],
        "in-header": whole[:20],
        "in-data": whole[:-1],
        "longer": whole + b"\0",
        "pickle": pickle.dumps({"w": [0.5]}),
    }
    for name, stream in streams.items():
        refused(f"stream-{name}", INPUT, "avg - b.st -o c.st", stdin=stream)


def test_lists_that_are_none_are_refused(refused, ingredients):
    refused("list-of-files", INPUT, "avg --files-from - -o c.st", stdin=b"a.st\nnone.st\n")
    refused("list-of-digests", INPUT, "hash --check -", "hash --check none", stdin=b"hello\n")
    refused("list-of-nothing", INPUT, "hash --check -")


def test_a_list_is_never_waited_for_and_never_endless(soupctl, refused, ingredients):
    os.mkfifo("fifo")
    commands = [
        command.format(source)
        for source in ("fifo", "/dev/zero", ".")
        for command in ("hash --check {}", "avg none.st --files-from {} -o c.st")
    ]
    endless = soupctl("avg", "--files-from", "-", "-o", "c.st", stdin=Path("/dev/zero"))

    refused("list-of-irregulars", INPUT, *commands)
    expected = "soupctl: -: has more than 100000000 bytes, too many for a list\n"
    assert (INPUT, expected) == (endless.code, endless.message)


REFUSED_OUTPUTS = [
    "old.st",
    "none/c.st",
    "a.st/c.st",
    "a.st -f",
    "link.st -f",
    "taken",
    "fifo -f",
    "n" * 300,
    "none/c --shard-size 1k",
    "old --shard-size 1k -f",
    "taken --shard-size 1k -f",
    "soup --shard-size 1k",
    "foreign --shard-size 1k -f",
]


@pytest.fixture
def outputs(soupctl, ingredients) -> None:
    """What lies in the way of outputs."""
    for name in ("soup", "foreign"):
        soupctl("avg", *ingredients, "-o", name, "--shard-size", "1k")
    Path("foreign/precious").write_bytes(b"precious")
    for name in ("old", "old.st"):
        Path(name).write_bytes(b"old")
    Path("taken").mkdir()
    Path("link.st").symlink_to("a.st")
    os.mkfifo("fifo")


def test_a_plan_is_refused_as_the_making_would_be(soupctl, outputs, holds):
    before = holds()
    for output in REFUSED_OUTPUTS:
        arguments = ["avg", "a.st", "b.st", "-o", *output.split()]
        plan, making = soupctl(*arguments, "-n"), soupctl(*arguments)

        assert (OUTPUT, b"") == (making.code, making.out), output
        assert (making.code, making.out, making.err) == (plan.code, plan.out, plan.err), output
    for output in ("old.st -f", "soup --shard-size 1k -f"):
        plan = soupctl("avg", "a.st", "b.st", "-o", *output.split(), "-n")

        assert (0, b"") == (plan.code, plan.err), output
    assert before == holds()


def test_an_output_to_a_terminal_is_refused(soupctl, ingredients, holds):
    master, slave = os.openpty()
    before = holds()

    done = soupctl("avg", *ingredients, "-o", "-", out=Path(os.ttyname(slave)))

    os.set_blocking(master, False)
    with pytest.raises(BlockingIOError):
        os.read(master, 1)
    os.close(master)
    os.close(slave)
    expected = "soupctl: standard output: is a terminal (redirect it, or name a file)\n"
    assert (6, expected) == (done.code, done.message)
    assert before == holds()
