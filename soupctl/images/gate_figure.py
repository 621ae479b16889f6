"""The plot of a bank's gates from files: of a bank or a stack, and of its base.

Rule 1: the gates of a bank are evaluated only on the base that it was trained on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ..banks.blocks import describe_base
from ..banks.compatibility import require_fit
from ..banks.config import BankConfig, GateInput
from ..banks.embedders import Embedders
from ..banks.gate_survey import Survey, survey
from ..banks.load import load_bank_or_stack, members_of
from ..checkpoints.hashing import content_digests
from ..diffusion.base import Base, Conditioning
from ..diffusion.base_reader import read_base
from ..diffusion.families.flux import FLUX
from ..diffusion.families.sd3 import SD3
from ..diffusion.families.sdxl import SDXL
from ..diffusion.flow import TrainingObjective, own_objective
from ..diffusion.loading import empty_model, load_scheduler
from ..diffusion.rehearsal import rehearse
from ..errors import MismatchError, SoupError, UsageError
from ..storage.atomic import publish_bytes
from .plots import gate_plot


@dataclass(frozen=True, slots=True)
class GatePlot:
    """A survey of a bank's gates on its base, and its plot."""

    base: Path
    surveys: tuple[Survey, ...]
    """One for each bank of a stack, or one for a single bank."""
    picture: bytes
    """A PNG file."""


def plot_gates(path: Path, base: Path | None) -> GatePlot:
    """The plot of the gates of the bank or stack at `path`, on its base.

    Without `base`, a folder of its recorded name and digest is searched for in the current folder
    and next to the bank. Raises UsageError if there is none, MismatchError for another base,
    InputError for files that are not valid.
    """
    members = members_of(load_bank_or_stack(path))
    configs = [each.bank.config for each in members]
    folder = _recorded_base(path, configs[0]) if base is None else base
    found = read_base(folder)
    objective = _require_own_base(found, configs, path)
    embedders = Embedders(found, configs[0].base.sample_size, objective.told)
    # the last embedding is the null class
    classes = found.embeddings - 1 if found.conditioning is Conditioning.LABEL else 0
    surveys = tuple(survey(each, embedders, objective.timesteps, classes) for each in members)
    return GatePlot(folder, surveys, gate_plot(surveys, f"Gates of {path} on {folder}"))


def save_plot(plot: GatePlot, target: Path, *, replace: bool) -> None:
    """Write the plot; OutputError if that fails, or without `replace` if the file exists."""
    publish_bytes(target, plot.picture, replace=replace)


def _recorded_base(path: Path, config: BankConfig) -> Path:
    """The folder of a bank's base in the current folder or next to the bank; else UsageError."""
    name, digest = config.base.name, config.base.digest
    beside = path.absolute().parent
    places = [Path(name), beside / name, beside.parent / name]
    for place in places:
        # the recorded name must be a plain folder name, not a path
        if digest and name and name == place.name and _digest(place) == digest:
            return place
    what = f"its base {name!r} is neither here nor next to it" if name else "its base has no name"
    raise UsageError(what, path=path, advice="give its folder with --base")


def _digest(folder: Path) -> str | None:
    """The content digest of a base's denoiser; None if the folder is not a base."""
    try:
        return content_digests(read_base(folder).denoiser_folder)[0].digest
    except SoupError:
        return None


def _require_own_base(base: Base, configs: list[BankConfig], path: Path) -> TrainingObjective:
    """The base's objective; MismatchError if it is of other banks, or a gate sees captions."""
    scheduler = load_scheduler(base)
    objective = own_objective(scheduler, is_flow=base.family.is_flow)
    rehearse(base, configs[0].base.sample_size[0], scheduler, objective)
    found = describe_base(
        empty_model(base),
        sample_size=configs[0].base.sample_size,
        num_train_timesteps=objective.timesteps,
        prediction_type=objective.prediction.value,
        digest=content_digests(base.denoiser_folder, variant=base.files.variant)[0].digest,
    )
    try:
        for config in configs:
            require_fit(config, found, str(path))
    except MismatchError as error:
        # --allow-base-mismatch is not an option of this command
        issues = [replace(issue, advice=None) for issue in error.issues]
        raise MismatchError.collected(issues) from None
    if base.family in (SDXL, SD3, FLUX) and any(
        each.gate_input is GateInput.TIME_AND_CLASS for each in configs
    ):
        what = "has a gate that depends on captions, too, and cannot be plotted without them"
        raise MismatchError(what, path=path)
    return objective
