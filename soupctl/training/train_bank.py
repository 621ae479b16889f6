"""Training a prompt bank on a frozen base, with the same loop as a denoiser.

Rule 1: no parameter of the base changes, and none gets a gradient.
Rule 2: noise on the gates is a function of seed, position and block, like all other randomness.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..banks.attachment import attach
from ..banks.bank import PromptBank, gate_noise
from ..banks.files import bank_digest, save_bank
from ..banks.gates import balance_loss
from ..banks.load import BANK
from ..checkpoints.digest import text_digest
from ..diffusion.loading import Models
from ..errors import TrainingError
from ..format.dtypes import DType
from ..ledger.ledger import LEDGER_KEY, Ledger, runs
from ..ledger.ledger_json import encode_ledger
from . import train_denoiser
from .averages import Averages
from .callbacks import Reporter
from .export import RAW
from .loader import Batch
from .loop import LoopState, Loss
from .optimizers import make_optimizer
from .publish import run_facts, training_record, write_model_card
from .run_record import RunRecord, write_record
from .sample_grids import ema_in_place
from .setup import PreparedRun
from .train_denoiser import prepare_models
from .trainer import Task, TrainedRun, finetune


class PatchedDenoiser(nn.Module):
    """A frozen denoiser with a bank attached, as one module for accelerate to wrap."""

    def __init__(self, denoiser: Any, bank: PromptBank) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.bank = bank
        self.attachment = attach(denoiser, bank)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The denoiser's prediction."""
        return self.denoiser(*args, **kwargs)


def patch_dmp(run: PreparedRun, reporter: Reporter) -> TrainedRun:
    """Train the bank of `run.bank`, or resume training it, and publish it; see `finetune`."""
    return finetune(run, reporter, Task(initial_state, loss_function, publish))


def initial_state(run: PreparedRun, models: Models) -> LoopState:
    """The state before the first step, with zero prompts, on accelerate's devices."""
    assert run.bank is not None
    assert run.request.patch is not None
    options, accelerator = run.options, run.accelerator
    prepare_models(run, models)
    bank = run.bank.initial_bank(options.seed)
    patched = PatchedDenoiser(models.denoiser.requires_grad_(False), bank)
    groups = patched.bank.parameter_groups(options.lr, run.request.patch.gate_lr_scale)
    optimizer = make_optimizer(groups, options)
    model, optimizer = accelerator.prepare(patched, optimizer)
    patched = accelerator.unwrap_model(model)
    trained = {
        name: parameter
        for name, parameter in patched.bank.named_parameters()
        if parameter.requires_grad
    }
    state = LoopState(accelerator, model, trained, optimizer, Averages(trained, options))
    if run.bank.config.noisy:
        state.batch_context = _gate_noise(run, patched)
    return state


def _gate_noise(run: PreparedRun, patched: PatchedDenoiser) -> Any:
    """A function that adds noise to the gates' logits while a batch is computed."""

    def noise(batch: Batch) -> AbstractContextManager[None]:
        draws = gate_noise(patched.bank.config, run.options.seed, batch.positions)
        device = run.accelerator.device
        return patched.attachment.noise({name: each.to(device) for name, each in draws.items()})

    return noise


def loss_function(run: PreparedRun, models: Models, state: LoopState) -> Loss:
    """The loss of a batch: the denoiser's, plus the weighted load-balancing loss of the gates."""
    assert run.request.patch is not None
    patch, denoising_loss = run.request.patch, train_denoiser.loss_function(run, models)
    if not patch.balance:
        return denoising_loss
    patched = run.accelerator.unwrap_model(state.model)

    def loss(model: Any, batch: Batch) -> torch.Tensor:
        denoising = denoising_loss(model, batch)
        gated = patched.attachment.gate_outputs(patched.bank)
        return denoising + patch.balance * balance_loss(gated.values(), patch.balance_form)

    return loss


def publish(run: PreparedRun, state: LoopState, _reporter: Reporter) -> str:
    """Publish the trained bank, then the run's record, and return the bank's content digest.

    With EMA, `bank` has the EMA weights and `raw` the others. Raises TrainingError for weights that
    are not finite, OutputError if they cannot be written or a file of the base has changed.
    """
    if not run.accelerator.is_main_process:
        return ""
    run.require_unchanged_base()
    out = run.request.output
    bank = run.accelerator.unwrap_model(state.model).bank
    facts = run_facts(run)
    if state.ema is not None:
        facts["raw_weights"] = _save(run, bank, out / RAW, "raw")
    with ema_in_place(state):
        if not all(bool(tensor.isfinite().all()) for tensor in bank.tensors().values()):
            raise TrainingError("the bank is not finite", path=out, advice="try a lower --lr")
        kind = "raw" if state.ema is None else "ema"
        facts["weights"] = _save(run, bank, out / BANK, kind)
    write_model_card(run, facts["weights"])
    write_record(out, RunRecord(run.identity, True, facts))
    return str(facts["weights"])


def _save(run: PreparedRun, bank: PromptBank, target: Path, kind: str) -> str:
    """Write a bank with a ledger of its training, and return its content digest."""
    digest = bank_digest(bank)
    dtypes = runs([DType.F32] * len(bank.tensors()))
    ledger = Ledger("trained", digest, (), dtypes, training=training_record(run, kind))
    text = encode_ledger(ledger, text_digest)
    save_bank(bank, target, metadata={LEDGER_KEY: text}, replace=True)
    return digest
