"""Denoising Diffusion Null-Space Model, DDNM+ (Wang, Yu, Zhang, 2023), https://arxiv.org/abs/2212.00490, in the scale
x = x0 + sigma eps."""

from dataclasses import dataclass

from lmaps_fast.local_map import Problem
from lmaps_fast.operators import Operator
from lmaps_fast.solvers.base import Level
from lmaps_fast.solvers.ddpm import DDPMSettings, DDPMSolver, MeasuredState, coefficients, of_coefficients


@dataclass(frozen=True)
class DDNMSettings(DDPMSettings):
    """Those of the paper: 100 steps; eta .85, the share of fresh noise."""

    steps: int = 100
    eta: float = 0.85


class DDNM(DDPMSolver):
    """x0 = D + l A^+ (y - A D), then as much noise as makes the noise of the next level together with what l A^+ brings
    of the measurement's, l sigma_y / s for a singular value s of A:

    l = 1, noise gamma, gamma^2 = sigma_next^2 - (sigma_y / s)^2, where sigma_next >= sigma_y / s;
    l = sqrt(1 - eta^2) sigma_next s / sigma_y, fresh noise eta sigma_next, elsewhere; sigma_next where A measures
    nothing. The paper's simplified form has s = 1, and below sigma_y no factor sqrt(1 - eta^2) and no fresh noise;
    the public code for a general A has both, without which strong blurs fail.
    """

    name = "ddnm"
    needs = ("spectrum",)
    Settings = DDNMSettings

    def columns(
        self, operator: Operator, settings: DDNMSettings, sigma: float, sigma_next: float, share: float
    ) -> dict:
        return {**super().columns(operator, settings, sigma, sigma_next, share), "eta": settings.eta}

    def start(self, problem: Problem, level: Level) -> MeasuredState:
        x = super().start(problem, level).x
        return MeasuredState(x, x, *coefficients(problem, level.sigma_y))

    def step(self, problem: Problem, state: MeasuredState, level: Level) -> MeasuredState:
        V, Vt = problem.A.from_eigenbasis, problem.A.to_eigenbasis
        x, _, y_bar, std, measured = state
        D = self.denoise(x, level)
        kept = (1 - level.eta**2).sqrt()
        kept_bar, next_bar, eta_bar = (of_coefficients(v, y_bar) for v in (kept, level.sigma_next, level.eta))
        unsure = next_bar < std
        share = (kept_bar * next_bar / std).where(unsure, 1)  # l
        x0 = D + V((share * (y_bar - Vt(D))).where(measured, 0))
        fresh = level.normal(x)
        eps = kept * (x - D) / level.sigma + level.eta * fresh
        eps_bar, gamma = Vt(eps), (next_bar**2 - std**2).clamp(min=0).sqrt()
        added = (eta_bar * next_bar * Vt(fresh)).where(unsure, gamma * eps_bar)
        x_next = x0 + level.sigma_next * eps + V((added - next_bar * eps_bar).where(measured, 0))
        return MeasuredState(x0 if level.last else x_next, x0, y_bar, std, measured)
