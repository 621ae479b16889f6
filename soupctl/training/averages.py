"""Averages of the weights over the time of a run: the EMA, and power-function averages.

Rule 1: with width sigma_rel and its exponent gamma (Karras et al. 2024, arXiv 2312.02696, section
3.1), the average after step t is b a + (1 - b) w with b = (1 - 1/t)^(gamma + 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor

from ..merge.ema.profiles import gamma_of
from .options import Options


class PowerTrack:
    """A power-function average of parameters, in float32."""

    def __init__(self, width: float, parameters: Sequence[Tensor]) -> None:
        self.width = width
        self.updates = 0
        self.values = [each.detach().clone() for each in parameters]
        self._gamma = gamma_of(width)

    @torch.no_grad()
    def step(self, parameters: Sequence[Tensor]) -> None:
        """Add the parameters of the next step."""
        self.updates += 1
        kept = (1 - 1 / self.updates) ** (self._gamma + 1)
        for value, parameter in zip(self.values, parameters, strict=True):
            value.lerp_(parameter, 1 - kept)


class Averages:
    """The averages of the trained parameters that the options ask for."""

    def __init__(self, trained: Mapping[str, torch.nn.Parameter], options: Options) -> None:
        self._is_on_cpu = options.ema_on_cpu
        values = self._placed(list(trained.values()))
        self.ema: EMAModel | None = None
        if options.ema:
            self.ema = EMAModel(values, decay=options.ema_decay, foreach=True)
        self.tracks = tuple(PowerTrack(width, values) for width in options.track_widths)

    def step(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Add the parameters after a step."""
        if self.ema is None and not self.tracks:
            return
        values = self._placed(parameters)
        if self.ema is not None:
            self.ema.step(values)
        for track in self.tracks:
            track.step(values)

    def _placed(self, parameters: Sequence[torch.nn.Parameter]) -> list[Tensor]:
        """The parameters where the averages are."""
        if not self._is_on_cpu:
            return list(parameters)
        # EMAModel copies what needs no gradient, instead of averaging it
        return [each.detach().cpu().requires_grad_(each.requires_grad) for each in parameters]
