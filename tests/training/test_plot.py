"""`inspect --plot`: what the gates of a bank say on its base, as a picture and as numbers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from math import log
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from soupctl.cli import banks
from soupctl.diffusion import libraries
from soupctl.errors import LimitError


@pytest.fixture
def bank(tiny, bases):
    """Writes a bank for the base of a family: zero, unless it is to be of a size."""
    write = pytest.importorskip("tiny_banks").write_bank
    return lambda family, *words, **more: write(bases[family], *words, **more)


def pixels(path: str) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


@pytest.mark.parametrize("family", ["dit", "class", "text"])
@pytest.mark.parametrize("gate_input", ["time", "time+class"])
def test_the_gate_survey_agrees_with_a_forward_pass_of_the_base(
    bases, bank, tmp_path, family, gate_input
):
    torch = pytest.importorskip("torch")
    plots = pytest.importorskip("soupctl.images.gate_figure")
    loading = pytest.importorskip("soupctl.diffusion.loading")
    attach = pytest.importorskip("soupctl.banks.attachment").attach
    config = pytest.importorskip("soupctl.banks.config")
    written = bank(
        family, tmp_path / "bank", size=0.5, gate={"gate_input": config.GateInput(gate_input)}
    )
    (found,) = plots.plot_gates(tmp_path / "bank", bases[family]).surveys
    models = loading.load_models(plots.read_base(bases[family]))
    inputs = {"timestep": torch.tensor(found.timesteps[::40])}
    count, side = len(inputs["timestep"]), written.config.base.sample_size[0]
    inputs["sample" if family != "dit" else "hidden_states"] = torch.zeros(
        count, models.base.channels, side, side
    )
    if family == "text":
        inputs["encoder_hidden_states"] = torch.zeros(count, 8, 16)
    of_classes = []
    with torch.no_grad(), attach(models.denoiser, written) as attachment:
        for label in found.classes or (0,):
            if family != "text":
                inputs["class_labels"] = torch.full((count,), label)
            models.denoiser(**inputs)
            of_classes.append(attachment.gate_outputs(written))

    assert ((0, 1, 2) if (family, gate_input) in SEES_CLASSES else ()) == found.classes
    for block in found.blocks:
        weights = [each[block.site.name].weights for each in of_classes]
        expected = torch.stack(weights).double().mean(dim=0)
        torch.testing.assert_close(expected, block.weights[::40], rtol=1e-5, atol=1e-6)


SEES_CLASSES = {("dit", "time+class"), ("class", "time+class")}


def test_a_bank_is_plotted_and_its_figures_are_printed(soupctl, bases, bank):
    bank("dit", "run/bank", size=0)
    bank("dit", "full", size=2.0)

    zero = soupctl("inspect", "run", "--base", bases["dit"], "--plot", "zero.png", "--json")
    full = soupctl("inspect", "full", "--base", bases["dit"], "--plot", "full.png", "--summary")

    assert (0, 0) == (zero.code, full.code), zero.err + full.err
    gates = json.loads(zero.out)["bank"]["gates"]
    assert ["transformer_blocks.0", "transformer_blocks.1", "transformer_blocks.2"] == list(gates)
    for gate in gates.values():
        assert (4, log(4), 0) == (
            gate["weights"],
            gate["uniform_entropy"],
            gate["varies_with_time"],
        )
        assert ["0", "251", "503", "748", "999"] == list(gate["entropy"])
        assert pytest.approx([log(4)] * 5) == list(gate["entropy"].values())
        assert [0] * 5 == list(gate["strength"].values())
    assert f"full.png: the gates of full on {bases['dit']}\n" == full.err
    assert 3 == full.out.count("of 4 weights in use")
    assert not np.array_equal(pixels("zero.png"), pixels("full.png"))


def test_banks_of_a_stack_are_drawn_one_below_the_other(soupctl, bases, bank):
    for seed, name in enumerate("ab"):
        bank("dit", name, size=1.0, seed=seed)
    assert soupctl("stack", "a@1/2", "b", "-o", "both").code == 0
    words = ("--base", bases["dit"], "--json", "--summary")

    one = soupctl("inspect", "a", *words, "--plot", "a.png")
    both = soupctl("inspect", "both", *words, "--plot", "both.png")

    assert (0, 0) == (one.code, both.code), one.err + both.err
    alone, stack = json.loads(one.out)["bank"], json.loads(both.out)["stack"]
    assert ["1/2", "1"] == [each["weight"] for each in stack.values()]
    mine = alone["gates"]["transformer_blocks.0"]
    found = stack["a"]["gates"]["transformer_blocks.0"]
    assert mine["entropy"] == found["entropy"]
    halves = {timestep: each / 2 for timestep, each in mine["strength"].items()}
    assert halves == found["strength"]
    assert pixels("both.png").shape[0] > 1.5 * pixels("a.png").shape[0]


def test_a_base_is_found_by_its_name_and_its_weights(soupctl, bases, bank):
    digest = bank("dit", "old/bank", size=1.0).config.base.digest
    bank("dit", "run/bank", size=1.0, name="base")
    bank("dit", "strange/bank", size=1.0, name="../base")
    shutil.copytree(bases["plain"], "base")
    other = soupctl("inspect", "run", "--plot", "run.png")
    shutil.rmtree("base")
    shutil.copytree(bases["dit"], "base")

    found = soupctl("inspect", "run", "--plot", "run.png")
    nameless = soupctl("inspect", "old", "--plot", "old.png")
    path = soupctl("inspect", "strange", "--plot", "strange.png")

    assert digest is not None
    assert (2, 0, 2, 2) == (other.code, found.code, nameless.code, path.code), found.err
    assert "run.png: the gates of run on base\n" == found.err
    assert "soupctl: run: its base 'base' is neither here nor next to it" in other.err
    for refused in (other, nameless, path):
        assert "--base" in refused.err
        assert 1 == refused.err.count("\n")


def test_a_picture_is_replaced_only_if_that_is_asked(soupctl, bases, bank):
    bank("dit", "bank", size=1.0)
    Path("gate.png").write_bytes(b"mine")
    words = ("inspect", "bank", "--base", bases["dit"], "--plot", "gate.png")

    kept = soupctl(*words)
    before = Path("gate.png").read_bytes()
    replaced = soupctl(*words, "-f")

    assert (6, b"mine", 0) == (kept.code, before, replaced.code)
    assert Path("gate.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("bank", "--base", "class"), 4, "class DiTTransformer2DModel, but the base has UNet2D"),
        (("older", "--base", "dit"), 4, "was trained on a base with different weights\n"),
        (("bank", "--base", "nowhere"), 3, "nowhere: is not a folder"),
        (("dit",), 2, "is not a prompt bank, which --plot needs"),
        (
            ("bank", "--base", "dit", "--plot", "out.pdf"),
            2,
            "out.pdf: is not a file name of a picture",
        ),
    ],
)
def test_an_impossible_drawing_is_refused_in_one_line(soupctl, bases, bank, words, code, said):
    bank("dit", "bank")
    bank("dit", "older", digest="blake3:" + 64 * "0")
    for family in ("class", "dit"):
        Path(family).symlink_to(bases[family])

    done = soupctl("inspect", "--plot", "out.png", *words)

    assert code == done.code, done.err
    assert said in done.err
    assert ("", 1) == (done.out, done.err.count("\n"))
    assert not [*Path().glob("out.*")]


def test_nothing_is_replaced_without_a_picture(soupctl, bases, bank):
    bank("dit", "bank")

    done = soupctl("inspect", "bank", "-f")

    assert (2, "soupctl: -f needs --plot (it replaces a picture)\n") == (done.code, done.err)


def test_a_home_that_cannot_be_written_is_not_complained_of(bases, bank, tmp_path):
    bank("dit", tmp_path / "bank")
    words = ["inspect", tmp_path / "bank", "--base", bases["dit"], "--plot", tmp_path / "gate.png"]
    unwritable = {"HOME": "/dev/null", "XDG_CONFIG_HOME": "", "XDG_CACHE_HOME": ""}
    environment = {**os.environ, **unwritable, "MPLCONFIGDIR": ""}

    run = subprocess.run(
        [sys.executable, "-W", "error", "-m", "soupctl", *words],
        capture_output=True,
        text=True,
        check=False,
        env={name: value for name, value in environment.items() if value},
    )

    told = f"{tmp_path / 'gate.png'}: the gates of {tmp_path / 'bank'} on {bases['dit']}\n"
    assert (0, told) == (run.returncode, run.stderr)


def test_only_the_picture_needs_the_libraries(bases, bank, tmp_path, monkeypatch):
    bank("dit", tmp_path / "bank")
    command = [sys.executable, "-X", "importtime", "-m", "soupctl", "inspect", tmp_path / "bank"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    loaded = {line.rpartition("|")[2].strip() for line in run.stderr.splitlines()}
    assert (0, True) == (run.returncode, "soupctl.banks.inspect" in loaded)
    assert loaded.isdisjoint({"torch", "diffusers", "matplotlib", "PIL"})

    monkeypatch.setattr(libraries, "LIBRARIES", ("no_such_library",))
    with pytest.raises(LimitError, match="not installed: no_such_library"):
        banks.plot(str(tmp_path / "bank"), None, str(tmp_path / "gate.png"), force=False)
    assert not (tmp_path / "gate.png").exists()
