"""SITCOM (Alkhouri et al., ICML 2025, https://arxiv.org/abs/2410.04479): step-wise triple-consistent sampling."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lmaps_fast import dispatch
from lmaps_fast.errors import InputError
from lmaps_fast.renoise import Noise
from lmaps_fast.solvers.ddpm import DDPMSettings, DDPMSolver, with_vjp

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # of Adam
MARGIN = 0.001  # added to sigma_y in the stopping rule


@dataclass(frozen=True)
class SITCOMSettings(DDPMSettings):
    """Those of the public code: 20 steps; inner_steps K: network calls at each noise level, all but the last with their
    gradient; lr of Adam; project: end every noise level by x0 <- clamp(x0 - A^T (A x0 - y)), as for box inpainting.
    sigma_y tells where the inner steps stop."""

    steps: int = 20
    inner_steps: int = 30
    lr: float = 0.02
    project: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.inner_steps < 1:
            raise InputError(f"inner_steps must be at least 1, not {self.inner_steps}")
        if not 0 < self.lr < math.inf:
            raise InputError(f"lr must be finite and positive, not {self.lr}")


class SITCOM(DDPMSolver):
    """Per noise level: Adam on the network's input z until A(x0(z)) fits y, then x_{t-1} = a x0 + s eps.

    Each image stops on its own, so a batch equals its single images. The gradient of the misfit is the operator's own,
    so that surrogate Jacobians (JPEG, quantization, HDR) count here too.
    """

    settings: SITCOMSettings

    def step(self, x: Tensor, index: int, y: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        sigma, sigma_next = self.sigmas[index : index + 2]
        with dispatch.use_backend(self.backend):
            x0 = self.fit(x, sigma, y)
            if self.settings.project:
                x0 = (x0 - self.operator.gradient(x0, y)).clamp(-1, 1)
            return (noise.add(x0, sigma_next) if sigma_next else x0), x0

    def fit(self, x: Tensor, sigma: float, y: Tensor) -> Tensor:
        """x0(z) = clamp(D(z / a, sigma), -1, 1) after at most K - 1 steps of Adam on |A(x0(z)) - y|^2 from z = a x.

        a = 1 / sqrt(1 + sigma^2): z is in the scale of DDPM, on which Adam's steps depend. An image whose loss is less
        than (sigma_y + .001)^2 times the number of its measured values stays as it is.
        """
        a = (1 + sigma**2) ** -0.5
        tolerance = (self.sigma_y + MARGIN) ** 2 * y[0].numel()
        z = a * x
        m, v = torch.zeros_like(z), torch.zeros_like(z)
        for k in range(1, self.settings.inner_steps):
            D, vjp = with_vjp(self.denoiser, z / a, sigma)
            x0 = D.clamp(-1, 1)
            loss = (self.operator(x0) - y).abs().square().flatten(1).sum(1)
            unfit = (loss >= tolerance).view(-1, 1, 1, 1)
            if not unfit.any():
                return x0
            g = vjp(2 / a * self.operator.gradient(x0, y) * (x0 == D))  # the clamp stops it elsewhere
            m, v = torch.lerp(m, g, 1 - BETA1), torch.lerp(v, g.square(), 1 - BETA2)
            mhat, vhat = m / (1 - BETA1**k), v / (1 - BETA2**k)
            z = torch.where(unfit, z - self.settings.lr * mhat / (vhat.sqrt() + EPSILON), z)
        # The public code takes a K-th step too, which changes nothing that is used.
        return self.denoiser(z / a, sigma).clamp(-1, 1)
