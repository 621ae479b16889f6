"""Training, sampling and stacking for Python: one function a command, paths and values in.

Rule 1: importing this module loads no library of the extra `train`; calling a function does.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..choices import Preset
from ..diffusion.libraries import require_extra
from ..merge.ingredients import Ingredient, as_ingredient
from .bank_options import PATCH_DMP, PRESETS, PatchOptions
from .options import FINETUNE, Options

if TYPE_CHECKING:
    from .callbacks import Progress, Reporter
    from .setup import PreparedRun
    from .trainer import TrainedRun


def finetune(
    base: str | Path,
    data: str | Path,
    output: str | Path,
    *,
    resume: str = "auto",
    variant: str | None = None,
    config_from: str | Path | None = None,
    reporter: Reporter | None = None,
    **options: Any,
) -> TrainedRun:
    """Train a base on a folder of images, or resume that, and return the result.

    `options` are those of `soupctl finetune`, with their names: `steps=1000, batch_size=8`.
    Raises TypeError for another name, LimitError without the extra `train`, and any child of
    SoupError.
    """
    (chosen,) = FINETUNE.built(options)
    run = _prepared(base, data, output, chosen, resume, None, variant, config_from)
    from .trainer import finetune as train

    return train(run, reporter or QuietReporter())


def patch_dmp(
    base: str | Path,
    data: str | Path,
    output: str | Path,
    *,
    preset: Preset | None = None,
    resume: str = "auto",
    variant: str | None = None,
    config_from: str | Path | None = None,
    reporter: Reporter | None = None,
    **options: Any,
) -> TrainedRun:
    """Train a prompt bank for a base, or resume that, and return the result.

    `options` are those of `soupctl patch-dmp`, with their names; they win over a `preset`. Raises
    the errors of `finetune`.
    """
    patch, chosen = PATCH_DMP.built({} if preset is None else PRESETS[preset], options)
    run = _prepared(base, data, output, chosen, resume, patch, variant, config_from)
    from .train_bank import patch_dmp as train

    return train(run, reporter or QuietReporter())


def _prepared(
    base: str | Path,
    data: str | Path,
    output: str | Path,
    options: Options,
    resume: str,
    patch: PatchOptions | None,
    variant: str | None,
    config_from: str | Path | None,
) -> PreparedRun:
    require_extra()
    from .distributed import start_accelerator
    from .setup import RunRequest, prepare

    request = RunRequest(
        Path(base),
        Path(data),
        Path(output),
        options,
        resume,
        patch=patch,
        variant=variant,
        config_from=config_from,
    )
    (run,) = prepare([request], start_accelerator(options))
    return run


class QuietReporter:
    """A reporter that does nothing."""

    def say(self, text: str) -> None:
        """Ignore a message."""

    def begin(self, step: int, steps: int) -> None:
        """Ignore that training begins."""

    def step(self, step: int) -> None:
        """Ignore a step."""

    def show(self, progress: Progress) -> None:
        """Ignore the progress."""

    def end(self) -> None:
        """Ignore that training has ended."""


def sample(
    models: Sequence[str | Path],
    output: str | Path,
    *,
    banks: Sequence[str | Path] = (),
    device: str = "auto",
    grid: bool = False,
    allow_base_mismatch: bool = False,
    resize_prompts: bool = False,
    force: bool = False,
    **request: Any,
) -> tuple[str, ...]:
    """Sample images from models, alone and with each bank, and return the names of the variants.

    `request` holds fields of `soupctl.images.request.SampleRequest`: prompts, classes, images,
    steps, guidance, null_class, seed, resolution, variant, config_from. The output is a folder, or
    a grid if it ends in `.png`. Raises TypeError for another name, LimitError without the extra
    `train`, and any child of SoupError.
    """
    require_extra()
    from ..images.compare import sample_models
    from ..images.request import BankUse, SampleRequest, device_of
    from ..images.save import require_place, save_images

    target = Path(output)
    require_place(target, replace=force)
    found = list(
        sample_models(
            [Path(each) for each in models],
            [Path(each) for each in banks],
            SampleRequest(**request),
            device_of(device),
            BankUse(allow_base_mismatch, resize_prompts),
        )
    )
    save_images(found, target, with_grid=grid, replace=force)
    return tuple(each.name for each in found)


def stack(
    banks: Sequence[Ingredient | str | Path], output: str | Path, *, force: bool = False
) -> dict[str, Fraction]:
    """Write a stack of prompt banks with their weights, and return these by name.

    Raises LimitError without the extra `train`, and any child of SoupError.
    """
    require_extra()
    from ..banks.stacking import stack_banks

    pairs = [(Path(each.path), each.weight) for each in map(as_ingredient, banks)]
    return dict(stack_banks(pairs, Path(output), replace=force).weights)


def leave_out_bank(
    stack: str | Path, name: str, output: str | Path, *, force: bool = False
) -> dict[str, Fraction]:
    """Write a stack without one of its banks, and return the weights of the others by name.

    Raises the errors of `stack`.
    """
    require_extra()
    from ..banks.stacking import leave_out

    return dict(leave_out(Path(stack), name, Path(output), replace=force).weights)
