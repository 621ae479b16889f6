"""A model to sample, checked before its weights are loaded, and the banks that are to fit it.

Rule 1: everything that configs reveal is refused here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..banks.bank import PromptBank
from ..banks.blocks import describe_base
from ..banks.compatibility import require_fit
from ..banks.config import BankConfig
from ..banks.load import members_of
from ..banks.stack import BankStack
from ..checkpoints.hashing import content_digests
from ..diffusion.base import Base, Conditioning, choose_resolution
from ..diffusion.base_reader import read_base
from ..diffusion.families.flux import FLUX
from ..diffusion.flow import TrainingObjective, own_objective
from ..diffusion.loading import empty_model, load_scheduler
from ..diffusion.null_class import null_class
from ..diffusion.published_configs import DIT
from ..diffusion.rehearsal import rehearse
from ..diffusion.sampling import require_steps
from ..diffusion.single_file import is_single_file
from ..errors import MismatchError, UsageError
from .request import FLUX_GUIDANCE, GUIDANCE, BankUse, SampleRequest


@dataclass(frozen=True, slots=True)
class CheckedModel:
    """A model whose configs are read and checked, and whose weights are not loaded yet."""

    name: str
    base: Base
    scheduler: Any
    objective: TrainingObjective
    side: int
    """Height and width of the denoiser's input."""
    classes: tuple[int, ...]
    """Image i shows class i modulo their number; empty for models without classes."""
    null_class: int | None
    """The null class; None if it is not known that the model has one."""
    guidance: float


def check_model(name: str, folder: Path, request: SampleRequest) -> CheckedModel:
    """The model in a folder or single file; SoupError if it cannot make the requested images."""
    configs = request.config_from if is_single_file(folder) else None
    base = read_base(folder, request.variant, configs)
    scheduler = load_scheduler(base)
    objective = own_objective(scheduler, is_flow=base.family.is_flow)
    side = choose_resolution(base, request.resolution) // base.scale
    rehearse(base, side, scheduler, objective)
    require_steps(scheduler, objective, request.steps, str(folder))
    classes, null = _classes(base, request)
    guidance = _default_guidance(base) if request.guidance is None else request.guidance
    if classes and null is None:
        guidance = 1.0
    return CheckedModel(name, base, scheduler, objective, side, classes, null, guidance)


def _default_guidance(base: Base) -> float:
    """The guidance scale of a base's images: that of diffusers for Flux, which trains without."""
    if base.family is not FLUX:
        return GUIDANCE
    return FLUX_GUIDANCE if base.embeds_guidance else 1.0


def _require_condition(base: Base, request: SampleRequest) -> None:
    """Raise UsageError for prompts or classes that the model does not take, or prompts it lacks."""
    if request.prompts and base.conditioning is not Conditioning.TEXT:
        raise UsageError("this model takes no captions", path=base.given, advice="remove --prompt")
    if base.conditioning is Conditioning.TEXT and not request.prompts:
        raise UsageError("this model takes captions", path=base.given, advice="add --prompt TEXT")
    if base.conditioning is not Conditioning.LABEL:
        for option, value in (("--class", request.classes), ("--null-class", request.null_class)):
            if value not in ((), None):
                what = "this model takes no classes"
                raise UsageError(what, path=base.given, advice=f"remove {option}")


def _classes(base: Base, request: SampleRequest) -> tuple[tuple[int, ...], int | None]:
    """The classes that images show, and the null class; MismatchError for classes out of range."""
    _require_condition(base, request)
    if base.conditioning is not Conditioning.LABEL:
        return (), None
    null = null_class(base) if request.null_class is None else request.null_class
    every = range(base.embeddings)
    if null is not None and null not in every:
        what = f"this model has classes 0 to {base.embeddings - 1}, but --null-class is {null}"
        raise MismatchError(what, path=base.given)
    if null is None and request.guidance not in (None, 1):
        what = "--guidance needs the null class, which is not known for this model"
        raise MismatchError(
            what, path=base.given, advice="give it with --null-class, or leave out --guidance"
        )
    # without guidance, the null class can be sampled; a DiT has one embedding more than its config
    # says
    is_shown = null is None or (request.guidance == 1 and base.class_name != DIT)
    known = [each for each in every if is_shown or each != null]
    if unknown := [each for each in request.classes if each not in known]:
        last = f"{known[0]} to {known[-1]}" if known else "no class to sample"
        what = f"this model has classes {last}, but --class is {unknown[0]}"
        raise MismatchError(what, path=base.given)
    return request.classes or tuple(known), null


def require_banks_fit(
    model: CheckedModel, banks: Mapping[str, PromptBank | BankStack], use: BankUse
) -> None:
    """Raise MismatchError for a bank of another base or size, unless `use` allows it."""
    digest = None
    if banks and not use.allow_base_mismatch:
        base = model.base
        digest = content_digests(base.denoiser_folder, variant=base.files.variant)[0].digest
    for title, bank in banks.items():
        configs = [
            (f"{title}/{member.name}" if member.name else title, member.bank.config)
            for member in members_of(bank)
        ]
        _require_fits(model, configs, digest, use)


def _require_fits(
    model: CheckedModel,
    configs: Sequence[tuple[str, BankConfig]],
    digest: str | None,
    use: BankUse,
) -> None:
    """Raise MismatchError for a bank, or a stack's banks, by name; all have one sample size."""
    own, side = configs[0][1].base.sample_size, (model.side, model.side)
    found = describe_base(
        empty_model(model.base),
        sample_size=own,
        num_train_timesteps=model.objective.timesteps,
        prediction_type=model.objective.prediction.value,
        digest=digest,
    )
    for name, config in configs:
        require_fit(config, found, name, allow_base_mismatch=use.allow_base_mismatch)
    if own != side and not use.resize_prompts:
        trained, asked = (
            " by ".join(str(each * model.base.scale) for each in size) for size in (own, side)
        )
        what = f"was trained for images of {trained} pixels, and these are {asked}"
        raise MismatchError(what, path=configs[0][0], advice="--resize-prompts")
