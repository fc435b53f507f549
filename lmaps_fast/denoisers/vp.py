"""Variance-preserving diffusion networks (DDPM, ADM, diffusers) as denoisers."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lmaps_fast.denoisers.base import Scaled
from lmaps_fast.errors import InputError

PREDICTIONS = ("epsilon", "sample", "v_prediction")
BETA_MIN, BETA_MAX, LAST = 0.1, 20.0, 999


def linear_time(sigma: Tensor) -> Tensor:
    """The timesteps of noise levels for betas from 1e-4 to .02 in 1000 steps: c = 999 t,
    t = (sqrt(b0^2 + 2 (b1 - b0) ln(1 + sigma^2)) - b0) / (b1 - b0), b0 = .1, b1 = 20.

    Args:
        sigma: [n] in float64.

    Returns:
        [n], from 0 to 999 and fractional.
    """
    slope = BETA_MAX - BETA_MIN
    return LAST * ((BETA_MIN**2 + 2 * slope * sigma.square().log1p()).sqrt() - BETA_MIN) / slope


class DiscreteTime:
    """The timesteps of noise levels for a schedule of discrete steps: between two steps ln sigma is interpolated, and
    beyond the first and the last their own timestep is taken.

    Args:
        alphas_cumprod: [steps], the cumulative products of 1 - beta.

    Raises:
        InputError: where they do not fall from step to step, between 1 and 0.
    """

    def __init__(self, alphas_cumprod: Tensor | Sequence[float]) -> None:
        a = torch.as_tensor(alphas_cumprod, dtype=torch.float64)
        if a.dim() != 1 or len(a) < 2 or not ((a > 0) & (a < 1)).all() or not (a.diff() < 0).all():
            raise InputError("alphas_cumprod must fall from step to step, between 1 and 0: give the scheduler's own")
        levels = 0.5 * ((1 - a) / a).log()
        self.levels = {levels.device: levels}  # and a copy on each device that asks, kept: a CUDA graph may read it

    def __call__(self, sigma: Tensor) -> Tensor:
        """[n], from 0 to steps - 1 and fractional, for sigma [n] in float64."""
        if sigma.device not in self.levels:
            self.levels.setdefault(sigma.device, next(iter(self.levels.values())).to(sigma.device))
        levels = self.levels[sigma.device]
        level = sigma.log().clamp(levels[0], levels[-1])
        i = torch.searchsorted(levels, level).clamp(min=1) - 1
        return i + (level - levels[i]) / (levels[i + 1] - levels[i])


class VP(Scaled):
    """D of a network that was trained on alpha x0 + s eps with alpha^2 + s^2 = 1, so alpha = 1 / sqrt(1 + sigma^2).

    Nothing is clipped and t is not rounded.

    Args:
        network, dtype, recordable: see `Scaled`, which says when the network is copied. Its condition is t: [B],
            `time(sigma)`; of more than C channels that it returns (a learned variance) the first C are taken.
        prediction: what the network estimates. "epsilon" (the default): D = x - sigma F(alpha x, t); "sample": D = F;
            "v_prediction", v = alpha eps - s x0: D = alpha^2 x - s F.
        time: the timesteps of noise levels, tensors [n] in float64. Default `linear_time`; of other schedules a
            `DiscreteTime`.

    Raises:
        InputError: for another prediction.
    """

    def __init__(
        self,
        network: nn.Module,
        prediction: str = "epsilon",
        time: Callable[[Tensor], Tensor] = linear_time,
        dtype: torch.dtype = torch.float32,
        recordable: bool = False,
    ) -> None:
        super().__init__(network, dtype, recordable)
        if prediction not in PREDICTIONS:
            raise InputError(f"unknown prediction {prediction!r}: choose one of {', '.join(PREDICTIONS)}")
        self.prediction, self.time = prediction, time

    def condition(self, sigma: Tensor) -> Tensor:
        return self.time(sigma)

    def preconditioning(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        alpha = (1 + sigma.square()).rsqrt()
        if self.prediction == "epsilon":
            return torch.ones_like(sigma), -sigma, alpha
        if self.prediction == "sample":
            return torch.zeros_like(sigma), torch.ones_like(sigma), alpha
        return alpha.square(), -sigma * alpha, alpha
