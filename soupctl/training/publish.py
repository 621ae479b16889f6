"""The end of a run: its weights, their ledger, the model card and the record.

Rule 1: published weights are finite, and the effect of rounding them is reported.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from ..checkpoints.digest import text_digest
from ..choices import Prediction, SaveAs, SaveDtype
from ..diffusion.base import MODEL
from ..diffusion.single_file import SINGLE_FILE, make_single_file
from ..diffusion.weights import weight_dtypes
from ..errors import TrainingError
from ..ledger.ledger import LEDGER_KEY, Ledger, runs
from ..ledger.ledger_json import encode_ledger
from ..ledger.names import printable
from ..ledger.training_record import TrainingRecord
from ..storage.atomic import publish_bytes
from .callbacks import Reporter
from .distributed import gather_weights
from .export import RAW, publish_model
from .loop import LoopState
from .metrics import VALIDATION, read_metrics
from .run_record import RunRecord, versions, write_record
from .sample_grids import ema_in_place
from .setup import PreparedRun
from .tensors import DTYPES, MakeMetadata, rounding_loss, saved_dtype
from .trained_parts import trained_parts

CASTS = {
    SaveDtype.FLOAT32: torch.float32,
    SaveDtype.BFLOAT16: torch.bfloat16,
    SaveDtype.FLOAT16: torch.float16,
}

CARD = "README.md"
MODEL_USE = """\
Load `model/` with `diffusers.DiffusionPipeline.from_pretrained`, or average it with others:

    soupctl avg {name}/model OTHER/model -o soup"""
BANK_USE = """\
`bank/` is a prompt bank. Use it with the base:

    soupctl sample BASE --bank {name}/bank -o grid.png"""


def run_facts(run: PreparedRun) -> dict[str, Any]:
    """The facts of a run that its record has besides the identity."""
    request, plan = run.request, run.plan
    return {
        "command": request.command,
        "base": {"path": str(request.base), "digests": run.digests},
        "data": {
            "path": str(request.data),
            "digest": plan.data_digest,
            "images": plan.images,
            "classes": run.classes.numbers if run.classes else {},
        },
        **({} if run.validation is None else {"validation": _validation_facts(run)}),
        **({} if run.regularization is None else {"regularization": _other_facts(run)}),
        "prediction": plan.prediction,
        "resolution": plan.resolution,
        "steps": plan.steps,
        "samples_seen": plan.steps * plan.global_batch,
        "options": {
            each.name: getattr(request.options, each.name) for each in fields(request.options)
        },
        "versions": versions(),
    }


def _validation_facts(run: PreparedRun) -> dict[str, Any]:
    """The images of the validation loss, and its measurements."""
    assert run.validation is not None
    return {
        "path": str(run.validation.folder),
        "digest": run.validation.digest,
        "images": len(run.validation.samples),
        "losses": read_metrics(run.request.output, VALIDATION),
    }


def _other_facts(run: PreparedRun) -> dict[str, Any]:
    """The regularization images."""
    assert run.regularization is not None
    return {
        "path": str(run.regularization.folder),
        "digest": run.regularization.digest,
        "images": len(run.regularization.samples),
    }


def publish(run: PreparedRun, state: LoopState, reporter: Reporter) -> str:
    """Publish the trained weights, then the run's record, and return the weights' content digest.

    With EMA, `model` has the EMA weights and `raw` the others. Raises TrainingError for weights
    that are not finite, OutputError if they cannot be written or a file of the base has changed.
    """
    # these share memory with the parameters: inside `ema_in_place`, they are the EMA weights
    tensors = gather_weights(state.model, run.accelerator)
    if not run.accelerator.is_main_process:
        return ""
    out, cast = run.request.output, _cast(run)
    parts = trained_parts(run.base, tensors)

    def write(folder: str, kind: str, prediction: Prediction | None) -> dict[str, str]:
        return publish_model(
            out / folder,
            run.base,
            parts,
            lambda component: _make_metadata(run, kind, component, parts[component]),
            cast,
            prediction=prediction,
            check=run.require_unchanged_base,
        )

    facts = run_facts(run)
    if state.ema is not None:
        facts |= _digest_facts(run, "raw_", write(RAW, "raw", None))
    with ema_in_place(state):
        if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
            raise TrainingError("the weights are not finite", path=out, advice="try a lower --lr")
        if cast is not torch.float32:
            reporter.say(_rounding_text(run, parts[run.base.denoiser], cast))
        kind = "raw" if state.ema is None else "ema"
        facts |= _digest_facts(run, "", write(MODEL, kind, run.objective.prediction))
    if run.options.save_as is SaveAs.SINGLE_FILE:
        name = f"{Path(os.path.abspath(out)).name}.safetensors"
        make_single_file(out / MODEL, out / SINGLE_FILE / name)
    write_model_card(run, facts["weights"])
    write_record(out, RunRecord(run.identity, True, facts))
    return str(facts["weights"])


def _digest_facts(run: PreparedRun, prefix: str, digests: Mapping[str, str]) -> dict[str, Any]:
    """The digests of published weights, as facts of the record."""
    texts = {name: digest for name, digest in digests.items() if name != run.base.denoiser}
    weights = {f"{prefix}weights": digests[run.base.denoiser]}
    return {**weights, f"{prefix}text_encoders": texts} if texts else weights


def _cast(run: PreparedRun) -> torch.dtype:
    """The dtype of floating-point tensors in the result; `base` is the base's most common one."""
    chosen = run.options.save_dtype
    if chosen is not SaveDtype.BASE:
        return CASTS[chosen]
    counts = weight_dtypes(run.base)
    most = max(counts, key=lambda dtype: (counts[dtype], dtype.value))
    kinds = {dtype: kind for kind, dtype in DTYPES.items()}
    return kinds.get(most, torch.float32)


