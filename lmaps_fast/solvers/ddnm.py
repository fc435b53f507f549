"""Denoising Diffusion Null-Space Model, DDNM+ (Wang, Yu, Zhang, 2023), https://arxiv.org/abs/2212.00490, in the scale
x = x0 + sigma eps."""

import math
from dataclasses import dataclass

from torch import Tensor

from lmaps_fast.denoisers import Denoiser
from lmaps_fast.operators import Operator
from lmaps_fast.operators.structures import Spectral
from lmaps_fast.renoise import Noise
from lmaps_fast.solvers.ddpm import Coefficients, DDPMSettings, DDPMSolver, coefficients, spectral


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

    operator: Spectral
    settings: DDNMSettings

    def __init__(
        self, operator: Operator, denoiser: Denoiser, settings: DDNMSettings | None = None, backend: str | None = None
    ) -> None:
        super().__init__(spectral(operator, "ddnm"), denoiser, settings or DDNMSettings(), backend)

    def begin(self, y: Tensor) -> Coefficients:
        return coefficients(self.operator, y, self.sigma_y)

    def step(self, x: Tensor, index: int, data: Coefficients, noise: Noise) -> tuple[Tensor, Tensor]:
        sigma, sigma_next = self.sigmas[index : index + 2]
        V, Vt, eta = self.operator.from_eigenbasis, self.operator.to_eigenbasis, self.settings.eta
        y_bar, std, measured = data
        D = self.denoiser(x, sigma)
        kept, unsure = math.sqrt(1 - eta**2), sigma_next < std
        share = (kept * sigma_next / std).where(unsure, 1)  # l
        x0 = D + V((share * (y_bar - Vt(D))).where(measured, 0))
        if sigma_next == 0:
            return x0, x0
        fresh = noise()
        eps = kept * (x - D) / sigma + eta * fresh
        eps_bar, gamma = Vt(eps), (sigma_next**2 - std**2).clamp(min=0).sqrt()
        added = (eta * sigma_next * Vt(fresh)).where(unsure, gamma * eps_bar)
        return x0 + sigma_next * eps + V((added - sigma_next * eps_bar).where(measured, 0)), x0
