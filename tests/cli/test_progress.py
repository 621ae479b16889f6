"""Words on stderr: none in a pipe, a bar and a summary on a terminal, nothing with -q."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from revising import average
from terminal import Terminal

from soupctl import verbs
from soupctl.checkpoints.read_progress import report_reads_to
from soupctl.cli.progress import progress

COLOUR = b"\x1b[38;5;"


@pytest.fixture
def on_terminal(soupctl) -> Iterator[Callable[..., bytes]]:
    """What a command that succeeds shows on a terminal that is its stderr."""

    def run(*arguments: str, **environment: str | None) -> bytes:
        terminal = Terminal()
        done = soupctl(*arguments, err=terminal.path, environment=environment)
        shown = terminal.shown()

        assert (0, b"") == (done.code, done.out)
        return shown

    return run


def test_success_in_a_pipe_is_silent(soupctl, ingredients):
    done = soupctl("avg", *ingredients, "-o", "c.st")

    assert (0, b"", b"") == (done.code, done.out, done.err)


def test_a_terminal_shows_a_transient_progress_bar_and_the_result(on_terminal, ingredients):
    shown = on_terminal("avg", *ingredients, "-o", "c.st")

    bar = "\u2501".encode()
    assert bar in shown
    # the cursor that was hidden for the bar comes back
    assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l")
    last = shown[shown.rindex(bar) :]
    assert b"\x1b[2K" in last
    assert b"c.st: 2 ingredients, 3 tensors, blake3:" in last
    assert b" read and written in " in last


def test_quiet_is_silent_on_a_terminal_too(on_terminal, ingredients):
    assert b"" == on_terminal("avg", *ingredients, "-o", "c.st", "-q")


@pytest.mark.parametrize("colours", [True, False])
def test_no_color_is_honoured(on_terminal, ingredients, colours):
    no_color = None if colours else "1"
    shown = on_terminal("avg", *ingredients, "-o", "c.st", NO_COLOR=no_color, TERM="xterm-256color")

    assert colours == (COLOUR in shown)


def test_a_terminal_that_can_do_nothing_is_asked_for_nothing(on_terminal, ingredients):
    shown = on_terminal("avg", *ingredients, "-o", "c.st", TERM="dumb")

    assert b"\x1b" not in shown


def test_no_bar_is_drawn_beside_a_soup_on_stdout(soupctl, ingredients):
    terminal = Terminal()
    done = soupctl("avg", *ingredients, "-o", "-", err=terminal.path)

    assert 0 == done.code
    assert "\u2501".encode() not in terminal.shown()


def test_a_refusal_on_a_terminal_is_one_line_after_the_bar_has_gone(soupctl, ingredients, save):
    save("nan.st", {"w": np.full(4, np.nan, np.float32)})
    terminal = Terminal()
    done = soupctl("avg", "nan.st", "-o", "c.st", err=terminal.path)
    shown = terminal.shown()

    assert 3 == done.code
    assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l")
    assert shown.rindex(b"soupctl: nan.st: w: holds NaN") > shown.rindex(b"\x1b[?25h")
    assert shown.endswith(b"rules apply)\r\n")


@pytest.mark.parametrize(
    "command",
    ["hash a.st", "hash --sha256 a.st", "hash --check list", "verify soup.st", "has soup.st a.st"],
)
def test_commands_that_read_whole_files_show_a_bar(soupctl, ingredients, command):
    soupctl("avg", *ingredients, "-o", "soup.st")
    Path("list").write_bytes(soupctl("hash", "a.st").out)
    expected = soupctl(*command.split()).out

    terminal = Terminal()
    done = soupctl(*command.split(), err=terminal.path)
    quiet = Terminal()
    soupctl(*command.split(), "-q", err=quiet.path)

    assert (0, expected) == (done.code, done.out)
    assert b"\x1b[?25h" in terminal.shown()
    assert b"" == quiet.shown()


TIME_LEFT = rb"[0-9]:[0-9]{2}:[0-9]{2}"


@pytest.mark.parametrize(
    "command",
    [
        "hash folder",
        "hash pictures",
        "hash --check list",
        "verify soup.st",
        "verify kept.st --level rebuild",
        "verify d.st",
        "has soup.st a.st",
        "has soup.st a.st --search .",
    ],
)
def test_commands_that_digest_show_how_much_is_done_and_the_time_left(
    soupctl, ingredients, save, command
):
    soupctl("avg", *ingredients, "-o", "soup.st")
    soupctl("avg", *ingredients, "-o", "kept.st", "--keep-sum")
    soupctl("delta", *ingredients, "-o", "d.st")
    for folder in ("folder", "pictures"):
        Path(folder).mkdir()
    Path("folder/model.safetensors").write_bytes(Path("a.st").read_bytes())
    Path("pictures/a.png").write_bytes(b"any")
    Path("list").write_bytes(soupctl("hash", "a.st", "b.st").out)

    terminal = Terminal()
    done = soupctl(*command.split(), err=terminal.path)
    shown = terminal.shown()

    assert 0 == done.code
    finished = re.findall(rb"([0-9.]+)/([0-9.]+) (?:bytes|kB)", shown)
    assert max(float(done) for done, _ in finished) > 0
    assert max(float(expected) for _, expected in finished) > 0
    assert re.search(TIME_LEFT, shown)


def test_what_is_digested_is_what_was_expected(ingredients):
    told: list[int] = []

    class Told:
        expected = 0

        def expect(self, size: int) -> None:
            self.expected += size

        def __call__(self, size: int) -> None:
            told.append(size)

    reading = Told()
    average("soup.st", *ingredients)
    with report_reads_to(reading):
        verbs.verify("soup.st", execution=verbs.ExecutionOptions(1, progress=reading))

    assert reading.expected == sum(told) > 0


def test_notices_of_the_library_are_shown_above_the_bar(monkeypatch, capsys):
    monkeypatch.setattr("soupctl.cli.progress.is_terminal", lambda: True)
    log = logging.getLogger("soupctl.engines.native")

    with progress(1, quiet=False) as advance:
        log.info("compiling [kernels]")
        advance(1)
    log.info("not shown")

    shown = capsys.readouterr().err
    assert "compiling [kernels]\n" in shown
    assert "not shown" not in shown
