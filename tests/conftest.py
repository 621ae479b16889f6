"""What every test runs under: search for examples, signals, variables, and shared modules.

Rule 1: the signals that a caller ignores or blocks, as nohup, a shell's `&` and some CI do, are
heard again, also by what tests start; a signal that ends the tests ends what they started.
Rule 2: variables that name other servers, or change what programs print, are not those of the user.
"""

import gc
import os
import re
import signal
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import settings

# lets tests import the modules beside this one
sys.path.append(str(Path(__file__).parent))

# else torch's product of small matrices depends on where in memory they happen to lie; it is read
# when the first product is computed, which some modules do when they are imported
os.environ["MKL_CBWR"] = "COMPATIBLE"

# a test that fails once in a while proves nothing; the search for new examples is a run by hand
# with --hypothesis-profile=default, and for state machines tools/walk.py
settings.register_profile("ci", derandomize=True, deadline=None)
settings.load_profile("ci")

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


OF_THE_USER = re.compile(r"(?i:\w+_proxy)|(AWS|HF|RAY|SOUPCTL)_\w+|FORCE_COLOR|GITHUB_ACTIONS")
"""Environment variables that are removed for tests and for the processes that they start."""


def own_signals() -> None:
    """Let this process, and those that it starts, hear every signal."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in signal.valid_signals() - set(IGNORED_BY_PYTHON):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    for number in ENDING:
        # raises KeyboardInterrupt, so that fixtures end what runs
        signal.signal(number, signal.default_int_handler)


def pytest_configure(config):
    for name in filter(OF_THE_USER.fullmatch, tuple(os.environ)):
        del os.environ[name]
    if threading.current_thread() is threading.main_thread():
        own_signals()
    # triton reads it once, when a kernel is defined: a run of `pytest -m gpu` compiles kernels, any
    # other interprets them
    if config.option.markexpr != "gpu":
        os.environ["TRITON_INTERPRET"] = "1"


def pytest_collection_finish():
    """Let no collection of garbage look again at what is there for good; accelerate makes many."""
    gc.collect()
    gc.freeze()


EXAMPLES = re.compile(r"(\d+) passing, \d+ failing")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item, call):
    """Record how many examples Hypothesis tried, for `--junitxml` and so for tools/promises.py."""
    found = EXAMPLES.findall(getattr(item, "hypothesis_statistics", ""))
    if call.when == "call" and found:
        item.user_properties.append(("examples", sum(map(int, found))))
