"""Prompt banks on the denoisers of SDXL, SD3 and Flux: what they add, learn, and draw.

Rule 1: the oracle adds prompts in hooks of its own, by the formula of Diffusion Model Patching.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from family_images import PROMPTS, SEED, batch_of, images_of, pipeline, with_ddim

from soupctl.banks.config import GateInput
from soupctl.banks.files import load_bank
from soupctl.choices import Schedule
from soupctl.errors import UsageError
from soupctl.images.compare import sample_models
from soupctl.images.request import SampleRequest
from soupctl.training import train_bank, train_denoiser
from soupctl.training.bank_options import PatchOptions
from soupctl.training.distributed import start_accelerator
from soupctl.training.setup import RunRequest, prepare

FAMILIES = ("sdxl", "sd3", "flux")
GRID = 2
"""Rows and columns of gate weights for a UNet."""
CONSTANT = {"lr": 1e-1, "lr_schedule": Schedule.CONSTANT}
"""A rate that does not depend on the number of steps, for runs that are made longer."""


@pytest.fixture(scope="session")
def banks(running, families, shards, tmp_path_factory) -> dict[str, list[Path]]:
    """Two runs that train a bank for each family, on other seeds."""
    folder = tmp_path_factory.mktemp("banks")

    def run(family: str, seed: int) -> Path:
        out = folder / family / f"seed{seed}"
        options = {**CONSTANT, "steps": 2, "resolution": 8, "seed": seed, "save_every": 1}
        spy = running.ReporterSpy()
        running.patch(families[family], shards["text"], out, spy, {"gate_grid": GRID}, **options)
        return out

    return {family: [run(family, seed) for seed in range(2)] for family in FAMILIES}


@contextmanager
def added_by_hand(model: Any, tensors: dict[str, torch.Tensor]) -> Iterator[None]:
    """The prompts of a bank, by the names of its file, added to the input of each block."""
    seen = {}

    def see(_model: Any, args: Any, kwargs: Any) -> None:
        sample = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        times = kwargs["timestep"] if "timestep" in kwargs else args[1]
        seen["time"] = time_embedding(model, times.expand(len(sample)))

    def add(name: str, depth: int) -> Any:
        prompts = tensors[f"prompts.{name}"]

        def hook(_block: Any, args: Any, kwargs: Any) -> Any:
            is_named = "hidden_states" in kwargs
            hidden = kwargs["hidden_states"] if is_named else args[0]
            changed = hidden + weighted(tensors, prompts, seen["time"], depth)
            if is_named:
                return args, {**kwargs, "hidden_states": changed}
            return (changed, *args[1:]), kwargs

        return hook

    handles = [model.register_forward_pre_hook(see, with_kwargs=True)]
    names = [name.removeprefix("prompts.") for name in tensors if name.startswith("prompts.")]
    for depth, (name, block) in enumerate(blocks(model)):
        assert name in names
        handles.append(block.register_forward_pre_hook(add(name, depth), with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def time_embedding(model: Any, times: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        if hasattr(model, "time_embedding"):
            return model.time_embedding(model.time_proj(times))
        if type(model).__name__ == "FluxTransformer2DModel":
            times = times * 1000
        embedder = model.time_text_embed
        return embedder.timestep_embedder(embedder.time_proj(times))


def weighted(
    tensors: dict[str, torch.Tensor], prompts: torch.Tensor, time: torch.Tensor, depth: int
) -> torch.Tensor:
    """Prompts [N, D] times the gate's weight of each, or [C, H, W] times that of each cell."""
    if prompts.dim() == 2:
        rows = prompts.shape[0]
    else:
        sides = [min(GRID, side) for side in prompts.shape[1:]]
        rows = sides[0] * sides[1]
    inputs = torch.cat([time, torch.full((len(time), 1), float(depth))], dim=1)
    weight, bias = (tensors[f"gate.{rows}.{name}"] for name in ("weight", "bias"))
    gate = torch.nn.functional.linear(inputs, weight, bias).softmax(dim=1)
    if prompts.dim() == 2:
        return gate[:, :, None] * prompts
    height, width = prompts.shape[1:]
    cells = gate.reshape(-1, 1, *sides)
    cells = cells.repeat_interleave(height // sides[0], 2).repeat_interleave(width // sides[1], 3)
    return cells * prompts


def blocks(model: Any) -> Iterator[tuple[str, Any]]:
    """The blocks of a denoiser in the order of the forward pass."""
    kinds = ["down_blocks", "mid_block", "up_blocks"]
    kinds += ["transformer_blocks", "single_transformer_blocks"]
    for kind in kinds:
        found = getattr(model, kind, None)
        if isinstance(found, torch.nn.ModuleList):
            yield from ((f"{kind}.{index}", each) for index, each in enumerate(found))
        elif found is not None:
            yield kind, found


@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_has_the_loss_and_gradient_of_plain_torch(
    families, shards, banks, running, tmp_path, family
):
    options = running.Options(steps=1, resolution=8)
    patch = PatchOptions(gate_grid=GRID)
    request = RunRequest(families[family], shards["text"], tmp_path, options, patch=patch)
    (run,) = prepare([request], start_accelerator(options))
    models, batch = running.load_models(run.base), batch_of(4, (10, 900))
    state = train_bank.initial_state(run, models)
    denoising = train_denoiser.loss_function(run, models)
    own = load_bank(banks[family][0] / "bank").tensors()
    for name, tensor in state.model.bank.tensors().items():
        tensor.copy_(own[name])
    loss = train_bank.loss_function(run, models, state)(state.model, batch)
    loss.backward()
    found = {
        name: value.grad
        for (name, value) in zip(
            state.model.bank.tensors(), in_order(state.model.bank), strict=True
        )
    }
    state.model.attachment.remove()
    plain = denoising(models.denoiser, batch)
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in own.items()}

    with added_by_hand(models.denoiser, leaves):
        expected = denoising(models.denoiser, batch)
        expected.backward()

    assert loss == expected != plain
    for name, leaf in leaves.items():
        torch.testing.assert_close(leaf.grad, found[name], rtol=1e-5, atol=1e-9)
        assert leaf.grad.any(), name


