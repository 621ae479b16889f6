"""Options of flow matching, for bases that are trained by it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from ..choices import Weighting
from ..frozen import frozen
from .memory_options import MemoryOptions
from .option_fields import POSITIVE, Bounds, option


@frozen
class FlowOptions(MemoryOptions):
    """How timesteps are drawn and weighted in flow matching."""

    weighting: Weighting = option(
        Weighting.NONE,
        "How flow matching draws timesteps or weights their losses.",
        is_on_command_line=False,
        is_recorded_unset=False,
    )
    logit_mean: float = option(
        0.0,
        "Mean of the logit of timesteps, for weighting logit_normal.",
        Bounds(-100, 100),
        is_on_command_line=False,
        is_recorded_unset=False,
    )
    logit_std: float = option(
        1.0,
        "Standard deviation of the logit of timesteps, for weighting logit_normal.",
        POSITIVE,
        is_on_command_line=False,
        is_recorded_unset=False,
    )
    mode_scale: float = option(
        1.29,
        "Scale of weighting mode.",
        Bounds(0, 100),
        is_on_command_line=False,
        is_recorded_unset=False,
    )
    shift: float | None = option(
        None,
        "Shift of the timesteps of flow matching in training.",
        POSITIVE,
        default_text="the base's",
        is_on_command_line=False,
        is_recorded_unset=False,
    )
    precondition_outputs: bool = option(
        False,
        "Compute the loss of flow matching on clean images, as diffusers' script for SD3 does.",
        is_on_command_line=False,
        is_recorded_unset=False,
    )
    guidance_embedding: float = option(
        3.5,
        "Guidance scale during training, for Flux models that embed it (dev).",
        POSITIVE,
        is_on_command_line=False,
        is_recorded_unset=False,
    )

    @property
    def set_for_flow(self) -> Iterator[str]:
        """The options of flow matching that are set, by name."""
        names = FlowOptions.__annotations__
        for each in fields(FlowOptions):
            if each.name in names and getattr(self, each.name) != each.default:
                yield each.name.replace("_", "-")
