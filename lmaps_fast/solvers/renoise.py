"""From x0 to the next x (Eq. 8b)."""

import math

import torch
from torch import Tensor

from lmaps_fast.solvers.base import Level


def shares(sigma: float, sigma_next: float, rho: float) -> tuple[float, float]:
    """What the next x keeps of x - x0, and its new noise: sigma_next sqrt(1 - rho^2) / sigma and sigma_next rho."""
    return sigma_next / sigma * math.sqrt(1 - rho * rho), sigma_next * rho


def renoise(x: Tensor, x0: Tensor, level: Level) -> Tensor:
    """x_next = x0 + sigma_next (sqrt(1 - rho^2) (x - x0) / sigma + rho eps), with the columns keep and noise of
    `shares`; rho = 1 forgets x, rho = 0 is DDIM."""
    out = torch.lerp(x0, x, level.keep.expand_as(x)) if any(level.on_host("keep")) else x0
    return level.add_normal(out, level.noise) if any(level.on_host("noise")) else out
