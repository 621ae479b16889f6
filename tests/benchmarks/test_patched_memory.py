import sys

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import patched_memory

SIZE = 64 << 20
LITTLE = 8 << 20


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel is asked in Linux's way")
def test_memory_that_was_used_and_given_back_is_counted_at_its_peak():
    before = patched_memory.in_memory("VmRSS")
    # whatever the tests before have given back
    block = bytearray(patched_memory.in_memory("VmHWM") - before + SIZE)
    block[:: 1 << 12] = b"x" * len(block[:: 1 << 12])
    during = patched_memory.in_memory("VmRSS")
    size = len(block)
    del block

    assert abs(during - before - size) < LITTLE
    assert patched_memory.in_memory("VmRSS") < during - size + LITTLE
    assert patched_memory.in_memory("VmHWM") >= during - LITTLE
