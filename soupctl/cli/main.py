"""The entry point: runs a command line, and turns whatever happens into an exit code.

Rule 1: signal handlers are installed before heavy imports, so an early Ctrl-C is handled too.
Rule 2: an error is one line on stderr, or one JSON object, without a traceback.
"""

from __future__ import annotations

import errno
import gc
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from io import TextIOWrapper
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from ..collector import collect_seldom
from ..errors import Issue, LimitError, OutputError, SoupError, UsageError
from ..pattern import pattern
from .error_report import ErrorStyle, asks_for_json, report

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
CLOSED_PIPE = 128 + signal.SIGPIPE
RAY = "--ray"
"""The option whose value may be left out."""
INTERNAL = 70
"""The exit code of an unexpected failure, as in sysexits.h."""
TRACEBACK = "SOUPCTL_TRACEBACK"
"""The environment variable that turns on the traceback of such a failure."""
NO_MEMORY = pattern(r"(?:OutOfMemoryError: |DefaultCPUAllocator: can't allocate memory: )([^.]+)")
"""PyTorch's messages when a device or the system is out of memory."""
CLOSED = (("stdin", os.O_WRONLY, "r"), ("stdout", os.O_RDONLY, "w"), ("stderr", os.O_WRONLY, "w"))
"""The standard streams, and the mode in which /dev/null replaces each if it is closed."""
AGAIN = 0.01
"""Seconds before an interruption that was lost is raised again, and again if that is lost, too."""


class Interrupted(BaseException):
    """A signal that ends the command."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line `arguments`, by default the process's own, and exit."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    style = ErrorStyle(json=asks_for_json(words))
    try:
        code = _run_with_handlers(words, style)
    except Interrupted as interrupt:
        signal.setitimer(signal.ITIMER_REAL, 0)
        code = 128 + interrupt.number
        if interrupt.number == signal.SIGINT:
            report([Issue("interrupted")], code, style)
    _leave(code)


def _run_with_handlers(arguments: list[str], style: ErrorStyle) -> int:
    """The exit code of a command that a signal ends; after that, no signal counts any more."""
    for number in SIGNALS:
        # a caller such as nohup that ignores a signal keeps it ignored
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    sys.unraisablehook = _unraisable
    collect_seldom()
    _open_streams()
    try:
        code = _run(arguments, style)
        # a full disk behind stdout shows only here, and must be an error
        sys.stdout.flush()
    except BrokenPipeError:
        code = CLOSED_PIPE
    except MemoryError as error:
        # raised by an import that the command needs
        code = _report_failure(error, style)
    except OSError as error:
        code = _report_system_failure(error, style)
    _ignore_signals()
    return code


def _open_streams() -> None:
    """Open closed standard streams, and let stdout escape text that it cannot encode.

    Otherwise a file that soupctl opens would get the descriptor of a closed stream. Reading or
    writing data there fails as before, and messages are dropped.
    """
    for name, access, mode in CLOSED:
        if getattr(sys, name) is None:
            # the lowest free descriptor, which is the one that is missing
            setattr(sys, name, os.fdopen(os.open(os.devnull, access), mode))
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _interrupt(number: int, _frame: FrameType | None) -> None:
    # a second signal must not interrupt the clean-up after the first. Python prints a warning if a
    # pending signal is switched to SIG_IGN, so a handler that does nothing is set instead
    _ignore_signals()
    _raise_again(number)
    raise Interrupted(number)


def _ignore_signals() -> None:
    for each in SIGNALS:
        signal.signal(each, _ignore)


def _ignore(number: int, frame: FrameType | None) -> None:
    pass


def _raise_again(number: int) -> None:
    """Interrupt every moment from now on, unless an interruption is being handled.

    A handler runs wherever the interpreter is. What is raised within a finalizer, the callback of
    a weak reference or some functions in C, such as `compile`, goes no further.
    """

    def interrupt(_alarm: int, _frame: FrameType | None) -> None:
        if not _handles_interruption():
            raise Interrupted(number)

    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, AGAIN, AGAIN)


def _handles_interruption() -> bool:
    """Whether the interpreter cleans up after an interruption."""
    error = sys.exception()
    while error is not None and not isinstance(error, Interrupted):
        error = error.__context__
    return error is not None


def _unraisable(lost: UnraisableHookArgs) -> None:
    # an interruption is raised again
    if not isinstance(lost.exc_value, Interrupted):
        sys.__unraisablehook__(lost)


def _run(arguments: list[str], style: ErrorStyle) -> int:
    """The exit code of a command; a SoupError is reported on stderr."""
    # imported here, after the signal handlers are set
    import typer

    from .app import commands

    group = commands()
    if RAY in arguments:
        from .ray import with_address

        arguments = with_address(arguments)
    try:
        code = group.main(args=arguments, prog_name="soupctl", standalone_mode=False, obj=style)
        return int(code or 0)
    except SoupError as error:
        from .usage import for_command

        issues = for_command(error.issues, arguments, group)
        return report(issues, error.exit_code, style)
    except typer.TyperException as error:
        from .usage import issue_of

        return report([issue_of(error, arguments, group)], UsageError.exit_code, style)
    except SystemExit as leaving:
        # typer leaves by itself, with another code, when the reader of a pipe is gone
        if isinstance(leaving.__context__, BrokenPipeError):
            return CLOSED_PIPE
        raise
    except ImportError as error:
        # a library is missing, or there is no memory to load it
        return report([_no_library(error)], LimitError.exit_code, style)
    except OSError:
        # raised by one of our streams, as when there is no memory to flush it
        raise
    except Exception as error:  # noqa: BLE001
        return _report_failure(error, style)


def _report_system_failure(error: OSError, style: ErrorStyle) -> int:
    """Report a failure of the system that no refusal foresees; hands the exit code on."""
    if error.errno == errno.ENOMEM:
        return _report_failure(MemoryError(), style)
    if error.errno is None:
        # raised by a library that loads another one, with a message of its own
        return report([_no_library(error)], LimitError.exit_code, style)
    issue = Issue(error.strerror or str(error), error.filename or "standard output")
    return report([issue], OutputError.exit_code, style)


def _no_library(error: Exception) -> Issue:
    reason = str(error).strip().rpartition("\n")[2]
    return Issue(f"a library cannot be loaded: {reason}")


def _report_failure(error: Exception, style: ErrorStyle) -> int:
    """Report an unexpected exception; returns the exit code."""
    # without memory, Python's parser can report a SyntaxError in valid code
    if isinstance(error, (MemoryError, SyntaxError)):
        issue = Issue("out of memory", advice="--max-memory or --threads 1 needs less")
        return report([issue], LimitError.exit_code, style)
    if missing := NO_MEMORY.search(f"{type(error).__name__}: {error}"):
        return report([Issue(f"out of memory: {missing[1]}")], LimitError.exit_code, style)
    if os.environ.get(TRACEBACK):
        import traceback

        traceback.print_exc()
    issue = Issue(f"internal error: {type(error).__name__}: {error}")
    return report([issue], INTERNAL, style)


def _leave(code: int) -> NoReturn:
    # the interpreter looks for cycles among all objects before it ends
    gc.freeze()
    if code in (CLOSED_PIPE, OutputError.exit_code):
        # the rest of the buffer cannot be written, and the interpreter must not report that again
        # at exit
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)
