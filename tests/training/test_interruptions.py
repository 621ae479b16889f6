"""The first signal is deferred until it is safe to stop; a second one is not."""

from __future__ import annotations

import signal

import pytest

from soupctl.training.signals import deferred_signals


class Came(BaseException):
    """What the caller's handler raises."""


@pytest.fixture
def handled():
    """A caller that has a handler of its own for SIGTERM, and ignores SIGHUP."""

    def handler(number: int, frame: object) -> None:
        raise Came(number)

    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGTERM, handler)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield handler
    for number, old in kept.items():
        signal.signal(number, old)


def test_a_signal_is_kept_until_it_is_delivered_to_its_handler(handled):
    with deferred_signals() as signals:
        signal.raise_signal(signal.SIGTERM)

        assert signals.number == signal.SIGTERM
        with pytest.raises(Came):
            signals.deliver()


def test_a_second_signal_reaches_the_caller_at_once(handled):
    with deferred_signals():
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Came):
            signal.raise_signal(signal.SIGTERM)


def test_signal_handlers_are_restored_and_ignored_signals_stay_ignored(handled):
    with deferred_signals() as signals:
        signal.raise_signal(signal.SIGHUP)

    assert signals.number is None
    assert signal.getsignal(signal.SIGTERM) is handled
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
