"""Commands run in the test's own process, where its fakes are."""

from __future__ import annotations

import signal

import pytest

from soupctl.cli.main import SIGNALS, main


def run_here(*words: str) -> int:
    """The exit code of a command, with the signal handlers of the test afterwards."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        with pytest.raises(SystemExit) as ended:
            main(words)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    code = ended.value.code
    assert isinstance(code, int)
    return code
