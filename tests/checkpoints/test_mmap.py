"""Mappings: read-only, without a descriptor, and never pulled from under a view."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from soupctl.checkpoints.mmap import Mapping


@pytest.fixture
def source(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "mapped-by-a-test").write_bytes(b"0123456789")
    fd = os.open(tmp_path / "mapped-by-a-test", os.O_RDONLY)
    yield fd
    os.close(fd)


def descriptors() -> int:
    """How many descriptors this process holds."""
    return len(list(Path("/dev/fd").iterdir()))


def mapped() -> int:
    """How many mappings of the test's file there are."""
    return Path("/proc/self/maps").read_text().count("mapped-by-a-test")


linux = pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads /proc")


def test_a_mapping_shows_the_bytes_of_the_file(source):
    assert bytes(Mapping(source, 10).view) == b"0123456789"


def test_a_view_is_flat_and_read_only(source):
    view = Mapping(source, 10).view

    assert (True, "B", 1) == (view.readonly, view.format, view.ndim)
    with pytest.raises(TypeError):
        view[0] = 1


def test_an_empty_file_is_mapped_as_nothing(source):
    assert bytes(Mapping(source, 0).view) == b""


def test_a_mapping_outlives_the_descriptor(tmp_path):
    (tmp_path / "file").write_bytes(b"soup")
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    mapping = Mapping(fd, 4)
    os.close(fd)

    assert bytes(mapping.view) == b"soup"


def test_thousands_of_mappings_hold_no_descriptor(source):
    before = descriptors()

    mappings = [Mapping(source, 10) for _ in range(3000)]

    assert descriptors() == before
    assert {b"0123456789"} == {bytes(mapping.view) for mapping in mappings}


@linux
def test_memory_is_unmapped_when_the_last_view_is_gone(source):
    mapping = Mapping(source, 10)
    array = np.frombuffer(mapping.view[2:5], np.uint8)
    mapping.close()

    assert (1, [50, 51, 52]) == (mapped(), array.tolist())

    del array
    assert mapped() == 0


@linux
def test_memory_is_unmapped_when_a_mapping_is_forgotten(source):
    mapping = Mapping(source, 10)
    assert mapped() == 1

    del mapping
    assert mapped() == 0


def test_a_closed_mapping_hands_out_no_view(source):
    mapping = Mapping(source, 10)
    mapping.close()
    mapping.close()

    with pytest.raises(ValueError, match="closed"):
        mapping.view  # noqa: B018


def test_a_file_that_cannot_be_mapped_raises_an_os_error(source):
    with pytest.raises(OSError, match="Bad file descriptor"):
        Mapping(-1, 10)
