"""Local MAP Sampling (Zhang, Brekelmans, Ver Steeg, arXiv 2510.07343), Eq. 8b and 13."""

import torch
from torch import Tensor

from lmaps_fast.denoisers import Denoiser
from lmaps_fast.local_map import Problem
from lmaps_fast.operators import Operator
from lmaps_fast.presets import Preset
from lmaps_fast.renoise import Noise, renoise
from lmaps_fast.schedule import polynomial
from lmaps_fast.solvers.fused import FusedStep, fused_step


class LMAPS:
    """Per noise level: one network call, one local MAP, one renoising."""

    def __init__(self, operator: Operator, denoiser: Denoiser, preset: Preset, backend: str | None = None) -> None:
        self.operator, self.denoiser, self.preset, self.backend = operator, denoiser, preset, backend
        self.sigmas = polynomial(preset.steps, preset.sigma_max, preset.sigma_min)
        self.weights = [preset.weights(sigma) for sigma in self.sigmas]

    def start(self, y: Tensor) -> Tensor:
        guess = self.operator.first_guess(y) if self.preset.start == "measurement" else None
        grey = torch.zeros((), dtype=self.operator.dtype, device=y.device)
        return grey.expand(len(y), *self.operator.shape) if guess is None else guess

    def begin(self, y: Tensor) -> Problem | FusedStep:
        problem = Problem(self.operator, y, self.backend)
        return fused_step(self.denoiser, problem, (len(y), *self.operator.shape)) or problem

    def step(self, x: Tensor, index: int, data: Problem | FusedStep, noise: Noise) -> tuple[Tensor, Tensor]:
        sigma, sigma_next = self.sigmas[index : index + 2]
        if isinstance(data, FusedStep):
            return data(x, sigma, sigma_next, self.weights[index], self.preset.rho, noise)
        D = self.denoiser(x, sigma)
        x0 = data(D, self.weights[index])
        return renoise(x, x0, sigma, sigma_next, self.preset.rho, noise), x0
