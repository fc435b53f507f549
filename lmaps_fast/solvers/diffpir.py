"""Denoising Diffusion Models for Plug-and-Play Image Restoration, DiffPIR (Zhu et al., 2023),
https://arxiv.org/abs/2305.08995, in the scale x = x0 + sigma eps."""

import math
from dataclasses import dataclass

from torch import Tensor

from lmaps_fast.denoisers import Denoiser
from lmaps_fast.errors import InputError
from lmaps_fast.operators import Operator
from lmaps_fast.operators.structures import Krylov, Spectral
from lmaps_fast.renoise import Noise, renoise
from lmaps_fast.solvers.ddpm import LEAST_NOISE, LINEAR_TASKS, DDPMSettings, DDPMSolver


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


def proximal(operator: Operator) -> Spectral | Krylov:
    """The operator, if it is linear. Raises InputError otherwise."""
    if not isinstance(operator, Spectral | Krylov):
        raise InputError(f"diffpir needs a linear A, unlike {operator.name}: use {LINEAR_TASKS}")
    return operator


class DiffPIR(DDPMSolver):
    """Per noise level: one network call, one proximal map of the data term, one renoising."""

    operator: Spectral | Krylov
    settings: DiffPIRSettings
    quadratic = True

    def __init__(
        self,
        operator: Operator,
        denoiser: Denoiser,
        settings: DiffPIRSettings | None = None,
        backend: str | None = None,
    ) -> None:
        settings = settings or PUBLISHED.get(operator.name, DiffPIRSettings())
        super().__init__(proximal(operator), denoiser, settings, backend)
        self.sigma_y = max(self.sigma_y, LEAST_NOISE)

    def begin(self, y: Tensor) -> Tensor:
        return self.operator.precompute(y)

    def step(self, x: Tensor, index: int, data: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        sigma, sigma_next = self.sigmas[index : index + 2]
        rho = self.settings.lam * self.sigma_y**2 / sigma**2
        # argmin_x |y - A x|^2 + rho |x - D|^2
        x0 = self.operator.prox(self.denoiser(x, sigma), data, 1 / rho)
        return renoise(x, x0, sigma, sigma_next, math.sqrt(self.settings.zeta), noise), x0
