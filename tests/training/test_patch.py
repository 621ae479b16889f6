"""`patch-dmp` trains a bank by the same loop as a denoiser, and leaves the base unchanged."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from pathlib import Path

import pytest
from commands import wait_for
from safetensors.torch import load_file

from soupctl.banks.config import GateInput, GateKind
from soupctl.choices import Balance, Preset, SaveDtype, Schedule
from soupctl.errors import MismatchError, OutputError, UsageError
from soupctl.training.bank_options import PRESETS, PatchOptions

WEIGHTS = "bank/adapter_model.safetensors"
FAMILIES = ["text", "class", "dit", "plain"]


@pytest.fixture
def patched(running, bases, shards):
    """Trains a bank for the base of a family into a folder, and hands on what was told."""

    def run(family: str, output: Path, bank: dict | None = None, **more: object):
        spy = running.ReporterSpy()
        running.patch(bases[family], shards[family], output, spy, bank or {}, **more)
        return spy

    return run


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def all_of(folder: Path) -> dict[str, str]:
    return {str(path): sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def words(base, data, output, *more):
    return (
        "patch-dmp",
        base,
        *("--data", data, "-o", output, "--steps", 20, "--batch-size", 2),
        *("--save-every", 5, "--gate-noise", "--balance", 1, *more),
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_bank_learns_and_its_base_does_not(patched, bases, family, tmp_path):
    before = all_of(bases[family])

    patched(family, tmp_path / "run")

    assert before == all_of(bases[family])
    tensors = load_file(tmp_path / "run" / WEIGHTS)
    prompts = {name: each for name, each in tensors.items() if name.startswith("prompts.")}
    assert all(each.any() for each in prompts.values())
    assert {"prompts", "gate"} == {name.split(".")[0] for name in tensors}


@pytest.mark.parametrize("family", ["dit", "text"])
def test_no_gradient_reaches_the_base_and_a_new_bank_changes_nothing(
    family, bases, shards, tmp_path
):
    torch = pytest.importorskip("torch")
    from soupctl.diffusion.loading import load_models  # noqa: PLC0415
    from soupctl.training import distributed, setup, train_bank  # noqa: PLC0415
    from soupctl.training.options import Options  # noqa: PLC0415
    from soupctl.training.train_denoiser import batches_from  # noqa: PLC0415

    options = Options(steps=2, batch_size=2, seed=3)
    patch = PatchOptions(gate_noise=True, balance=1.0, gate_topk=0.5)
    request = setup.RunRequest(
        bases[family], shards[family], tmp_path / "run", options, patch=patch
    )
    (run,) = setup.prepare([request], distributed.start_accelerator(options))
    models = load_models(run.base)
    batch = next(batches_from(run, models, 0))
    training = train_bank.initial_state(run, models)
    with training.batch_context(batch):
        loss = train_bank.loss_function(run, models, training)(training.model, batch)
        loss.backward()

    bank = training.model.bank
    assert all(each.grad is None for each in models.denoiser.parameters())
    assert all(each.grad.any() for each in bank.prompts.values())
    training.model.attachment.remove()
    plain = train_bank.train_denoiser.loss_function(run, models)(models.denoiser, batch)
    again = train_bank.PatchedDenoiser(models.denoiser, run.bank.initial_bank(seed=3))
    assert torch.equal(plain, train_bank.train_denoiser.loss_function(run, models)(again, batch))
    assert loss > plain


def test_the_learning_rate_of_the_gate_is_scaled(patched, tmp_path):
    bank = {"gate_noise": True, "balance": 1.0, "gate_lr_scale": 5.0}
    # Adam's first step is as long as the rate, whatever the gradient
    patched("dit", tmp_path / "run", bank, steps=1, lr=1e-3)

    tensors = load_file(tmp_path / "run" / WEIGHTS)
    prompts = max(each.abs().max() for name, each in tensors.items() if "prompts" in name)
    assert pytest.approx(1e-3, rel=1e-2) == float(prompts)
    assert pytest.approx(5e-3, rel=1e-2) == float(tensors["gate.4.bias"].abs().max())


@pytest.mark.parametrize("options", [{"gate": GateKind.MIXTURE, "prompts": 3}, {"prepend": 3}])
def test_prompts_without_a_position_learn_different_things(options, patched, tmp_path):
    patched("dit", tmp_path / "run", options, steps=8, lr=1e-2)

    tensors = load_file(tmp_path / "run" / WEIGHTS)
    prompts = tensors["prompts.transformer_blocks.0"]
    differences = [abs(prompts[one] - prompts[other]).max() for one, other in ((0, 1), (1, 2))]
    assert min(differences) > 1e-3


def test_prompts_before_a_sequence_differ_without_an_input_of_the_gate(patched, tmp_path):
    bank = {"prepend": 3, "gate_input": GateInput.NONE}
    patched("dit", tmp_path / "run", bank, steps=8, lr=1e-2)

    prompts = load_file(tmp_path / "run" / WEIGHTS)["prompts.transformer_blocks.0"]
    assert abs(prompts[0] - prompts[1]).max() > 1e-4


def test_gates_vary_with_time_after_training(patched, bases, tiny, tmp_path):
    from soupctl.banks.files import load_bank  # noqa: PLC0415

    patched("dit", tmp_path / "run", {"gate_lr_scale": 10.0}, steps=30, lr=1e-2)

    bank = load_bank(tmp_path / "run" / "bank").requires_grad_(False)
    model = pytest.importorskip("diffusers").DiTTransformer2DModel.from_pretrained(
        bases["dit"] / "transformer"
    )
    embedder = model.requires_grad_(False).transformer_blocks[0].norm1.emb
    times = embedder.timestep_embedder(embedder.time_proj(tiny.torch.tensor([0, 999])))
    early, late = bank.gate_output("transformer_blocks.0", times).weights
    assert pytest.approx(1) == float(early.sum())
    assert float((early - late).abs().max()) > 1e-3


@pytest.mark.parametrize("family", ["text", "dit"])
def test_a_killed_and_resumed_run_equals_an_uninterrupted_one(soupctl, bases, shards, family):
    base, data = bases[family], shards[family]
    straight = soupctl(*words(base, data, "straight"))
    reached = Path("killed/checkpoints/step-000010")
    killed = soupctl.start(*words(base, data, "killed"), held_after=reached)
    wait_for(reached)
    os.kill(killed, signal.SIGKILL)
    ended = soupctl.wait(killed)

    resumed = soupctl(*words(base, data, "killed"))

    assert (0, -signal.SIGKILL, 0) == (straight.code, ended.code, resumed.code), resumed.err
    assert "resuming from killed/checkpoints/step-0000" in resumed.err
    assert sha256(Path("straight") / WEIGHTS) == sha256(Path("killed") / WEIGHTS)


def test_ctrl_c_saves_and_says_how_to_resume(soupctl, bases, shards):
    base, data = bases["dit"], shards["dit"]
    Path("often.toml").write_text("log-every = 1\ngate-grid = 4")
    # a decayed rate depends on the number of steps
    more = ("--config", "often.toml", "--lr-schedule", "constant")
    # so many steps that it cannot end before the signal comes
    started = soupctl.start(*words(base, data, "stopped", *more, "--steps", 100_000))
    wait_for(Path("stopped/metrics.jsonl"), lines=3)
    os.kill(started, signal.SIGINT)
    stopped = soupctl.wait(started)
    step = len(Path("stopped/metrics.jsonl").read_text().splitlines())

    assert 130 == stopped.code
    *_, last, end = stopped.err.splitlines()
    assert "soupctl: interrupted" == end
    assert f"step {step} of 100000 is saved; to resume: soupctl patch-dmp" in last
    for output in ("straight", "stopped"):
        assert soupctl(*words(base, data, output, *more, "--steps", step + 3)).code == 0
    assert sha256(Path("straight") / WEIGHTS) == sha256(Path("stopped") / WEIGHTS)


@pytest.mark.parametrize(
    "bank",
    [
        {"gate": GateKind.MIXTURE, "prompts": 3},
        {"blocks": "1"},
        {"gate_topk": 0.5, "gate_noise": True, "balance": 0.1, "balance_form": Balance.OVER_BATCH},
        {"prepend": 2},
        {"gate_input": GateInput.TIME_AND_CLASS},
        {"gate_input": GateInput.NONE},
    ],
    ids=str,
)
def test_a_run_of_every_kind_can_be_extended(patched, tmp_path, bank):
    # a decayed rate depends on the number of steps
    more = {"lr_schedule": Schedule.CONSTANT, "grad_checkpointing": True}
    patched("dit", tmp_path / "straight", bank, steps=4, **more)
    patched("dit", tmp_path / "longer", bank, steps=2, **more)

    spy = patched("dit", tmp_path / "longer", bank, steps=4, **more)

    assert [3, 4] == spy.steps
    assert sha256(tmp_path / "straight" / WEIGHTS) == sha256(tmp_path / "longer" / WEIGHTS)
    raw = "raw/adapter_model.safetensors"
    assert sha256(tmp_path / "straight" / raw) == sha256(tmp_path / "longer" / raw)


def test_a_gate_taken_from_another_bank_stays_frozen(patched, tmp_path):
    patched("dit", tmp_path / "first", {"gate_noise": True}, steps=6, lr=1e-2)
    own = load_file(tmp_path / "first" / WEIGHTS)
    bank = {"gate_noise": True, "gate_from": str(tmp_path / "first")}
    patched("dit", tmp_path / "second", bank, steps=3, seed=1)

    taken = load_file(tmp_path / "second" / WEIGHTS)
    assert own["gate.4.weight"].any()
    assert all(own[name].equal(taken[name]) for name in own if name.startswith("gate."))
    with pytest.raises(OutputError, match="gate from is not set there") as refusal:
        patched("dit", tmp_path / "first", bank, steps=6, lr=1e-2)
    assert "gate from" in str(refusal.value)


def test_the_official_preset_has_the_published_settings_and_explicit_options_win(
    soupctl, bases, shards
):
    short = ("--steps", 1, "--batch-size", 2, "--preset", "official")
    done = soupctl(
        *("patch-dmp", bases["dit"], "--data", shards["dit"], "-o", "run", *short),
        *("--gate-input", "time", "--json", "-q"),
    )

    assert (0, "") == (done.code, done.err)
    assert "run/bank" == json.loads(done.out)[0]["bank"]
    asked = json.loads(Path("run/soupctl.json").read_text())["identity"]
    expected = {
        **{name: str(value) for name, value in PRESETS[Preset.OFFICIAL].items()},
        "gate_input": "time",
        "prompts": "1",
    }
    assert expected == {name: asked[name] for name in expected}
    log = soupctl("log", "run/bank")
    assert "trained   1 step on classes" in log.out


def test_the_plan_shows_the_size_of_the_bank_and_a_dry_run_writes_nothing(soupctl, bases, shards):
    done = soupctl(*words(bases["dit"], shards["dit"], "run", "-n"))

    assert (0, "") == (done.code, done.err)
    # 3 blocks of 4 x 16 prompts, one gate of 4 x 17 + 4; and 4 x 16 of noise, which only trains
    assert "the bank has 264 parameters" in done.out
    assert "parameters 328 trained" in done.out
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("family", "bank", "more", "error", "said"),
    [
        ("dit", {"blocks": "0-3"}, {}, MismatchError, "has 3 blocks, and blocks is 0-3"),
        ("dit", {"prompts": 2}, {}, UsageError, "a token gate needs exactly one prompt"),
        ("dit", {"gate_topk": 0.1}, {}, UsageError, "keeps none of 4 weights"),
        ("text", {"prepend": 2}, {}, UsageError, "only the sequence of a DiT"),
        ("dit", {}, {"save_dtype": SaveDtype.FLOAT16}, UsageError, "a bank is float32"),
        (
            "dit",
            {},
            {"sample_every": 1, "sample_steps": 1001},
            MismatchError,
            "sampled in 1001 steps",
        ),
        ("dit", {"gate_from": "GATE"}, {}, MismatchError, "DiTTransformer2DModel"),
        ("plain", {"gate_from": "GATE", "gate_grid": 2}, {}, MismatchError, "gate_grid"),
    ],
)
def test_an_untrainable_request_is_refused_before_anything_is_written(
    patched, tmp_path, family, bank, more, error, said
):
    if "gate_from" in bank:
        patched("plain", tmp_path / "gate", steps=1)
        bank = {**bank, "gate_from": str(tmp_path / "gate")}

    with pytest.raises(error, match=said):
        patched(family, tmp_path / "run", bank, **more)

    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("bank", "said"),
    [
        ({"blocks": "3-1"}, "--blocks must be all or numbers such as 0-3,7, not '3-1'"),
        ({"blocks": ""}, "--blocks must be all or numbers such as 0-3,7, not ''"),
        ({"prompts": 0}, "--prompts must be at least 1, not 0"),
        ({"gate_topk": 0.0}, "--gate-topk must be above 0 and at most 1, not 0.0"),
        ({"balance": float("nan")}, "--balance must be a finite number, not nan"),
        ({"gate_lr_scale": -1.0}, "--gate-lr-scale must be positive, not -1.0"),
        ({"gate_grid": 0}, "gate-grid in --config must be at least 1, not 0"),
        ({"prepend": -1}, "prepend in --config must be at least 0, not -1"),
        ({"prepend": 2, "gate": GateKind.MIXTURE}, "prepend in --config must be 0 or 1 with"),
    ],
)
def test_invalid_options_of_a_bank_are_refused(bank, said):
    with pytest.raises(UsageError) as refusal:
        PatchOptions(**bank)

    assert said in refusal.value.message()


def test_a_run_of_another_bank_is_not_resumed(patched, tmp_path):
    patched("dit", tmp_path / "run", steps=1)

    with pytest.raises(OutputError, match=r"balance is 0\.0 there and 1\.0 here"):
        patched("dit", tmp_path / "run", {"balance": 1.0}, steps=2)
