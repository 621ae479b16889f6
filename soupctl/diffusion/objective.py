"""The training objective of a denoiser: noisy inputs, targets, and weights of the loss.

Rule 1: with a = sqrt(alpha_bar) and s = sqrt(1 - alpha_bar) of a timestep, the noisy sample is
a x + s n; the target is n (epsilon), x (sample) or a n - s x (v-prediction; Salimans and Ho 2022,
arXiv 2202.00512).
Rule 2: min-SNR weights (Hang et al. 2023, arXiv 2303.09556) with snr = alpha_bar / (1 - alpha_bar):
min(snr, g) / snr for epsilon, min(snr, g) for sample, min(snr, g) / (snr + 1) for v-prediction.
Rule 3: epsilon is refused if the last timestep has no signal (Lin et al. 2023, arXiv 2305.08891),
since its input is then its target.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..choices import Prediction
from ..errors import MismatchError, UsageError

WITH_BETAS = (Prediction.EPSILON, Prediction.VELOCITY, Prediction.SAMPLE)
"""What a denoiser may predict whose noise schedule has betas."""


@dataclass(frozen=True, slots=True)
class Emphasis:
    """What counts more, or less, in the loss of a batch; nothing by default."""

    masks: torch.Tensor | None = None
    """What each position counts, [B, 1, H, W]."""
    weights: torch.Tensor | None = None
    """What each sample counts, [B]."""

    def of_positions(self, squares: torch.Tensor) -> torch.Tensor:
        """Squared errors [B, C, H, W], each times what its position counts."""
        return squares if self.masks is None else squares * self.masks

    def mean(self, errors: torch.Tensor) -> torch.Tensor:
        """The mean of the errors of samples [B], each times what its sample counts."""
        return (errors if self.weights is None else errors * self.weights).mean()


EVEN = Emphasis()
"""All positions and samples count alike."""


@dataclass(frozen=True, slots=True)
class Objective:
    """A noise schedule, a prediction type and a weighting.

    Raises UsageError for a zero signal-to-noise ratio with epsilon.
    """

    alpha_bars: torch.Tensor
    """The share of signal in the variance at each timestep, [timesteps], float32."""
    prediction: Prediction
    snr_gamma: float | None = None

    def __post_init__(self) -> None:
        """Refuse epsilon without signal at the last timestep."""
        if self.prediction is Prediction.EPSILON and not bool((self.alpha_bars > 0).all()):
            raise UsageError(
                "the base's noise schedule has no signal at the last timestep, so its noise cannot "
                "be the target",
                advice="if the base predicts v, set prediction = v_prediction in --config",
            )

    @property
    def timesteps(self) -> int:
        """The number of timesteps."""
        return len(self.alpha_bars)

    def told(self, timesteps: torch.Tensor) -> torch.Tensor:
        """What the denoiser is told of timesteps [B]: themselves."""
        return timesteps

    def noisy(
        self, samples: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
    ) -> torch.Tensor:
        """Samples [B, C, H, W] with the noise of timesteps [B] added (rule 1)."""
        signal, spread = self._factors(timesteps)
        return signal * samples + spread * noise

    def target(
        self, samples: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
    ) -> torch.Tensor:
        """The target of the prediction, [B, C, H, W] (rule 1)."""
        if self.prediction is Prediction.EPSILON:
            return noise
        if self.prediction is Prediction.SAMPLE:
            return samples
        signal, spread = self._factors(timesteps)
        return signal * noise - spread * samples

    def _factors(self, timesteps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        alpha_bars = self.alpha_bars.to(timesteps.device)[timesteps][:, None, None, None]
        return alpha_bars.sqrt(), (1 - alpha_bars).sqrt()

    def weights(self, timesteps: torch.Tensor) -> torch.Tensor:
        """The weight of each sample's loss, [B], from its timestep (rule 2)."""
        if self.snr_gamma is None:
            return torch.ones(timesteps.shape, device=timesteps.device)
        alpha_bars = self.alpha_bars.to(timesteps.device)[timesteps]
        snr = alpha_bars / (1 - alpha_bars)
        least = snr.clamp(max=self.snr_gamma)
        if self.prediction is Prediction.EPSILON:
            return least / snr
        return least if self.prediction is Prediction.SAMPLE else least / (snr + 1)

    def loss(
        self,
        predicted: torch.Tensor,
        samples: torch.Tensor,
        noise: torch.Tensor,
        timesteps: torch.Tensor,
        emphasis: Emphasis = EVEN,
    ) -> torch.Tensor:
        """The weighted mean squared error, a scalar in float32.

        If `predicted` has twice the channels, its second half is variances, which are not trained.
        """
        mean = predicted[:, : samples.shape[1]].float()
        squares = (mean - self.target(samples, noise, timesteps)).square()
        errors = emphasis.of_positions(squares).mean(dim=(1, 2, 3))
        return emphasis.mean(errors * self.weights(timesteps))


def objective_of(scheduler: object, prediction: Prediction, snr_gamma: float | None) -> Objective:
    """The objective of a base's noise scheduler, as diffusers loads it.

    Raises MismatchError for a scheduler without a discrete noise schedule, as in flow matching.
    """
    alpha_bars = getattr(scheduler, "alphas_cumprod", None)
    config = getattr(scheduler, "config", {})
    own = config.get("prediction_type")
    if alpha_bars is None or own not in WITH_BETAS:
        name = type(scheduler).__name__
        raise MismatchError(f"the base's scheduler {name} with prediction {own!r} is not supported")
    if prediction is Prediction.FLOW:
        raise UsageError("prediction flow_prediction works with bases of flow matching only")
    asked = Prediction(own) if prediction is Prediction.AUTO else prediction
    return Objective(alpha_bars.float(), asked, snr_gamma)
