"""Whatever is put in and taken out, a soup has the bytes of one average of what remains."""

from __future__ import annotations

import pytest
from hypothesis import settings
from lives import KeptLife, Life

# a walk of hundreds of changes takes minutes on two cores
pytestmark = pytest.mark.timeout(900)


class TestLife(Life.TestCase):
    """Any sequence of changes gives the bytes of one average of what remains."""

    settings = settings(max_examples=40, stateful_step_count=14, deadline=None, derandomize=True)


class TestKeptLife(KeptLife.TestCase):
    """The same from kept sums, without reading what stays."""

    settings = settings(max_examples=40, stateful_step_count=14, deadline=None, derandomize=True)


@pytest.mark.slow
class TestLongLife(Life.TestCase):
    """The same for long."""

    settings = settings(max_examples=2, stateful_step_count=200, deadline=None, derandomize=True)


@pytest.mark.slow
class TestLongKeptLife(KeptLife.TestCase):
    """The same for long, from kept sums."""

    settings = settings(max_examples=2, stateful_step_count=200, deadline=None, derandomize=True)
