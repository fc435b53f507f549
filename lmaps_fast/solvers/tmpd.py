"""Tweedie Moment Projected Diffusions, TMPD (Boys et al., 2023), https://arxiv.org/abs/2310.06721, in the scale
x = x0 + sigma eps."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lmaps_fast.local_map import Problem
from lmaps_fast.operators import Operator
from lmaps_fast.presets import whole
from lmaps_fast.solvers.base import Level, State, sum_of_each
from lmaps_fast.solvers.ddpm import LEAST_NOISE, DDPMSettings, DDPMSolver, ancestral_shares, of_coefficients
from lmaps_fast.solvers.renoise import renoise


@dataclass(frozen=True)
class TMPDSettings(DDPMSettings):
    """Those of the paper: 1000 steps of DDPM (eta 1), and A C A^T as the diagonal of its row sums. cg_steps: solve
    with all of A C A^T instead, by so many steps of conjugate gradients, each a gradient of the denoiser."""

    steps: int = 1000
    eta: float = 1.0
    cg_steps: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("cg_steps", self.cg_steps, least=0)


class TMPD(DDPMSolver):
    """Per noise level: one network call, whose gradient gives the covariance of x0 given x, C = sigma^2 dD/dx, and
    the mean given the measurement too: x0 = D + C A^T (A C A^T + sigma_y^2 I)^{-1} (y - A D)."""

    name = "tmpd"
    needs = ("linear",)
    differentiates = True
    recordable = False
    Settings = TMPDSettings
    least_noise = LEAST_NOISE
    alike = ("cg_steps",)

    def columns(
        self, operator: Operator, settings: TMPDSettings, sigma: float, sigma_next: float, share: float
    ) -> dict:
        of_level = {**ancestral_shares(sigma, sigma_next, settings.eta), "cg_steps": settings.cg_steps}
        return {**super().columns(operator, settings, sigma, sigma_next, share), **of_level}

    def step(self, problem: Problem, state: State, level: Level) -> State:
        A, At = problem.A.linear, problem.A.adjoint
        D, vjp = self.with_vjp(state.x, level)
        r = problem.y - problem.A.forward(D)
        variance = of_coefficients(level.sigma_y**2, r)

        def covariance(v: Tensor) -> Tensor:
            """(A C A^T + sigma_y^2 I) v, the same gradient kept for the next."""
            return A(level.sigma**2 * vjp(At(v), keep=True)) + variance * v

        cg_steps = int(level.on_host("cg_steps")[0])
        if cg_steps:
            solved = conjugate_gradients(covariance, r, cg_steps)
        else:
            solved = r / torch.maximum(covariance(torch.ones_like(r)), variance)
        x0 = D + level.sigma**2 * vjp(At(solved))
        return State(renoise(state.x, x0, level), x0)


def conjugate_gradients(M: Callable[[Tensor], Tensor], b: Tensor, steps: int) -> Tensor:
    """M^{-1} b for each of a batch, b: [B, ...] and M symmetric and positive."""
    tiny = torch.finfo(b.dtype).tiny  # 0 / tiny where an image is solved before the others
    v, r, p = torch.zeros_like(b), b, b
    rr = sum_of_each(r * r)
    for _ in range(steps):
        Mp = M(p)
        alpha = rr / sum_of_each(p * Mp).clamp(min=tiny)
        v, r = v + alpha * p, r - alpha * Mp
        before, rr = rr, sum_of_each(r * r)
        p = r + rr / before.clamp(min=tiny) * p
    return v
