"""Options of the optimizer's steps: how many, of what size, at which learning rate."""

from __future__ import annotations

from ..choices import Schedule
from ..frozen import frozen
from .option_fields import AT_LEAST_0, AT_LEAST_1, BATCH, POSITIVE, option


@frozen
class StepOptions:
    """The options of the optimizer's steps."""

    steps: int | None = option(
        None, "Number of optimizer steps.", AT_LEAST_1, metavar="N", instead_of="epochs"
    )
    epochs: int | None = option(
        None,
        "Number of passes over the data, instead of --steps.",
        AT_LEAST_1,
        metavar="N",
        instead_of="steps",
        # converted to steps
        changes_weights=False,
    )
    batch_size: int = option(4, "Images in a forward pass of one process.", BATCH, metavar="N")
    grad_accum: int = option(1, "Gradient accumulation steps.", AT_LEAST_1, metavar="N")
    lr: float = option(1e-5, "Learning rate.", POSITIVE, metavar="RATE", for_banks=1e-3)
    lr_schedule: Schedule = option(
        Schedule.CONSTANT, "Learning-rate schedule after warmup.", for_banks=Schedule.COSINE
    )
    warmup: int = option(
        0,
        "Optimizer steps of linear learning-rate warmup.",
        AT_LEAST_0,
        is_on_command_line=False,
    )
    weight_decay: float = option(
        0.01, "Weight decay of AdamW.", AT_LEAST_0, is_on_command_line=False, for_banks=0.0
    )
    max_grad_norm: float = option(
        1.0,
        "Clip the gradient to this norm; 0 for no clipping.",
        AT_LEAST_0,
        is_on_command_line=False,
    )
