"""Training runs in this process, and a reporter that keeps what they report."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from safetensors.torch import load_file, save_file

from soupctl.diffusion.base_reader import read_base
from soupctl.diffusion.loading import load_models
from soupctl.training.bank_options import PATCH_DMP, PatchOptions
from soupctl.training.base_setup import read_base_setup
from soupctl.training.callbacks import Progress
from soupctl.training.distributed import start_accelerator
from soupctl.training.options import Options
from soupctl.training.setup import PreparedRun, RunRequest, prepare
from soupctl.training.train_bank import patch_dmp
from soupctl.training.trainer import TrainedRun, finetune

__all__ = ["finetune", "load_file", "load_models", "read_base", "read_base_setup", "save_file"]

SHORT = {"steps": 4, "batch_size": 2, "lr": 1e-3, "log_every": 1}


@dataclass
class ReporterSpy:
    """Keeps what a run reports."""

    said: list[str] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    shown: list[Progress] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.said.append(text)

    def begin(self, step: int, steps: int) -> None:
        self.said.append(f"begin {step} {steps}")

    def step(self, step: int) -> None:
        self.steps.append(step)

    def show(self, progress: Progress) -> None:
        self.shown.append(progress)

    def end(self) -> None:
        pass


def run(
    base: Path,
    data: Path,
    output: Path,
    spy: ReporterSpy,
    resume="auto",
    config_from=None,
    **options,
) -> TrainedRun:
    """Train a base on a data shard, a few steps if no more is said."""
    chosen = Options(**{**SHORT, **options})
    request = RunRequest(base, data, output, chosen, resume, config_from=config_from)
    (prepared,) = prepare([request], start_accelerator(chosen))
    return finetune(prepared, spy)


def prepared_runs(base: Path, data: list[Path], output: Path, **options) -> list[PreparedRun]:
    """The runs of one command on several data shards, each into a folder of its own."""
    chosen = Options(**{**SHORT, "steps": 1, **options})
    requests = [
        RunRequest(base, shard, output / f"run{number}", chosen)
        for number, shard in enumerate(data)
    ]
    return prepare(requests, start_accelerator(chosen))


def patch(
    base: Path, data: Path, output: Path, spy: ReporterSpy, bank: dict[str, object], **options
) -> TrainedRun:
    """Train a bank for a base on a data shard, a few steps if no more is said."""
    chosen = Options(**{**PATCH_DMP.defaults, **SHORT, **options})
    request = RunRequest(base, data, output, chosen, patch=PatchOptions(**bank))
    (prepared,) = prepare([request], start_accelerator(chosen))
    return patch_dmp(prepared, spy)
