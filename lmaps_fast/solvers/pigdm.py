"""Pseudoinverse-Guided Diffusion Models, PiGDM (Song et al., 2023), https://openreview.net/forum?id=9_gsMA8MRKQ, in the
scale x = x0 + sigma eps."""

from dataclasses import dataclass

from torch import Tensor

from lmaps_fast.local_map import Problem
from lmaps_fast.operators import Operator
from lmaps_fast.solvers.base import Level, State
from lmaps_fast.solvers.ddpm import LEAST_NOISE, DDPMSettings, DDPMSolver, ancestral_shares
from lmaps_fast.solvers.renoise import renoise


@dataclass(frozen=True)
class PiGDMSettings(DDPMSettings):
    """Those of the paper: 100 steps, eta 1 (as in DDIM: 0 draws no noise, 1 all of DDPM's)."""

    steps: int = 100
    eta: float = 1.0


class PiGDM(DDPMSolver):
    """Per noise level: one network call with its gradient, which takes the guidance

    A^T (A A^T + sigma_y^2 / r^2 I)^{-1} (y - A D),  r^2 = sigma^2 / (1 + sigma^2),

    back through the network: x_next = DDIM(x, D) + (dD/dx)^T guidance. For JPEG and quantization the guidance is
    A^+ y - A^+ A(D) with A^+ = I, whatever sigma_y.
    """

    name = "pigdm"
    needs = ("prox", "pinv")
    differentiates = True
    recordable = False
    Settings = PiGDMSettings
    least_noise = LEAST_NOISE

    def columns(
        self, operator: Operator, settings: PiGDMSettings, sigma: float, sigma_next: float, share: float
    ) -> dict:
        of_level = ancestral_shares(sigma, sigma_next, settings.eta)
        return {**super().columns(operator, settings, sigma, sigma_next, share), **of_level}

    def guidance(self, problem: Problem, D: Tensor, level: Level) -> Tensor:
        if "prox" not in problem.operator.can:
            return problem.A.pinv(problem.precomputed) - problem.A.pinv(problem.A.forward(D))
        r2 = level.sigma**2 / (1 + level.sigma**2)
        return problem.prox(D, r2 / level.sigma_y**2) - D

    def step(self, problem: Problem, state: State, level: Level) -> State:
        D, vjp = self.with_vjp(state.x, level)
        g = vjp(self.guidance(problem, D, level))
        return State(renoise(state.x, D, level) + g, D + g)
