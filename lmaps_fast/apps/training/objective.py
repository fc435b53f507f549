"""What is learned: the weighted denoising error of EDM (Karras et al., 2022), sigma_data .5, images in [-1, 1]."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from lmaps_fast.apps.training import teacher as ffdnet

SIGMA_DATA = 0.5
LEAST, MOST = 0.004, 80.0
LEAST_ON_LARGE = 0.3  # large crops are for large noise, where the network must look far
LOG_MEAN, LOG_STD, LOG_UNIFORM_SHARE = -1.3, 1.4, 0.08
CLEAN_SHARE = 0.25

Teacher = Callable[[Tensor, Tensor], Tensor]


def draw_sigma(rng: np.random.Generator, count: int, large: bool) -> Tensor:
    """Noise levels [count] in float32, on the CPU.

    exp(N(-1.3, 1.4^2)), clamped to .004..80, or for 8 % log-uniform there; for large crops log-uniform from .3 to 80.
    """
    uniform = rng.random(count)
    if large:
        sigma = LEAST_ON_LARGE * (MOST / LEAST_ON_LARGE) ** uniform
    else:
        normal = np.exp(LOG_MEAN + LOG_STD * rng.standard_normal(count)).clip(LEAST, MOST)
        sigma = np.where(rng.random(count) < LOG_UNIFORM_SHARE, LEAST * (MOST / LEAST) ** uniform, normal)
    return torch.from_numpy(sigma.astype(np.float32))


def denoise(network: nn.Module, y: Tensor, sigma: Tensor) -> Tensor:
    """D(y, sigma) by EDM preconditioning, as `denoisers.EDM`, with a noise level for each image. sigma: [B]."""
    s = sigma.view(-1, 1, 1, 1)
    total = s.square() + SIGMA_DATA**2
    F = network((y * total.rsqrt()).contiguous(memory_format=torch.channels_last), sigma.log() / 4).float()
    return SIGMA_DATA**2 / total * y + s * SIGMA_DATA * total.rsqrt() * F


def target(x: Tensor, y: Tensor, sigma: Tensor, teacher: Teacher | None) -> Tensor:
    """What D(y, sigma) is regressed to: x, and where the teacher T is trusted .25 x + .75 T(y, sigma).

    That is the minimiser of .25 |D - x|^2 + .75 |D - T|^2. Both have the same mean given y where T is right, but T has
    none of the spread of x around it, so gradients are less noisy. sigma: [B] on the CPU; x and y anywhere.
    """
    if teacher is None:
        return x
    chosen = ((sigma >= ffdnet.LEAST) & (sigma <= ffdnet.MOST)).nonzero()[:, 0].to(x.device)
    if not len(chosen):
        return x
    with torch.no_grad():
        taught = teacher(y[chosen], sigma.to(x.device)[chosen]).float()
    return x.index_copy(0, chosen, torch.lerp(taught, x[chosen], CLEAN_SHARE))


def loss(D: Tensor, wanted: Tensor, sigma: Tensor) -> Tensor:
    """The mean over the batch of (sigma^2 + sd^2) / (sigma sd)^2 times the mean squared error."""
    weight = (sigma.square() + SIGMA_DATA**2) / (sigma * SIGMA_DATA).square()
    return ((D - wanted).square().mean((1, 2, 3)) * weight).mean()


def learning_rate_factor(step: int, done: float) -> float:
    """Linear warm-up over 100 steps, constant until .4 of the run is done, then a cosine down to 1 %."""
    decay = 1.0 if done < 0.4 else max(0.01, 0.5 * (1 + math.cos(math.pi * (done - 0.4) / 0.6)))
    return min(1.0, (step + 1) / 100) * decay
