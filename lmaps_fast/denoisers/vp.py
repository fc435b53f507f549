"""Variance-preserving diffusion networks (DDPM, ADM, diffusers) as denoisers."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lmaps_fast.denoisers.base import Scaled
from lmaps_fast.errors import InputError

PREDICTIONS = ("epsilon", "sample", "v_prediction")
BETA_MIN, BETA_MAX, LAST = 0.1, 20.0, 999


def linear_time(sigma: float) -> float:
    """The timestep, 0..999 and fractional, of noise level sigma for betas from 1e-4 to .02 in 1000 steps:
    c = 999 t, t = (sqrt(b0^2 + 2 (b1 - b0) ln(1 + sigma^2)) - b0) / (b1 - b0), b0 = .1, b1 = 20."""
    slope = BETA_MAX - BETA_MIN
    return LAST * (math.sqrt(BETA_MIN**2 + 2 * slope * math.log1p(sigma**2)) - BETA_MIN) / slope


def discrete_time(alphas_cumprod: Tensor | Sequence[float]) -> Callable[[float], float]:
    """The same for any schedule of discrete steps, from its cumulative products of 1 - beta: between two steps ln sigma
    is interpolated, and beyond the first and the last their own timestep is taken."""
    a = torch.as_tensor(alphas_cumprod, dtype=torch.float64)
    if a.dim() != 1 or len(a) < 2 or not ((a > 0) & (a < 1)).all() or not (a.diff() < 0).all():
        raise InputError("alphas_cumprod must fall from step to step, between 1 and 0: give the scheduler's own")
    levels = (0.5 * ((1 - a) / a).log()).tolist()

    def time(sigma: float) -> float:
        level = min(max(math.log(sigma), levels[0]), levels[-1])
        i = next(i for i in range(len(levels) - 1) if level <= levels[i + 1])
        return i + (level - levels[i]) / (levels[i + 1] - levels[i])

    return time


class VP(Scaled):
    """D of a network that was trained on alpha x0 + s eps with alpha^2 + s^2 = 1, so alpha = 1 / sqrt(1 + sigma^2).

    prediction: what the network estimates. "epsilon": D = x - sigma F(alpha x, t); "sample": D = F; "v_prediction",
    v = alpha eps - s x0: D = alpha^2 x - s F. network(x, t) takes x: [B, C, H, W] in `dtype` and channels_last, and t:
    [B] in float32, `time(sigma)`; of more than C channels that it returns (a learned variance) the first C are taken.
    Nothing is clipped and t is not rounded. Raises InputError for another prediction.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        prediction: str = "epsilon",
        time: Callable[[float], float] = linear_time,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(network, dtype)
        if prediction not in PREDICTIONS:
            raise InputError(f"unknown prediction {prediction!r}: choose one of {', '.join(PREDICTIONS)}")
        self.prediction, self.time = prediction, time

    def condition(self, sigma: float) -> float:
        return self.time(sigma)

    def preconditioning(self, sigma: float) -> tuple[float, float, float]:
        alpha = (1 + sigma**2) ** -0.5
        return {
            "epsilon": (1.0, -sigma, alpha),
            "sample": (0.0, 1.0, alpha),
            "v_prediction": (alpha**2, -sigma * alpha, alpha),
        }[self.prediction]
