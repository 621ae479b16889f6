"""Small files beside the weights: read whole, and only if they are regular and small."""

from __future__ import annotations

import os

import pytest

from soupctl.errors import InputError
from soupctl.storage.regular import read_small


def test_a_small_file_is_read_whole(tmp_path):
    (tmp_path / "config.json").write_bytes(b"{}")

    assert read_small(tmp_path / "config.json", "config.json") == b"{}"


def test_a_small_file_that_is_large_is_refused(tmp_path):
    (tmp_path / "config.json").write_bytes(bytes(11))

    with pytest.raises(InputError, match=r"^config\.json: has 11 bytes, too many"):
        read_small(tmp_path / "config.json", "config.json", limit=10)


def test_a_small_file_that_is_a_fifo_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "config.json")

    with pytest.raises(InputError, match=r"^config\.json: is a FIFO"):
        read_small(tmp_path / "config.json", "config.json")
