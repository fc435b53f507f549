"""Noise levels, from high to low, and what the fused step multiplies by at each."""

import math

import torch

from lmaps_fast.errors import InputError

# A row of `ops.step` for one image: the weights of its local MAP; D = skip x + out F; what is kept of x - x0; the new
# noise; the scale of the next network input; which draw of the image's key.
COLUMNS = ("lam", "c", "lr", "K", "skip", "out", "keep", "noise", "scale", "draw")


def polynomial(steps: int, sigma_max: float, sigma_min: float, exponent: float = 7.0) -> list[float]:
    """sigma_i = (max^{1/p} + i/N (min^{1/p} - max^{1/p}))^p for i = 0..N-1, then 0: N + 1 levels.

    The last level before 0 is one step above sigma_min, as in the DAPS schedule that the paper follows.
    """
    if steps < 1:
        raise InputError(f"steps must be at least 1, not {steps}")
    if not 0 < sigma_min < sigma_max:
        raise InputError(f"noise levels need 0 < sigma_min < sigma_max, not {sigma_min} and {sigma_max}")
    high, low = sigma_max ** (1 / exponent), sigma_min ** (1 / exponent)
    return [(high + i / steps * (low - high)) ** exponent for i in range(steps)] + [0.0]


def ddpm_levels(steps: int, sigma_max: float = math.inf, quadratic: bool = False) -> list[float]:
    """sigma_t = sqrt(1 / abar_t - 1) at N timesteps, from high to low, then 0: N + 1 levels.

    abar_t is the product of 1 - beta for 1000 betas from 1e-4 to .02, as DDPM trains. Of the T timesteps (1000 unless
    sigma_max cuts the noisiest off) the solver takes t_i = floor(i T / N); quadratic: floor(T sqrt(i / (N - 1))), T - 1
    for the last, which is closer where noise is high. Raises InputError where N steps would take a timestep twice.
    """
    abar = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)
    levels = [level for level in (1 / abar - 1).sqrt().tolist() if level <= sigma_max]
    T = len(levels)
    if quadratic:
        timesteps = {min(int(T * math.sqrt(i / max(steps - 1, 1))), T - 1) for i in range(steps)}
    else:
        timesteps = {i * T // steps for i in range(steps)}
    if steps < 1 or len(timesteps) < steps:
        raise InputError(f"{steps} steps do not fit the {T} noise levels up to sigma_max: give fewer, but at least 1")
    return [levels[t] for t in sorted(timesteps, reverse=True)] + [0.0]
