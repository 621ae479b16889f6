"""Words on stderr: none in a pipe, a bar and a summary on a terminal, nothing with -q."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from terminal import Terminal

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


def test_notices_of_the_library_are_shown_above_the_bar(monkeypatch, capsys):
    monkeypatch.setattr("soupctl.cli.progress.is_terminal", lambda: True)
    log = logging.getLogger("soupctl.engines.native")

    with progress(None, quiet=False) as advance:
        log.info("compiling [kernels]")
        advance(1)
    log.info("not shown")

    shown = capsys.readouterr().err
    assert "compiling [kernels]\n" in shown
    assert "not shown" not in shown
