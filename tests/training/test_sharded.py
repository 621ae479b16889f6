"""Sharded weights, under FSDP or DeepSpeed, train as unsharded ones do, and can be resumed."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import diffusers
import pytest
from launched import TWO, outcome
from safetensors import safe_open

from soupctl.errors import LimitError, UsageError
from soupctl.training.deepspeed_engine import configure_deepspeed
from soupctl.training.distributed import (
    require_fsdp2,
    require_supported_options,
    require_what_was_asked,
)
from soupctl.training.options import Options

HERE = Path(__file__).parent
HALF_OF_THE_DIGITS = 2.0**-12
"""How far results in float32 may differ when sums are taken in another order in every layer."""


@pytest.fixture(scope="module")
def sharded(serving, bases, shards, tmp_path_factory) -> Path:
    """The runs of sharded.py, by two processes."""
    out = tmp_path_factory.mktemp("sharded")
    words = ("sharded.py", "fsdp", bases["class"], shards["class"], out)
    both = serving.two(*words, folder=out)
    assert [0, 0] == [each.code for each in both], both
    return out


def contents(run: Path, name: str) -> dict[str, list[int]]:
    """The shapes of the tensors of a file of a run's last checkpoint, by name."""
    with safe_open(run / "checkpoints" / "step-000004" / name, "pt") as file:
        return {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118


def figures(run: Path) -> list[tuple[int, float, float]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row["loss"], row["grad_norm"]) for row in rows]


def weights(run: Path) -> str:
    return json.loads((run / "soupctl.json").read_text())["weights"]


def test_an_interrupted_sharded_run_equals_an_uninterrupted_one(sharded):
    assert weights(sharded / "straight") == weights(sharded / "resumed")
    assert figures(sharded / "straight") == figures(sharded / "resumed")


def test_a_sharded_run_agrees_with_an_unsharded_one(sharded):
    parts, whole = (figures(sharded / name) for name in ("straight", "whole"))

    for expected, found in zip(whole, parts, strict=True):
        assert expected == pytest.approx(found, rel=HALF_OF_THE_DIGITS)


def test_checkpoints_of_a_sharded_run_are_whole(sharded, tiny):
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert contents(sharded / "whole", name) == contents(sharded / "straight", name)
    for run in ("straight", "whole"):
        assert (sharded / run / "samples" / "step-000004.png").is_file()
    model = diffusers.UNet2DModel.from_pretrained(sharded / "straight" / "model" / "unet")
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_a_sharded_run_can_be_resumed_unsharded(sharded):
    expected = figures(sharded / "straight")[2:]

    for row, found in zip(expected, figures(sharded / "made whole"), strict=True):
        assert row == pytest.approx(found, rel=HALF_OF_THE_DIGITS)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [2, 3])
def test_a_run_with_deepspeed_agrees_with_one_without_and_resumes(bases, shards, tmp_path, stage):
    pytest.importorskip("deepspeed")
    words = (HERE / "sharded.py", f"zero{stage}", bases["class"], shards["class"], tmp_path)

    code, said = outcome(*TWO, *words, folder=tmp_path)

    assert code == 0, said
    assert weights(tmp_path / "straight") == weights(tmp_path / "resumed")
    assert figures(tmp_path / "straight") == figures(tmp_path / "resumed")
    parts, whole = (figures(tmp_path / name) for name in ("straight", "whole"))
    for expected, found in zip(whole, parts, strict=True):
        assert expected == pytest.approx(found, rel=HALF_OF_THE_DIGITS)


class Parted:
    """What accelerate is with FSDP of version 1."""

    distributed_type = "FSDP"
    is_fsdp2 = False


def deepspeed(stage: int, **config: object) -> SimpleNamespace:
    """What accelerate is with DeepSpeed."""
    config = {"zero_optimization": {"stage": stage}, **config}
    plugin = SimpleNamespace(zero_stage=stage, deepspeed_config=config)
    state = SimpleNamespace(deepspeed_plugin=plugin)
    return SimpleNamespace(distributed_type="DEEPSPEED", state=state)


def test_options_that_sharded_weights_cannot_support_are_refused():

    options = Options(steps=1)
    with pytest.raises(
        UsageError, match=r"EMA of sharded weights is not supported \(add ema=False\)"
    ):
        require_supported_options(Parted, options, patch=False)
    with pytest.raises(UsageError, match="FSDP works with finetune only"):
        require_supported_options(Parted, options, patch=True)
    with pytest.raises(LimitError, match="fsdp_version: 2 in accelerate's configuration"):
        require_fsdp2(Parted)


@pytest.mark.parametrize(("name", "kind"), [("FSDP", "FSDP"), ("DEEPSPEED", "DeepSpeed")])
def test_what_accelerate_was_asked_for_and_does_not_do_is_refused(monkeypatch, name, kind):
    plain = SimpleNamespace(distributed_type="MULTI_CPU")
    require_what_was_asked(plain)
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    require_what_was_asked(SimpleNamespace(distributed_type=name))

    with pytest.raises(LimitError, match=f"{kind} was asked for, but accelerate does not use it"):
        require_what_was_asked(plain)


def test_megatron_is_refused(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_MEGATRON_LM", "true")

    with pytest.raises(LimitError, match="Megatron-LM is not supported"):
        require_what_was_asked(SimpleNamespace(distributed_type="MEGATRON_LM"))


def test_deepspeed_supports_ema_only_of_unsharded_weights():
    require_supported_options(deepspeed(2), Options(steps=1), patch=False)
    with pytest.raises(
        UsageError, match=r"EMA of sharded weights is not supported \(add ema=False\)"
    ):
        require_supported_options(deepspeed(3), Options(steps=1), patch=False)
    with pytest.raises(UsageError, match="DeepSpeed works with finetune only"):
        require_supported_options(deepspeed(2), Options(steps=1), patch=True)


def test_deepspeed_receives_the_options_and_never_rounds_weights():
    options = Options(steps=1, batch_size=3, grad_accum=2, max_grad_norm=0.5)
    auto = deepspeed(3, bf16={"enabled": "auto"}, gradient_clipping="auto")
    narrow = deepspeed(2, bf16={"enabled": True})

    configure_deepspeed(auto, options)

    assert auto.state.deepspeed_plugin.deepspeed_config == {
        "bf16": {"enabled": "auto"},
        "zero_optimization": {"stage": 3, "stage3_gather_16bit_weights_on_model_save": True},
        "train_micro_batch_size_per_gpu": 3,
        "gradient_accumulation_steps": 2,
        "gradient_clipping": 0.5,
    }
    with pytest.raises(UsageError, match="DeepSpeed's bf16 setting would train 16-bit weights"):
        configure_deepspeed(narrow, options)
