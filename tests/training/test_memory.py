"""Options that save memory: what they compute, that runs with them resume, and what they refuse."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from soupctl import verbs
from soupctl.choices import Optimizer, Precision, WeightDtype
from soupctl.errors import OutputError, UsageError
from soupctl.merge.ema.profiles import gamma_of
from soupctl.training.averages import PowerTrack
from soupctl.training.distributed import require_supported_options
from soupctl.training.optimizers import (
    ParameterOptimizers,
    make_optimizer,
    stochastically_rounded,
)
from soupctl.training.options import Options

UNCLIPPED = {"max_grad_norm": 0.0}
FUSED = {"fused_backward": True, **UNCLIPPED}
COARSE = {"weight_dtype": WeightDtype.BFLOAT16, "precision": Precision.BF16, "ema": False}
SMALLEST = {**FUSED, **COARSE, "optimizer": Optimizer.ADAFACTOR}
TRACKS = {"ema_tracks": "0.05,0.1", "ema_on_cpu": True, "keep": 9}
SMALLEST_TOML = """\
optimizer = "adafactor"
weight-dtype = "bfloat16"
fused-backward = true
max-grad-norm = 0
"""
AVERAGES_TOML = """\
optimizer = "adafactor"
ema-on-cpu = true
"""


def record(run: Path) -> dict:
    return json.loads((run / "soupctl.json").read_text())


def same_run(one: Path, other: Path) -> bool:
    """Whether two runs ended with the same weights, and the same last checkpoints."""
    places = [(run / "checkpoints" / "step-000004") for run in (one, other)]
    names = {path.name for path in places[0].glob("*.safetensors")}
    assert names == {path.name for path in places[1].glob("*.safetensors")}
    return record(one)["weights"] == record(other)["weights"] and all(
        (places[0] / name).read_bytes() == (places[1] / name).read_bytes() for name in names
    )


@pytest.fixture(scope="module")
def runs(running, bases, shards, tmp_path_factory) -> dict[str, Path]:
    """Runs of four steps: one with nothing changed, one with clipping off, one with averages."""
    folder = tmp_path_factory.mktemp("memory")
    for name, options in {"usual": {}, "unclipped": UNCLIPPED, "averages": TRACKS}.items():
        spy, often = running.ReporterSpy(), {"save_every": 1}
        running.run(bases["class"], shards["class"], folder / name, spy, **often, **options)
    return {name: folder / name for name in ("usual", "unclipped", "averages")}


@pytest.mark.parametrize(
    ("usual", "options"), [("unclipped", FUSED), ("usual", {"ema_on_cpu": True})], ids=str
)
def test_an_option_of_memory_alone_changes_no_byte(runs, trained, tmp_path, usual, options):
    trained("class", tmp_path / "run", save_every=1, **options)

    assert same_run(runs[usual], tmp_path / "run")


@pytest.mark.parametrize(
    "options",
    [{"optimizer": Optimizer.ADAFACTOR}, {**COARSE}, SMALLEST, TRACKS],
    ids=["adafactor", "bfloat16", "smallest", "averages"],
)
def test_a_resumed_run_equals_an_uninterrupted_one(trained, tmp_path, options):
    trained("dit", tmp_path / "straight", **options)
    trained("dit", tmp_path / "longer", steps=2, **options)

    spy = trained("dit", tmp_path / "longer", **options)

    assert [3, 4] == spy.steps
    assert same_run(tmp_path / "straight", tmp_path / "longer")


@pytest.mark.parametrize(
    ("config", "more"),
    [
        (SMALLEST_TOML, ("--precision", "bf16", "--no-ema")),
        (AVERAGES_TOML, ("--ema-tracks", "0.05,0.1")),
    ],
    ids=["smallest", "averages"],
)
def test_a_killed_run_resumes_to_the_same_bytes(soupctl, bases, shards, config, more):
    Path("small.toml").write_text(config)
    words = ("finetune", bases["dit"], "--data", shards["dit"], "--config", "small.toml")
    words = (*words, "--batch-size", 2, "--steps", 4, "--save-every", 1, "--lr", 1e-3, *more)
    straight = soupctl(*words, "-o", "straight")
    killed = soupctl(*words, "-o", "killed", killed_at_sync=24)

    resumed = soupctl(*words, "-o", "killed")

    ended = [each.code for each in (straight, killed, resumed)]
    assert [0, -signal.SIGKILL, 0] == ended, resumed.err
    assert "resuming from killed/checkpoints/step-00000" in resumed.err
    assert same_run(Path("straight"), Path("killed"))


def test_gradients_are_freed_in_the_backward_pass(monkeypatch):
    """No gradient is left when the first layer, whose gradient comes last, is stepped."""
    layers = torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(3)))
    options = Options(steps=1, **FUSED)
    optimizer = ParameterOptimizers(list(layers.parameters()), options)
    alive = []
    for parameter in layers.parameters():
        parameter.register_post_accumulate_grad_hook(
            lambda _: alive.append(sum(each.grad is not None for each in layers.parameters()))
        )
    before = [each.detach().clone() for each in layers.parameters()]
    layers(torch.ones(2, 4)).square().mean().backward()

    assert [0] * 6 == alive
    assert all(not torch.equal(*pair) for pair in zip(before, layers.parameters(), strict=True))
    assert sorted(optimizer.state_dict()["state"]) == list(range(6))


@pytest.mark.parametrize("kind", [Optimizer.ADAMW, Optimizer.ADAFACTOR])
@pytest.mark.parametrize("is_fused", [False, True])
def test_an_optimizer_for_each_parameter_steps_as_a_single_one(kind, is_fused):
    options = Options(steps=1, optimizer=kind, lr=1e-2, fused_backward=is_fused, max_grad_norm=0.0)
    models = [torch.nn.Linear(5, 3), torch.nn.Linear(5, 3)]
    models[1].load_state_dict(models[0].state_dict())
    single = make_optimizer(list(models[0].parameters()), options)
    several = ParameterOptimizers(list(models[1].parameters()), options)
    for number in range(3):
        inputs = torch.randn(4, 5, generator=torch.Generator().manual_seed(number))
        for model, optimizer in zip(models, (single, several), strict=True):
            model(inputs).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()

    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(one, other)
    states = single.state_dict()["state"], several.state_dict()["state"]
    assert states[0].keys() == states[1].keys()
    for number, state in states[0].items():
        for name, value in state.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(states[1][number][name]))


def test_random_rounding_keeps_the_mean_and_what_bfloat16_has():
    spacing = 2.0**-7
    values = torch.full((4096,), 1 + spacing / 4)
    rounded = stochastically_rounded(values, seed=1, step=2, number=3)

    assert rounded.dtype is torch.bfloat16
    assert {1.0, 1 + spacing} == set(rounded.tolist())
    # the standard deviation of the share that is rounded up is sqrt(3/16/4096), or 0.0068
    assert abs(float((rounded > 1).float().mean()) - 0.25) < 4 * 0.0068
    assert torch.equal(rounded, stochastically_rounded(values, 1, 2, 3))
    for place in ((0, 2, 3), (1, 0, 3), (1, 2, 0)):
        assert not torch.equal(rounded, stochastically_rounded(values, *place))
    own = torch.tensor([0.0, -1.5, 2.0**-120, float("inf"), -float("inf")])
    assert torch.equal(own, stochastically_rounded(own, 0, 0, 0).float())
    assert stochastically_rounded(torch.tensor([float("nan")]), 0, 0, 0).isnan().all()
    negative = stochastically_rounded(-values, 1, 2, 3)
    assert torch.equal(-rounded, negative)


def test_steps_that_are_smaller_than_the_spacing_of_bfloat16_count():
    weights = torch.nn.Parameter(torch.ones(4096, dtype=torch.bfloat16))
    optimizer = ParameterOptimizers(
        [weights], Options(steps=1, lr=1e-4, weight_decay=0.0, **COARSE)
    )
    for _ in range(20):
        weights.grad = torch.ones_like(weights)
        optimizer.step()

    # AdamW's steps with a constant gradient are as long as the rate
    moved = 1 - float(weights.detach().double().mean())
    # each step adds a variance of at most rate * spacing to each of 4096 weights
    deviation = (20 * 1e-4 * 2.0**-8 / 4096) ** 0.5
    assert abs(moved - 20 * 1e-4) < 4 * deviation < 20 * 1e-4 / 4


def test_bfloat16_weights_are_published_in_float32(trained, tmp_path):
    trained("text", tmp_path / "run", sample_every=4, sample_steps=1, **SMALLEST)

    (path,) = (tmp_path / "run" / "model" / "unet").glob("*.safetensors")
    tensors = load_file(path)
    assert {torch.float32} == {each.dtype for each in tensors.values()}
    assert all(torch.equal(each, each.bfloat16().float()) for each in tensors.values())
    (kept,) = (tmp_path / "run" / "checkpoints").glob("step-*/model.safetensors")
    assert {torch.bfloat16} == {each.dtype for each in load_file(kept).values()}


@pytest.mark.parametrize("family", ["sdxl", "sd3", "flux"])
def test_each_family_trains_in_bfloat16(running, families, shards, tmp_path, family):
    spy = running.ReporterSpy()
    more = {**SMALLEST, "resolution": 8, "steps": 2, "grad_checkpointing": True}
    running.run(families[family], shards["text"], tmp_path / "run", spy, **more)

    kept = tmp_path / "run" / "checkpoints" / "step-000002" / "model.safetensors"
    assert {torch.bfloat16} == {each.dtype for each in load_file(kept).values()}
    rows = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert all(0 < json.loads(row)["loss"] < 100 for row in rows)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"fused_backward": True}, "set max-grad-norm = 0"),
        ({**FUSED, "grad_accum": 2}, "--grad-accum must be 1"),
        ({**FUSED, "precision": Precision.FP16}, "use bf16"),
        ({**COARSE, "precision": Precision.NO}, "add --precision bf16"),
        ({**COARSE, "ema": True}, "add --no-ema"),
        ({**COARSE, "ema_tracks": "0.1"}, "remove --ema-tracks"),
        ({**COARSE, "train_text_encoder": True}, "does not work with --train-text-encoder"),
        ({"ema_on_cpu": True, "ema": False}, "ema-on-cpu in --config needs an EMA"),
    ],
)
def test_options_that_do_not_work_together_are_refused(running, bases, options, said):
    with pytest.raises(UsageError) as refusal:
        running.read_base_setup(bases["text"], Options(steps=1, **options), None)

    assert said in refusal.value.message()


@pytest.mark.parametrize("widths", ["0.5", "0.1,0.1", "wide", "nan", ""])
def test_malformed_widths_of_averages_are_refused(widths):
    with pytest.raises(UsageError, match=r"different widths from 0\.001 to 0\.2887"):
        Options(steps=1, ema_tracks=widths)


@pytest.mark.parametrize(
    ("options", "name"), [(FUSED, "fused-backward"), (COARSE, "weight-dtype = bfloat16")]
)
def test_several_processes_are_refused_in_one_line(options, name):
    accelerator = SimpleNamespace(num_processes=2, distributed_type="MULTI_CPU")

    with pytest.raises(UsageError, match=f"^{name} works with one plain process only") as refusal:
        require_supported_options(accelerator, Options(steps=1, **options), patch=False)

    assert "\n" not in refusal.value.message()


def test_a_power_function_average_weighs_steps_by_its_profile():
    width, steps = 0.15, 7
    values = [torch.tensor([float(number**2)], dtype=torch.float64) for number in range(steps)]
    track = PowerTrack(width, [torch.zeros(1, dtype=torch.float64)])
    for value in values:
        track.step([value])

    power = gamma_of(width) + 1
    shares = [((step + 1) ** power - step**power) / steps**power for step in range(steps)]
    expected = sum(share * float(value) for share, value in zip(shares, values, strict=True))
    assert steps == track.updates
    assert pytest.approx(expected, rel=1e-12) == float(track.values[0])


def test_ema_fits_the_stored_averages_of_a_run(runs, tmp_path):
    last = runs["averages"] / "checkpoints" / "step-000004"
    stored = verbs.EmaRequest([runs["averages"]], tmp_path / "stored", sigma_rel=0.1)
    between = verbs.EmaRequest([runs["averages"]], tmp_path / "between", sigma_rel=0.08)
    snapshots = verbs.EmaRequest([runs["usual"]], tmp_path / "snapshots", sigma_rel=0.08)

    exact, found = verbs.time_average(stored), verbs.time_average(between)

    assert "stored averages" == exact.fitted == found.fitted
    shares = {str(each.path): float(each.weight) for each in exact.request.ingredients}
    assert pytest.approx(1, abs=1e-9) == shares.pop(str(last / "ema-0.1.safetensors"))
    # as exact as a fit in float64 is
    assert all(abs(share) < 1e-9 for share in shares.values())
    assert exact.error < 1e-6
    assert len(found.request.ingredients) > 1
    assert found.error < verbs.time_average(snapshots).error / 2
    verbs.ema(between)
    assert (tmp_path / "between").exists()


def test_a_run_with_other_averages_is_another_run(runs, trained):
    with pytest.raises(OutputError, match=r"ema_tracks is 0\.05,0\.1 there and 0\.05 here"):
        trained(
            "class", runs["averages"], steps=5, save_every=1, **{**TRACKS, "ema_tracks": "0.05"}
        )
