"""Diffusion Posterior Sampling (Chung et al., ICLR 2023, https://arxiv.org/abs/2209.14687), Algorithm 1."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lmaps_fast.errors import InputError
from lmaps_fast.local_map import Problem
from lmaps_fast.operators import Operator
from lmaps_fast.solvers.base import Level, State, sum_of_each
from lmaps_fast.solvers.ddpm import DDPMSettings, DDPMSolver
from lmaps_fast.solvers.published import with_settings_for
from lmaps_fast.solvers.renoise import renoise, shares


@dataclass(frozen=True)
class DPSSettings(DDPMSettings):
    """Those of the paper: 1000 steps (network calls, each with its gradient); scale, zeta' of the paper: the step size
    of the guidance. There is no sigma_y."""

    steps: int = 1000
    scale: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sigma_y is not None:
            raise InputError("dps does not use the noise of y: leave sigma_y out")
        if not 0 <= self.scale < math.inf:
            raise InputError(f"scale must be finite and not negative, not {self.scale}")


SCALES = {"inpainting_box": 0.5, "inpainting_random": 0.5, "phase_retrieval": 1.0}  # .3 for other tasks


class DPS(DDPMSolver):
    """Per timestep: one ancestral step of DDPM, then x <- x - scale grad |y - A(x0(x_t))|_2, the norm of each image.

    The state here is x = x_t / sqrt(abar_t), of noise level sigma. The variance is DDPM's lower bound betatilde; a
    network's learnt one, which the public code takes, is not what a `Denoiser` returns. The gradient of the misfit is
    the operator's own, so that surrogate Jacobians (JPEG, quantization, HDR) count here too.
    """

    name = "dps"
    differentiates = True
    recordable = False
    uses_noise = False
    Settings = DPSSettings

    @classmethod
    def published(cls, task: str, noise: float | None = None) -> DPSSettings:
        with_settings_for(cls.name, task)
        return DPSSettings(scale=SCALES.get(task, 0.3))

    def columns(self, operator: Operator, settings: DPSSettings, sigma: float, sigma_next: float, share: float) -> dict:
        # In this scale DDPM's ancestral step is the renoising that keeps (sigma_next / sigma)^2 of x - x0.
        keep, noise = shares(sigma, sigma_next, math.sqrt(1 - (sigma_next / sigma) ** 2))
        # The scale belongs to x_t and x_{t-1} in the scale of DDPM: one factor 1 / sqrt(abar) for each.
        scale = settings.scale * math.sqrt((1 + sigma**2) * (1 + sigma_next**2))
        return {"keep": keep, "noise": noise, "scale": scale}

    def step(self, problem: Problem, state: State, level: Level) -> State:
        x0, gradient = self.guided(problem, state.x, level)
        x = renoise(state.x, x0, level) - level.scale * gradient
        return State(x, torch.where(level.sigma_next > 0, x0, x))  # the last iterate is guided too

    def guided(self, problem: Problem, x: Tensor, level: Level) -> tuple[Tensor, Tensor]:
        """x0 = D(x, sigma) in [-1, 1], and the gradient of |y - A(x0)|_2 with respect to x, both like x."""
        D, vjp = self.with_vjp(x, level)
        x0 = D.clamp(-1, 1)
        misfit = sum_of_each((problem.A.forward(x0) - problem.y).abs().square()).sqrt()
        norm = misfit.clamp(min=torch.finfo(x.dtype).tiny).view(-1, *[1] * (x.dim() - 1))
        gradient = problem.A.gradient(x0, problem.y) / norm
        return x0, vjp(gradient * (x0 == D))  # the clamp stops it elsewhere
