"""Denoising Diffusion Models for Plug-and-Play Image Restoration, DiffPIR (Zhu et al., 2023),
https://arxiv.org/abs/2305.08995, in the scale x = x0 + sigma eps."""

import math
from dataclasses import dataclass, replace

from lmaps_fast.errors import InputError
from lmaps_fast.local_map import Problem
from lmaps_fast.operators import Operator
from lmaps_fast.solvers.base import Level, State
from lmaps_fast.solvers.ddpm import LEAST_NOISE, DDPMSettings, DDPMSolver
from lmaps_fast.solvers.renoise import renoise, shares


@dataclass(frozen=True)
class DiffPIRSettings(DDPMSettings):
    """Those of the paper: 100 steps, closer where noise is high; lam > 0 weighs the prior, zeta in [0, 1] is the share
    of fresh noise (in variance). `PUBLISHED` has both for each task; of other tasks these are for deblurring."""

    steps: int = 100
    lam: float = 7.0
    zeta: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.lam < math.inf:
            raise InputError(f"lam must be finite and positive, not {self.lam}")


PUBLISHED = {
    "gaussian_deblurring": DiffPIRSettings(lam=7, zeta=0.3),
    "motion_deblurring": DiffPIRSettings(lam=7, zeta=0.3),
    "super_resolution": DiffPIRSettings(lam=7, zeta=0.25),  # the paper has lam from 1 to 15
    "inpainting_box": DiffPIRSettings(lam=1, zeta=1.0),
    "inpainting_random": DiffPIRSettings(lam=1, zeta=1.0),
}


class DiffPIR(DDPMSolver):
    """Per noise level: one network call, one proximal map of the data term, one renoising."""

    name = "diffpir"
    needs = ("prox",)
    Settings = DiffPIRSettings
    quadratic = True
    least_noise = LEAST_NOISE

    @classmethod
    def published(cls, task: str, noise: float | None = None) -> DiffPIRSettings:
        return replace(PUBLISHED.get(task, DiffPIRSettings()), sigma_y=noise)

    def columns(
        self, operator: Operator, settings: DiffPIRSettings, sigma: float, sigma_next: float, share: float
    ) -> dict:
        keep, noise = shares(sigma, sigma_next, math.sqrt(settings.zeta))
        of_level = {"lam": settings.lam, "keep": keep, "noise": noise}
        return {**super().columns(operator, settings, sigma, sigma_next, share), **of_level}

    def step(self, problem: Problem, state: State, level: Level) -> State:
        rho = level.lam * level.sigma_y**2 / level.sigma**2
        # argmin_x |y - A x|^2 + rho |x - D|^2
        x0 = problem.prox(self.denoise(state.x, level), 1 / rho)
        return State(renoise(state.x, x0, level), x0)
