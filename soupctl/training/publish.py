"""The end of a run: weights, what they are, and the record that says so.

Rule 1: what is published is finite, and its rounding is told of.
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
from ..checkpoints.layout import find_model
from ..choices import SaveDtype
from ..diffusion.base import MODEL, weight_dtypes
from ..errors import TrainingError
from ..ledger.ledger import LEDGER_KEY, Ledger, runs
from ..ledger.ledger_json import encode_ledger
from ..ledger.names import printable
from ..ledger.training_record import TrainingRecord
from ..storage.atomic import publish_bytes
from .callbacks import Reporter
from .distributed import whole_weights
from .export import RAW, publish_model
from .loop import LoopState
from .run_record import RunRecord, versions, write_record
from .sample_grids import mean_in_place
from .setup import Prepared
from .tensors import DTYPES, Describe, rounding_loss, target

CASTS = {
    SaveDtype.FLOAT32: torch.float32,
    SaveDtype.BFLOAT16: torch.bfloat16,
    SaveDtype.FLOAT16: torch.float16,
}


CARD = "README.md"
MODEL_USE = """\
`model/` loads with `diffusers.DiffusionPipeline.from_pretrained`, and goes into soups:

    soupctl avg {name}/model OTHER/model -o soup"""
BANK_USE = """\
`bank/` is a prompt bank, which goes with the base:

    soupctl sample BASE --bank {name}/bank -o grid.png"""


def facts_of(run: Prepared) -> dict[str, Any]:
    """What the record tells of a run besides its identity."""
    request, plan = run.request, run.plan
    return {
        "command": request.command,
        "base": {"path": str(request.base), "digests": run.digests},
        "data": {
            "path": str(request.data),
            "digest": run.shard.digest,
            "images": plan.images,
            "classes": run.classes.numbers if run.classes else {},
        },
        "prediction": plan.prediction,
        "resolution": plan.resolution,
        "steps": plan.steps,
        "samples_seen": plan.steps * plan.global_batch,
        "options": {
            each.name: getattr(request.options, each.name) for each in fields(request.options)
        },
        "versions": versions(),
    }


def publish(run: Prepared, training: LoopState, teller: Reporter) -> str:
    """The digest of the weights that a run ends with, which are published, its record last.

    With a mean of the weights, that is what is to be used, and the raw ones are kept as well.
    Raises TrainingError for weights that are not finite, OutputError if they cannot be written or a
    file of the base has changed.
    """
    # with a mean in place of the weights, these are the mean
    tensors = whole_weights(training.model, run.accelerator)
    if not run.accelerator.is_main_process:
        return ""
    out, base = run.request.output, run.base
    cast = _cast(run)
    facts = facts_of(run)
    if training.ema is not None:
        facts["raw_weights"] = publish_model(
            out / RAW,
            base,
            tensors,
            _description(run, "raw", tensors),
            cast,
            whole=None,
            check=run.require_unchanged_base,
        )
    kind = "raw" if training.ema is None else "ema"
    with mean_in_place(training):
        if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
            raise TrainingError("the weights are not finite", path=out, advice="a lower --lr")
        if cast is not torch.float32:
            teller.say(_rounding_text(run, tensors, cast))
        facts["weights"] = publish_model(
            out / MODEL,
            base,
            tensors,
            _description(run, kind, tensors),
            cast,
            whole=run.objective.prediction,
            check=run.require_unchanged_base,
        )
    write_card(run, facts["weights"])
    write_record(out, RunRecord(run.identity, True, facts))
    return str(facts["weights"])


def _cast(run: Prepared) -> torch.dtype:
    """The dtype of floats in the result; that of most of the base's tensors, if asked for."""
    asked = run.options.save_dtype
    if asked is not SaveDtype.BASE:
        return CASTS[asked]
    counts = weight_dtypes(run.base)
    most = max(counts, key=lambda dtype: (counts[dtype], dtype.value))
    kinds = {dtype: kind for kind, dtype in DTYPES.items()}
    return kinds.get(most, torch.float32)


def _rounding_text(run: Prepared, tensors: Mapping[str, torch.Tensor], cast: torch.dtype) -> str:
    """How much of what was learned the rounding to `cast` alters."""
    (component,) = find_model(run.base.denoiser_folder).components
    base: dict[str, torch.Tensor] = {}
    for file in component.files:
        base |= safetensors.torch.load_file(file)
    lost = rounding_loss(tensors, base, cast)
    name = str(cast).removeprefix("torch.")
    return f"rounding to {name} alters {lost:.1%} of what was learned (--save-dtype float32: none)"


def _description(run: Prepared, kind: str, tensors: Mapping[str, torch.Tensor]) -> Describe:
    """The metadata of weights: a ledger that says how they came about."""
    cast = _cast(run)
    dtypes = runs(DTYPES[target(tensor, cast)] for _, tensor in sorted(tensors.items()))
    training = training_of(run, kind)

    def describe(digest: str) -> dict[str, str]:
        ledger = Ledger("trained", digest, (), dtypes, training=training)
        return {"format": "pt", LEDGER_KEY: encode_ledger(ledger, text_digest)}

    return describe


def training_of(run: Prepared, kind: str) -> TrainingRecord:
    """What a ledger says of a run whose `kind` of weights it describes."""
    plan = run.plan
    return TrainingRecord(
        base=run.digests[run.base.denoiser],
        data=run.shard.digest,
        data_name=printable(Path(os.path.abspath(run.shard.folder)).name),
        samples=plan.images,
        steps=plan.steps,
        weights=kind,
        options=run.recipe,
        versions=versions(),
    )


def write_card(run: Prepared, digest: str) -> None:
    """Write the run's README, in place of an earlier one; OutputError if that fails."""
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
- data: `{run.shard.digest}`

{use}

| option | value |
|---|---|
{recipe}
"""
    publish_bytes(run.request.output / CARD, text.encode("utf-8", "backslashreplace"), replace=True)
