"""Denoising Diffusion Restoration Models (Kawar et al., 2022), https://arxiv.org/abs/2201.11793, in the scale
x = x0 + sigma eps."""

from dataclasses import dataclass

import torch

from lmaps_fast.local_map import Problem
from lmaps_fast.operators import Operator
from lmaps_fast.solvers.base import Level
from lmaps_fast.solvers.ddpm import DDPMSettings, DDPMSolver, MeasuredState, coefficients, of_coefficients


@dataclass(frozen=True)
class DDRMSettings(DDPMSettings):
    """Those of the paper: 20 steps; eta .85, the share of fresh noise; eta_b 1, that of the measurement where it is
    surer than x."""

    steps: int = 20
    eta: float = 0.85
    eta_b: float = 1.0


class DDRM(DDPMSolver):
    """Per noise level: one network call, and one Gaussian draw for each singular direction of A."""

    name = "ddrm"
    needs = ("spectrum",)
    Settings = DDRMSettings

    def columns(
        self, operator: Operator, settings: DDRMSettings, sigma: float, sigma_next: float, share: float
    ) -> dict:
        shares = {"eta": settings.eta, "eta_b": settings.eta_b}
        return {**super().columns(operator, settings, sigma, sigma_next, share), **shares}

    def start(self, problem: Problem, level: Level) -> MeasuredState:
        """x_T: y_bar where the measurement is surer than the first x, with what its noise std leaves of that of x,
        sqrt(sigma^2 - std^2); the first guess and all the noise elsewhere."""
        V, Vt, guess = problem.A.from_eigenbasis, problem.A.to_eigenbasis, problem.guess
        y_bar, std, measured = coefficients(problem, level.sigma_y)
        sigma = of_coefficients(level.sigma, y_bar)
        surer = measured & (std <= sigma)
        x = level.add_normal(guess + V((y_bar - Vt(guess)).where(surer, 0)), level.sigma)
        shrink = (1 - (std / sigma) ** 2).clamp(min=0).sqrt() - 1
        x = x + V((shrink * (Vt(x) - y_bar)).where(surer, 0))
        return MeasuredState(x, x, y_bar, std, measured)

    def step(self, problem: Problem, state: MeasuredState, level: Level) -> MeasuredState:
        V, Vt = problem.A.from_eigenbasis, problem.A.to_eigenbasis
        x, _, y_bar, std, measured = state
        D, eps = self.denoise(x, level), level.normal(x)
        kept = level.sigma_next * (1 - level.eta**2).sqrt()
        x_next = D + kept * (x - D) / level.sigma + level.eta * level.sigma_next * eps  # where A measures nothing
        x0_bar, eps_bar, x_bar = (Vt(v) for v in (D, eps, x_next))
        kept, sigma_next, eta, eta_b = (
            of_coefficients(v, y_bar) for v in (kept, level.sigma_next, level.eta, level.eta_b)
        )
        unsure = x0_bar + kept * (y_bar - x0_bar) / std + eta * sigma_next * eps_bar
        sure = (1 - eta_b) * x0_bar + eta_b * y_bar
        sure = sure + (sigma_next**2 - (eta_b * std) ** 2).clamp(min=0).sqrt() * eps_bar
        change = sure.where(sigma_next >= std, unsure) - x_bar
        x_next = x_next + V(change.where(measured, 0))
        return MeasuredState(x_next, torch.where(level.sigma_next > 0, D, x_next), y_bar, std, measured)
