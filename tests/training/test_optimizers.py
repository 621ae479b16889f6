"""8-bit AdamW trains and resumes as AdamW does, although its state has another layout."""

from __future__ import annotations

import hashlib
import importlib.machinery
import json
import sys
from types import ModuleType, SimpleNamespace

import pytest
from safetensors.torch import load_file

from soupctl.choices import Optimizer
from soupctl.training import checkpoint

NESTED = "__bnb_optimizer_quant_state__"
"""Where bitsandbytes keeps tensors that have not the parameter's shape."""


@pytest.fixture(params=["what stands for it", "itself"])
def bitsandbytes(request, tiny, monkeypatch):
    """The library, where it is installed; and AdamW whose state is laid out as the library's is."""
    if request.param == "itself":
        return pytest.importorskip("bitsandbytes")
    torch = tiny.torch

    class AdamW8bit(torch.optim.AdamW):
        def state_dict(self):
            found = super().state_dict()
            kept = {"exp_avg", "exp_avg_sq"}
            states = {
                number: {
                    **{name: value for name, value in each.items() if name not in kept},
                    "step": int(each["step"]),
                    NESTED: {name: value for name, value in each.items() if name in kept},
                }
                for number, each in found["state"].items()
            }
            return {**found, "state": states}

        def load_state_dict(self, content):
            states = {
                number: {**each, **each[NESTED], "step": torch.tensor(float(each["step"]))}
                for number, each in content["state"].items()
            }
            for each in states.values():
                del each[NESTED]
            super().load_state_dict({**content, "state": states})

    library = ModuleType("bitsandbytes")
    library.__spec__ = importlib.machinery.ModuleSpec("bitsandbytes", None)
    library.optim = SimpleNamespace(AdamW8bit=AdamW8bit)
    monkeypatch.setitem(sys.modules, "bitsandbytes", library)
    return library


def result(output):
    """SHA-256 of the raw weights that a run ended with."""
    (path,) = output.glob("raw/unet/*.safetensors")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_resumed_run_with_8_bit_adamw_equals_an_uninterrupted_one(
    bitsandbytes, tiny, running, shards, tmp_path
):
    # bitsandbytes keeps the state of fewer than 4,096 parameters in 32 bits
    base = tiny.class_base(tmp_path / "base", width=16)

    def trained(name: str, steps: int) -> list[int]:
        spy, more = running.ReporterSpy(), {"optimizer": Optimizer.ADAMW8BIT, "steps": steps}
        running.run(base, shards["class"], tmp_path / name, spy, **more)
        return spy.steps

    trained("straight", 4)
    trained("longer", 2)

    assert [3, 4] == trained("longer", 4)
    assert result(tmp_path / "straight") == result(tmp_path / "longer")
    state = load_file(tmp_path / "longer/checkpoints/step-000004/optimizer.safetensors")
    is_narrow = any(each.dtype is tiny.torch.uint8 for each in state.values())
    assert is_narrow is not isinstance(bitsandbytes.optim, SimpleNamespace)


def test_the_state_of_an_optimizer_is_flattened_and_restored(tiny):
    tensor = tiny.torch.arange(3)
    found = {0: {"step": 3, NESTED: {"state1": tensor}}, 11: {"step": 3, "exp_avg": tensor}}

    tensors, plain = checkpoint.flatten(found)

    assert {f"0.{NESTED}.state1", "11.exp_avg"} == set(tensors)
    assert {"0.step": 3, "11.step": 3} == json.loads(json.dumps(plain))
    assert found == checkpoint.unflatten({**tensors, **plain})