def in_order(bank: Any) -> list[torch.nn.Parameter]:
    """The parameters of a bank in the order of its tensors."""
    own = {each.data_ptr(): each for each in bank.parameters()}
    return [own[tensor.data_ptr()] for tensor in bank.tensors().values()]


@pytest.mark.parametrize("family", FAMILIES)
def test_images_are_those_of_diffusers_with_the_prompts_added_by_hand(
    families, banks, running, family
):
    own = pipeline(families[family])
    flows = running.read_base(families[family]).family.is_flow
    path = banks[family][0] / "bank"
    options = {"guidance_scale": 2.0}
    with added_by_hand(
        own.unet if family == "sdxl" else own.transformer, load_bank(path).tensors()
    ):
        expected = images_of(own if flows else with_ddim(own), families[family], running, **options)
    request = SampleRequest(PROMPTS, images=2, steps=2, guidance=2.0, seed=SEED, resolution=8)

    plain, patched = sample_models([families[family]], [path], request, torch.device("cpu"))

    assert torch.equal(expected, (patched.images / 2 + 0.5).clamp(0, 1))
    assert not torch.equal(plain.images, patched.images)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_interrupted_run_equals_an_uninterrupted_one(
    families, shards, banks, running, tmp_path, family
):
    options = {**CONSTANT, "resolution": 8, "save_every": 1, "grad_checkpointing": True}
    for steps in (1, 2):
        spy, bank = running.ReporterSpy(), {"gate_grid": GRID}
        out = tmp_path / "run"
        running.patch(families[family], shards["text"], out, spy, bank, **options, steps=steps)

    assert [2] == spy.steps
    found, expected = (load_bank(each / "bank").tensors() for each in (out, banks[family][0]))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_banks_are_averaged_stacked_and_removed_and_record_their_data(
    families, banks, soupctl, family
):
    one, two = (path / "bank" for path in banks[family])
    words = ("--prompt", "a red circle", "--steps", 1, "--images", 1, "--resolution", 8, "-q")
    mean = soupctl("avg", one, two, "-o", "mean")
    left = soupctl("subtract", "mean", two, "-o", "left")
    stack = soupctl("stack", f"{one}@0.5", two, "-o", "both")
    drawn = soupctl(*("sample", families[family], "--bank", "both", *words, "-o", "i.png"))
    plot = soupctl("inspect", one, "--base", families[family], "--plot", "gate.png")
    log = soupctl("log", "mean", "--tree")

    ended = (mean, left, stack, drawn, plot, log)
    assert [0] * 6 == [each.code for each in ended], [each.err for each in ended]
    first, second, both, alone = (
        load_bank(Path(path)).tensors() for path in (one, two, "mean", "left")
    )
    for name, tensor in both.items():
        exact = (first[name].double() + second[name].double()) / 2
        assert torch.equal(exact.float(), tensor)
        assert torch.equal(first[name], alone[name])
    assert "captioned" in log.out
    assert Path("i.png").stat().st_size


def test_a_gate_that_sees_captions_is_not_plotted(families, shards, running, soupctl):
    options = {"steps": 1, "resolution": 8}
    bank = {"gate_input": GateInput.TIME_AND_CLASS, "blocks": "0"}
    out, spy = Path("run"), running.ReporterSpy()
    running.patch(families["flux"], shards["text"], out, spy, bank, **options)

    ended = soupctl("inspect", "run", "--base", families["flux"], "--plot", "gate.png")

    assert 4 == ended.code
    assert "has a gate that depends on captions, too" in ended.err


@pytest.mark.parametrize("family", ["sd3", "flux"])
def test_prompts_before_the_sequence_are_refused(families, shards, running, tmp_path, family):
    spy = running.ReporterSpy()
    with pytest.raises(UsageError, match="only the sequence of a DiT"):
        running.patch(
            *(families[family], shards["text"], tmp_path / "run", spy, {"prepend": 2}),
            resolution=8,
        )
