"""Denoising Diffusion Restoration Models (Kawar et al., 2022), https://arxiv.org/abs/2201.11793, in the scale
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
class DDRMSettings(DDPMSettings):
    """Those of the paper: 20 steps; eta .85, the share of fresh noise; eta_b 1, that of the measurement where it is
    surer than x."""

    steps: int = 20
    eta: float = 0.85
    eta_b: float = 1.0


class DDRM(DDPMSolver):
    """Per noise level: one network call, and one Gaussian draw for each singular direction of A."""

    operator: Spectral
    settings: DDRMSettings

    def __init__(
        self, operator: Operator, denoiser: Denoiser, settings: DDRMSettings | None = None, backend: str | None = None
    ) -> None:
        super().__init__(spectral(operator, "ddrm"), denoiser, settings or DDRMSettings(), backend)

    def start(self, y: Tensor) -> Tensor:
        """y_bar where the measurement is surer than the first x, the first guess elsewhere."""
        guess, data = super().start(y), self.begin(y)
        difference = data.y_bar - self.operator.to_eigenbasis(guess)
        return guess + self.operator.from_eigenbasis(difference.where(data.surer(self.sigmas[0]), 0))

    def begin(self, y: Tensor) -> Coefficients:
        return coefficients(self.operator, y, self.sigma_y)

    def first(self, x: Tensor, sigma: float, data: Coefficients) -> Tensor:
        """x_T: y_bar already has noise std, so that of x shrinks to sqrt(sigma^2 - std^2)."""
        shrink = (1 - (data.std / sigma) ** 2).clamp(min=0).sqrt() - 1
        change = shrink * (self.operator.to_eigenbasis(x) - data.y_bar)
        return x + self.operator.from_eigenbasis(change.where(data.surer(sigma), 0))

    def step(self, x: Tensor, index: int, data: Coefficients, noise: Noise) -> tuple[Tensor, Tensor]:
        sigma, sigma_next = self.sigmas[index : index + 2]
        eta, eta_b = self.settings.eta, self.settings.eta_b
        y_bar, std, measured = data
        if index == 0:
            x = self.first(x, sigma, data)
        D, eps = self.denoiser(x, sigma), noise()
        kept = sigma_next * math.sqrt(1 - eta**2)
        x_next = D + kept * (x - D) / sigma + eta * sigma_next * eps  # where A measures nothing
        x0_bar, eps_bar, x_bar = (self.operator.to_eigenbasis(v) for v in (D, eps, x_next))
        unsure = x0_bar + kept * (y_bar - x0_bar) / std + eta * sigma_next * eps_bar
        sure = (1 - eta_b) * x0_bar + eta_b * y_bar
        sure = sure + (sigma_next**2 - (eta_b * std) ** 2).clamp(min=0).sqrt() * eps_bar
        change = sure.where(sigma_next >= std, unsure) - x_bar
        x_next = x_next + self.operator.from_eigenbasis(change.where(measured, 0))
        return x_next, D if sigma_next else x_next
