"""Every option of `sample` and `stack` reaches the function that does the work."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from types import SimpleNamespace

import pytest
from option_spies import Spies, changed, given, options_of_commands

WORDS = {"sample": "base -o grid.png", "stack": "a b -o stack"}
OTHER_WORDS = {("stack", "without"): "a -o stack", ("sample", "grid"): "base -o folder"}
VALUES = {
    "bank": "bank",
    "device": "cpu",
    "output": "other",
    "prompt": "a red circle",
    "weights": "3,1",
    "without": "a",
}
NAMES = {
    "bank": "banks",
    "device": "text",
    "force": "replace",
    "grid": "with_grid",
    "output": "target",
    "prompt": "prompts",
    "weights": "inputs",
    "without": "name",
}
"""Arguments that an option is passed as."""
PRINTED = {"json", "quiet", "verbose"}
STACK = SimpleNamespace(weights={"a": 1})
STUBS = {
    "soupctl.banks.stacking.leave_out": STACK,
    "soupctl.banks.stacking.stack_banks": STACK,
    "soupctl.images.compare.sample_models": [SimpleNamespace(name="base", images=[0], notice="")],
    "soupctl.images.request.device_of": None,
    "soupctl.images.save.require_place": None,
    "soupctl.images.save.save_images": None,
}
"""Functions that do the work and are not let do it, and what they return."""
OPTIONS = [each for each in options_of_commands() if each[0] in WORDS]
IDS = [f"{command}-{parameter.name}" for command, parameter in OPTIONS]


@pytest.fixture
def observed(monkeypatch, tmp_path, capsys):
    """Runs a command line; what arrives at the functions that work, and what is printed."""
    monkeypatch.chdir(tmp_path)
    spies = Spies()
    for path, returned in STUBS.items():
        module, _, name = path.rpartition(".")
        monkeypatch.setattr(path, spies.on(getattr(import_module(module), name), returned))
    return partial(spies.observe, read=capsys.readouterr)


@pytest.mark.parametrize(("command", "parameter"), OPTIONS, ids=IDS)
def test_an_option_reaches_the_function_that_does_the_work(observed, command, parameter):
    words = OTHER_WORDS.get((command, parameter.name), WORDS[command]).split()

    plain = observed([command, *words])
    other = observed([command, *words, *given(parameter, VALUES)])

    allowed = {parameter.name, NAMES.get(parameter.name, parameter.name)}
    allowed |= {"printed"} if parameter.name in PRINTED else set()
    assert changed(plain, other) & allowed