def _rounding_text(run: PreparedRun, tensors: Mapping[str, torch.Tensor], cast: torch.dtype) -> str:
    """The rounding error of `cast` relative to what was learned, as a message."""
    base: dict[str, torch.Tensor] = {}
    for file in run.base.files.weights[run.base.denoiser].files:
        base |= safetensors.torch.load_file(file)
    lost = rounding_loss(tensors, base, cast)
    name = str(cast).removeprefix("torch.")
    return (
        f"rounding to {name} changes {lost:.1%} of what was learned"
        " (--save-dtype float32 avoids this)"
    )


def _make_metadata(
    run: PreparedRun, kind: str, component: str, tensors: Mapping[str, torch.Tensor]
) -> MakeMetadata:
    """Makes the metadata of a component's weights, with a ledger of their training."""
    cast = _cast(run)
    dtypes = runs(DTYPES[saved_dtype(tensor, cast)] for _, tensor in sorted(tensors.items()))
    training = training_record(run, kind, component)

    def metadata(digest: str) -> dict[str, str]:
        ledger = Ledger("trained", digest, (), dtypes, training=training)
        return {"format": "pt", LEDGER_KEY: encode_ledger(ledger, text_digest)}

    return metadata


def training_record(run: PreparedRun, kind: str, component: str | None = None) -> TrainingRecord:
    """The training record in the ledger of weights of a `kind`, `raw` or `ema`.

    They are the denoiser's, or those of another component.
    """
    plan = run.plan
    return TrainingRecord(
        base=run.digests[run.base.denoiser if component is None else component],
        data=plan.data_digest,
        data_name=printable(Path(os.path.abspath(run.dataset.folder)).name),
        samples=plan.images,
        steps=plan.steps,
        weights=kind,
        options=run.recipe,
        versions=versions(),
    )


def write_model_card(run: PreparedRun, digest: str) -> None:
    """Write the run's README, replacing an earlier one; raises OutputError."""
    plan, name = run.plan, Path(run.request.output).name
    recipe = "\n".join(f"| {key} | {value} |" for key, value in sorted(run.recipe.items()))
    verb = (
        "fine-tuned by `soupctl finetune`" if run.bank is None else "patched by `soupctl patch-dmp`"
    )
    use = (MODEL_USE if run.bank is None else BANK_USE).format(name=name)
    text = f"""# {name}

{plan.class_name}, {verb} for {plan.steps} steps on {plan.images} images.

- weights: `{digest}`
- base: `{run.digests[run.base.denoiser]}`
- data: `{plan.data_digest}`

{use}

| option | value |
|---|---|
{recipe}
"""
    publish_bytes(run.request.output / CARD, text.encode("utf-8", "backslashreplace"), replace=True)
