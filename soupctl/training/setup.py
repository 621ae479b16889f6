"""A run before its first step: base, dataset and options that were checked to fit each other.

Rule 1: nothing is written, and no model is loaded, before all checks have passed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..choices import CaptionFiles
from ..diffusion.base import Base, Conditioning
from ..diffusion.flow import TrainingObjective
from ..diffusion.weights import base_digests, file_digests
from ..errors import InputError, OutputError
from ..ledger.data_shard import ImageRecord
from .bank_options import PatchOptions
from .bank_plan import BankPlan
from .base_setup import BaseSetup, read_base_setup
from .dataset import VALIDATE, Dataset, scan_dataset
from .deepspeed_engine import is_deepspeed, zero_stage
from .distributed import require_supported_options
from .held_out import hold_out
from .images import Images, recorded_images
from .labels import ClassNumbers, names_of_classes, number_classes, require_one_numbering
from .loader import InputSpec
from .masks import masks_digest
from .options import Options
from .plan import RunPlan, make_plan
from .repeats import repeats_text


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A training run as the user requested it."""

    base: Path
    data: Path
    output: Path
    options: Options
    resume: str = "auto"
    """`auto`, `never`, or the path of a training checkpoint."""
    command: str = "soupctl finetune"
    """The command line, shown as the way to resume."""
    patch: PatchOptions | None = None
    """The prompt bank to train; None to train the denoiser."""
    variant: str | None = None
    """The variant of the base's weights that is preferred, such as `fp16`."""
    config_from: str | Path | None = None
    """The folder with configs or tokenizers for a base that is a single file."""


@dataclass(frozen=True, slots=True)
class PreparedRun:
    """A run that is ready to start."""

    request: RunRequest
    base: Base
    digests: dict[str, str]
    """Content digests of the base by component."""
    dataset: Dataset
    validation: Dataset | None
    """The images for the validation loss; None to measure none."""
    regularization: Dataset | None
    """The images that are trained on besides, with a weighted loss; None for none."""
    classes: ClassNumbers | None
    input_spec: InputSpec
    scheduler: Any
    objective: TrainingObjective
    accelerator: Any
    plan: RunPlan
    bank: BankPlan | None

    @property
    def trained_on(self) -> tuple[Dataset, ...]:
        """The images that are trained on, those for regularization last."""
        return tuple(each for each in (self.dataset, self.regularization) if each is not None)

    @property
    def all_images(self) -> tuple[Dataset, ...]:
        """The images that are trained on, and those for the validation loss."""
        return (*self.trained_on, *(() if self.validation is None else (self.validation,)))

    @property
    def images(self) -> tuple[ImageRecord, ...]:
        """All images that are trained on, as the record of the run lists them."""
        return recorded_images(self.dataset, self.regularization)

    @property
    def options(self) -> Options:
        """The options of the run."""
        return self.request.options

    @property
    def recipe(self) -> dict[str, str]:
        """The options that change the trained weights, with values that were derived."""
        numbers, repeats = self.options.numbers, repeats_text(self.dataset.samples)
        is_masked = self.options.masked_loss
        return {
            **numbers,
            **({} if self.request.patch is None else self.request.patch.numbers),
            # a schedule that ends depends on the number of steps, even if --epochs was given
            **({"steps": str(self.plan.steps)} if "steps" in numbers else {}),
            "prediction": self.objective.prediction.value,
            "processes": str(self.plan.processes),
            "resolution": str(self.input_spec.resolution),
            **({"repeats": repeats} if repeats else {}),
            **({"masks": masks_digest(self.dataset.samples)} if is_masked else {}),
        }

    @property
    def identity(self) -> dict[str, str]:
        """Everything that changes a trained weight; equal runs have equal identities."""
        return {
            **self.recipe,
            **{f"base {name}".strip(): digest for name, digest in self.digests.items()},
            **{
                " ".join(("base", *name.split(), "config")): digest
                for name, digest in file_digests(self.base).items()
            },
            "data": self.plan.data_digest,
            **({} if self.bank is None else self.bank.identity),
            # its checkpoints can be read only by a run with the same stage
            **(
                {"ZeRO": str(zero_stage(self.accelerator))}
                if is_deepspeed(self.accelerator)
                else {}
            ),
        }

    def require_unchanged_base(self) -> None:
        """Raise OutputError if a file of the base changed since it was read."""
        for file in self.base.files.snapshots:
            if not file.identity.is_at(file.path):
                what = "changed after training began"
                advice = "put the old file back, and run the same command to resume"
                raise OutputError(what, path=file.path, advice=advice)


