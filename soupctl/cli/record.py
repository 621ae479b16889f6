"""`soupctl record`: gives a checkpoint that another trainer made its training record."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError
from ..frozen import frozen
from . import options
from .console import counted, digest_text, is_silent, is_terminal, put_json, say
from .convert import make
from .hub_option import CHECKPOINTS
from .merge_output import MergeOptions, require_output
from .option_groups import with_option_groups
from .progress import read_bar

if TYPE_CHECKING:
    from ..ledger.training_record import TrainingRecord
    from ..verbs import Conversion, RecordRequest


NEEDED = {
    "--data": "--data DIR, the folder of its images",
    "--base": "--base BASE, or the digest that soupctl hash BASE prints",
    "--steps": "--steps N, the optimizer steps of its training",
}
"""What to give for each option that is required."""


@frozen
class TrainingOptions:
    """The options that say how a checkpoint was trained."""

    data: Annotated[
        str | None,
        typer.Option(help="Folder of the images that it was trained on.", metavar="DIR"),
    ] = None
    base: Annotated[
        str | None,
        typer.Option(help="What training started from: a path or digest.", metavar="BASE"),
        CHECKPOINTS,
    ] = None
    steps: Annotated[
        int | None, typer.Option(help="Number of optimizer steps.", metavar="N", min=1)
    ] = None
    trainer: Annotated[
        str | None,
        typer.Option(help="Program that trained it, such as kohya-25.2.", metavar="NAME"),
    ] = None
    ema: Annotated[bool, typer.Option("--ema", help="Its weights are a moving average (EMA).")] = (
        False
    )
    caption_column: Annotated[
        str, typer.Option(help="Field of metadata.jsonl with the captions.", metavar="NAME")
    ] = "text"
    variant: options.Variant = None
    ignore_ledger: Annotated[
        bool, typer.Option("--ignore-ledger", help="Replace a ledger that it has already.")
    ] = False

    def request(self, source: str, output: str) -> RecordRequest:
        """The record to give an input; UsageError without data, base or steps."""
        from ..verbs import RecordRequest

        if self.data is None or self.base is None or self.steps is None:
            missing = (
                "--data" if self.data is None else "--base" if self.base is None else "--steps"
            )
            raise UsageError(f"{missing} is required", advice=NEEDED[missing])
        return RecordRequest(
            source=options.named(source),
            output=output,
            data=Path(options.named(self.data)),
            base=options.named(self.base),
            steps=self.steps,
            trainer=self.trainer,
            is_average=self.ema,
            column=self.caption_column,
            variant=self.variant,
            ignore_ledger=self.ignore_ledger,
        )


@with_option_groups
def record(
    source: Annotated[
        str,
        typer.Argument(
            help="A trained checkpoint or pipeline: a file or a folder.", metavar="INPUT"
        ),
        CHECKPOINTS,
    ],
    output: options.Output = None,
    *,
    trained: TrainingOptions,
    merge: MergeOptions,
) -> None:
    """Record what a checkpoint of another trainer was trained on.

    The copy has the same tensors, and the record that `finetune` writes: digests of the data and
    the base, the name of the data, and the numbers of images and steps. `avg --weight-by samples`,
    `has`, `log`, `bom` and `attest` use it.

    Example: soupctl record kohya.st -o cats.st --data cats --base base.st --steps 500
    """
    output = require_output(output, merge)
    request = trained.request(source, output)
    from .. import verbs

    with read_bar(merge.quiet):
        make(verbs.open_record(request), output, merge, lambda job: _report(output, job, merge))


def _report(output: str, job: Conversion, merge: MergeOptions) -> None:
    whole = merge.verbose or not is_terminal()
    found = [
        (component.name, training)
        for component, training in zip(job.components, job.trainings, strict=True)
        if training is not None
    ]
    for name, each in found:
        title = f"{output}: {name}" if name else output
        data = f"{each.data_name} ({digest_text(each.data, whole=whole)})"
        trained = f"{counted(each.steps, 'step')} on {counted(each.samples, 'image')} of {data}"
        silent = is_silent(merge.quiet, merge.verbose)
        say(f"{title}: {trained}, from {digest_text(each.base, whole=whole)}", silent)
    if merge.json:
        components = [{"name": name, "training": _json(each)} for name, each in found]
        put_json({"output": output, "components": components})


def _json(training: TrainingRecord) -> dict[str, Any]:
    from ..ledger.training_record import encode_training

    return encode_training(training)
