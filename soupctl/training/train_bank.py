"""Train a prompt bank on a frozen base, by the same loop that trains a whole denoiser.

Rule 1: no parameter of the base changes, and none gets a gradient.
Rule 2: noise on the gates is a function of seed, visit and block, like all that is drawn.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from torch import nn

from ..banks.attachment import attach
from ..banks.bank import PromptBank
from ..banks.files import bank_digest, save_bank
from ..banks.gate_noise import gate_draws
from ..banks.gates import balance_loss
from ..banks.load import BANK
from ..checkpoints.digest import text_digest
from ..diffusion.loading import Models
from ..errors import TrainingError
from ..format.dtypes import DType
from ..ledger.ledger import LEDGER_KEY, Ledger, runs
from ..ledger.ledger_json import encode_ledger
from . import train_denoiser
from .callbacks import Reporter
from .export import RAW
from .loader import Batch
from .loop import LoopState, Loss, make_optimizer
from .publish import facts_of, training_of, write_card
from .run_record import RunRecord, write_record
from .sample_grids import mean_in_place
from .setup import Prepared
from .trainer import Subject, Trained, finetune


class Patched(nn.Module):
    """A frozen denoiser and the bank attached to it, one model to whoever wraps models."""

    def __init__(self, denoiser: Any, bank: PromptBank) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.bank = bank
        self.attachment = attach(denoiser, bank)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the denoiser says."""
        return self.denoiser(*args, **kwargs)


def patch_dmp(run: Prepared, teller: Reporter) -> Trained:
    """Train the bank of `run.bank`, or go on training it, and publish it; see `finetune`."""
    return finetune(run, teller, Subject(begin, loss_of, publish))


def begin(run: Prepared, models: Models) -> LoopState:
    """Training at its first step: a zero bank, on whatever devices accelerate chose."""
    assert run.bank is not None
    assert run.request.patch is not None
    options, accelerator = run.options, run.accelerator
    if options.grad_checkpointing:
        models.denoiser.enable_gradient_checkpointing()
    for frozen in (models.vae, models.text_encoder):
        if frozen is not None:
            frozen.to(accelerator.device)
    patched = Patched(models.denoiser.requires_grad_(False), run.bank.bank())
    groups = patched.bank.groups(options.lr, run.request.patch.gate_lr_scale)
    optimizer = make_optimizer(groups, options)
    model, optimizer = accelerator.prepare(patched, optimizer)
    patched = accelerator.unwrap_model(model)
    trained = {
        name: parameter
        for name, parameter in patched.bank.named_parameters()
        if parameter.requires_grad
    }
    ema = None
    if options.ema:
        ema = EMAModel(list(trained.values()), decay=options.ema_decay, foreach=True)
    training = LoopState(accelerator, model, trained, optimizer, ema)
    if run.bank.config.noisy:
        training.during = _noise(run, patched)
    return training


def _noise(run: Prepared, patched: Patched) -> Any:
    """What makes the gates noisy for a batch."""

    def noise(batch: Batch) -> AbstractContextManager[None]:
        draws = gate_draws(patched.bank.config, run.options.seed, batch.visits)
        device = run.accelerator.device
        return patched.attachment.noise({name: each.to(device) for name, each in draws.items()})

    return noise


def loss_of(run: Prepared, models: Models, training: LoopState) -> Loss:
    """The loss of a batch: the denoiser's, and what the balance of the gates counts."""
    assert run.request.patch is not None
    patch, plain = run.request.patch, train_denoiser.loss_of(run, models)
    if not patch.balance:
        return plain
    patched = run.accelerator.unwrap_model(training.model)

    def loss(model: Any, batch: Batch) -> torch.Tensor:
        denoising = plain(model, batch)
        gated = patched.attachment.gated(patched.bank)
        return denoising + patch.balance * balance_loss(gated.values(), patch.balance_form)

    return loss


def publish(run: Prepared, training: LoopState, _teller: Reporter) -> str:
    """The digest of the bank that a run ends with, which is published, the run's record last.

    With a mean of the weights, that is what is to be used, and the raw ones are kept as well.
    Raises TrainingError for numbers that are not finite, OutputError if they cannot be written or a
    file of the base has changed.
    """
    if not run.accelerator.is_main_process:
        return ""
    run.require_unchanged_base()
    out = run.request.output
    bank = run.accelerator.unwrap_model(training.model).bank
    facts = facts_of(run)
    if training.ema is not None:
        facts["raw_weights"] = _save(run, bank, out / RAW, "raw")
    with mean_in_place(training):
        if not all(bool(tensor.isfinite().all()) for tensor in bank.tensors().values()):
            raise TrainingError("the bank is not finite", path=out, advice="a lower --lr")
        kind = "raw" if training.ema is None else "ema"
        facts["weights"] = _save(run, bank, out / BANK, kind)
    write_card(run, facts["weights"])
    write_record(out, RunRecord(run.identity, True, facts))
    return str(facts["weights"])


def _save(run: Prepared, bank: PromptBank, target: Path, kind: str) -> str:
    """The digest of a bank, which is written with a ledger that says how it came about."""
    digest = bank_digest(bank)
    dtypes = runs([DType.F32] * len(bank.tensors()))
    ledger = Ledger("trained", digest, (), dtypes, training=training_of(run, kind))
    text = encode_ledger(ledger, text_digest)
    save_bank(bank, target, metadata={LEDGER_KEY: text}, replace=True)
    return digest