def prepare(requests: Sequence[RunRequest], accelerator: Any) -> list[PreparedRun]:
    """The runs of one command, whose requests differ only in data and output.

    `accelerator` is from `start_accelerator`. Raises SoupError if base, dataset and options do not
    fit each other; the functions called here say how.
    """
    first = requests[0]
    require_supported_options(accelerator, first.options, patch=first.patch is not None)
    base_setup = read_base_setup(
        first.base, first.options, first.patch, first.variant, first.config_from
    )
    scanned = [_scan_all(base_setup.base, request) for request in requests]
    classes = [_class_numbers(base_setup, each) for each in scanned]
    require_one_numbering(
        {request.data: each for request, each in zip(requests, classes, strict=True) if each},
        names_of_classes(base_setup.base.pipeline),
    )
    plans = [
        make_plan(base_setup, each, numbers, request.output, accelerator)
        for request, each, numbers in zip(requests, scanned, classes, strict=True)
    ]
    # this reads all weights, so it comes after all other checks, and once for all runs
    digests = base_digests(base_setup.base)
    bank = (
        None
        if base_setup.bank is None
        else base_setup.bank.with_base_digest(digests[base_setup.base.denoiser])
    )
    return [
        PreparedRun(
            request,
            base_setup.base,
            digests,
            *each,
            numbers,
            base_setup.input_spec,
            base_setup.scheduler,
            base_setup.objective,
            accelerator,
            plan,
            bank,
        )
        for request, each, numbers, plan in zip(requests, scanned, classes, plans, strict=True)
    ]


def _scan_all(base: Base, request: RunRequest) -> Images:
    """The images to train on, and those for the validation loss and for regularization, if any."""
    options, dataset = request.options, _scan(base, request.data, request.options)
    validation, regularization = None, None
    if options.validate_share is not None:
        dataset, validation = hold_out(dataset, options.validate_share)
    plain = replace(options, repeats=False, masked_loss=False)
    if options.validate is not None:
        validation = _scan_validation(base, Path(options.validate), plain)
    if options.regularization is not None:
        regularization = _scan(base, Path(options.regularization), plain, "--regularization")
    return Images(dataset, validation, regularization)


def _scan_validation(base: Base, folder: Path, options: Options) -> Dataset:
    """The images of a folder for the validation loss; InputError if its splits hold them."""
    found = _scan(base, folder, options, VALIDATE)
    if found.split:
        what = f"is divided into splits, of which {found.split} is for training"
        advice = f"name another one, such as --validate {folder / 'val'}"
        raise InputError(what, path=folder, advice=advice)
    told = tuple(f"validation: {each}" for each in found.notices)
    return replace(found, notices=told)


def _scan(base: Base, folder: Path, options: Options, name: str = "--data") -> Dataset:
    return scan_dataset(
        folder,
        base.conditioning,
        column=options.caption_column,
        whole=options.caption_files is CaptionFiles.WHOLE,
        skip_bad=options.skip_bad,
        with_repeats=options.repeats,
        with_masks=options.masked_loss,
        option=name,
    )


def _class_numbers(base_setup: BaseSetup, images: Images) -> ClassNumbers | None:
    base, options = base_setup.base, base_setup.options
    if base.conditioning is not Conditioning.LABEL:
        return None
    samples = [each for part in images if part is not None for each in part.samples]
    labels = [sample.label for sample in samples if sample.label is not None]
    # a DiT always has an embedding for the null class
    with_null = options.cond_drop > 0 or base.class_name == "DiTTransformer2DModel"
    return number_classes(
        labels,
        options.classes,
        base.embeddings,
        with_null=with_null,
        path=images.dataset.folder,
        of_base=names_of_classes(base.pipeline),
    )
