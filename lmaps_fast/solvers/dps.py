"""Diffusion Posterior Sampling (Chung et al., ICLR 2023, https://arxiv.org/abs/2209.14687), Algorithm 1."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lmaps_fast import dispatch
from lmaps_fast.errors import InputError
from lmaps_fast.renoise import Noise, renoise
from lmaps_fast.solvers.ddpm import DDPMSettings, DDPMSolver, with_vjp


@dataclass(frozen=True)
class DPSSettings(DDPMSettings):
    """Those of the paper: 1000 steps (network calls, each with its gradient); scale, zeta' of the paper: the step size
    of the guidance. sigma_y has no effect."""

    steps: int = 1000
    scale: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.scale < math.inf:
            raise InputError(f"scale must be finite and not negative, not {self.scale}")


class DPS(DDPMSolver):
    """Per timestep: one ancestral step of DDPM, then x <- x - scale grad |y - A(x0(x_t))|_2, the norm of each image.

    The state here is x = x_t / sqrt(abar_t), of noise level sigma. The variance is DDPM's lower bound betatilde; a
    network's learnt one, which the public code takes, is not what a `Denoiser` returns. The gradient of the misfit is
    the operator's own, so that surrogate Jacobians (JPEG, quantization, HDR) count here too.
    """

    settings: DPSSettings

    def step(self, x: Tensor, index: int, y: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        sigma, sigma_next = self.sigmas[index : index + 2]
        with dispatch.use_backend(self.backend):
            x0, gradient = self.estimate(x, sigma, y)
            # In this scale DDPM's ancestral step is the renoising that keeps (sigma_next / sigma)^2 of x - x0.
            x = renoise(x, x0, sigma, sigma_next, math.sqrt(1 - (sigma_next / sigma) ** 2), noise)
            # The scale belongs to x_t and x_{t-1} in the scale of DDPM: one factor 1 / sqrt(abar) for each.
            x = x - self.settings.scale * math.sqrt((1 + sigma**2) * (1 + sigma_next**2)) * gradient
        return x, x0 if sigma_next else x  # the last iterate is guided too

    def estimate(self, x: Tensor, sigma: float, y: Tensor) -> tuple[Tensor, Tensor]:
        """x0 = D(x, sigma) in [-1, 1], and the gradient of |y - A(x0)|_2 with respect to x, both [B, C, H, W]."""
        D, vjp = with_vjp(self.denoiser, x, sigma)
        x0 = D.clamp(-1, 1)
        norm = (self.operator(x0) - y).abs().flatten(1).norm(dim=1).clamp(min=torch.finfo(x.dtype).tiny)
        gradient = self.operator.gradient(x0, y) / norm.view(-1, 1, 1, 1)
        return x0, vjp(gradient * (x0 == D))  # the clamp stops it elsewhere
