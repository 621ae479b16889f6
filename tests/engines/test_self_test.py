"""The self-test of an engine passes for one that is right, and names what is wrong in another."""

from __future__ import annotations

from soupctl.cli.app import commands
from soupctl.engines import choice
from soupctl.engines.cpu import CpuEngine
from soupctl.engines.reference import ReferenceEngine
from soupctl.engines.self_test import failures, mean_count
from soupctl.merge import doctor


class OneBitOff(ReferenceEngine):
    """An engine whose means of F16 are wrong in one bit."""

    def prepare(self, mean, sources, scales=None):
        combine = super().prepare(mean, sources, scales)

        def wrong(start, stop, out, origin=0):
            combine(start, stop, out, origin)
            if mean.out.value == "F16":
                out[-2] ^= 1

        return wrong


def test_every_dtype_is_tested_in_both_places():
    assert 36 == mean_count()
    assert [] == list(failures(CpuEngine()))
    assert [] == list(failures(ReferenceEngine()))


def test_an_engine_that_is_wrong_in_one_bit_is_found():
    found = list(failures(OneBitOff()))

    assert 6 == len(found)
    assert all(each.endswith(" to F16") for each in found)


def test_a_machine_with_a_wrong_engine_is_not_sound(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "engine_of", lambda execution: (OneBitOff(), execution))

    found = doctor.check_up()

    assert not found.is_sound
    assert 1 == commands().main(args=["doctor"], standalone_mode=False)
    assert "WRONG in" in capsys.readouterr().out


def test_every_gpu_is_tested_and_a_wrong_one_is_named(monkeypatch, capsys):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    engines = {0: ReferenceEngine(), 1: OneBitOff()}
    monkeypatch.setattr(choice, "count_gpus", lambda: 2)
    monkeypatch.setattr(choice, "open_engine", lambda gpus, budget: engines[gpus[0]])

    assert 1 == commands().main(args=["doctor"], standalone_mode=False)
    told = capsys.readouterr().out
    assert "engine    triton, GPU 0: 36 means as the reference computes them" in told
    assert "engine    triton, GPU 1: WRONG in " in told
