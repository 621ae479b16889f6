"""What a run's folder says to a person who opens it: local facts, and what to do with them."""

from __future__ import annotations

from pathlib import Path

from ..storage.atomic import publish_bytes
from .setup import Prepared

FILE = "README.md"


MODEL = """`model/` loads with `diffusers.DiffusionPipeline.from_pretrained`, and goes into soups:

    soupctl avg {name}/model OTHER/model -o soup"""
TUNED, PATCHED = "fine-tuned by `soupctl finetune`", "patched by `soupctl patch-dmp`"
BANK = """`bank/` is a prompt bank, which goes with the base:

    soupctl sample BASE --bank {name}/bank -o grid.png"""


def write_card(run: Prepared, digest: str) -> None:
    """Write the run's README, in place of an earlier one; OutputError if that fails."""
    plan, name = run.plan, Path(run.request.output).name
    recipe = "\n".join(f"| {key} | {value} |" for key, value in sorted(run.recipe.items()))
    verb = (
        "fine-tuned by `soupctl finetune`" if run.bank is None else "patched by `soupctl patch-dmp`"
    )
    use = (MODEL if run.bank is None else BANK).format(name=name)
    text = f"""# {name}

{plan.class_name}, {verb} for {plan.steps} steps on {plan.images} images.

- weights: `{digest}`
- base: `{run.digests[run.base.denoiser]}`
- data: `{run.shard.digest}`

{use.format(name=name)}

| option | value |
|---|---|
{recipe}
"""
    publish_bytes(run.request.output / FILE, text.encode("utf-8", "backslashreplace"), replace=True)
